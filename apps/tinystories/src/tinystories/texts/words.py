"""Vocabulary of the sample stories: characters, places, toys, treats, weather.

A row of a table holds facts that belong together, so that a story stays consistent; a field may mention the hero.
"""

from __future__ import annotations

from trainer.experiments.grammar import table

GIRLS = (
    "Ada Alma Anna Bella Cora Daisy Della Edith Ella Emma Etta Fern Flora Freya Greta Hazel Holly Ida Ivy Jenny Josie "
    "Juna Kira Lena Lola Lucy Mabel Maya Mia Milly Mina Nell Nina Nora Olive Pia Polly Rosie Ruby Sadie Sally Tess "
    "Tilly Uma Vera Willa Yara Zoe"
).split()
BOYS = (
    "Adam Alfie Arlo Ben Billy Caleb Carlo Danny David Eddie Eli Emil Felix Finn Fred George Gus Henry Hugo Ivan Jack "
    "Jacob Joe Jonah Kai Kofi Leo Liam Luca Max Milo Nico Noah Oliver Omar Oscar Otto Paul Peter Ravi Robin Sam Simon "
    "Teddy Theo Tom Toby Victor Will Zach"
).split()
ANIMAL_NAMES = (
    "Acorn Amber Bean Berry Biscuit Bobbin Breeze Bubbles Button Clover Cocoa Comet Cookie Dot Echo Fuzzy Ginger Honey "
    "Jasper Maple Marble Misty Mocha Muffin Nutmeg Oaky Patch Peanut Pebble Pepper Pickle Pip Plum Poppy Pudding Rusty "
    "Sandy Scout Smudge Snowy Sorrel Spark Speckle Sunny Tansy Thistle Tumble Twig Velvet Waffle Willow Ziggy"
).split()

ELDERS = {
    "she": ("Mom", "Grandma", "Aunt Clara", "Aunt June", "Nana", "Aunt Bea", "Granny Ruth", "Mama"),
    "he": ("Dad", "Grandpa", "Uncle Ned", "Uncle Martin", "Papa", "Uncle Frank", "Grandpa Joseph", "Uncle Ollie"),
}

SPECIES = table(
    "name home look",
    """
    rabbit; a cozy burrow; long gray ears
    mouse; a hole behind the pantry; round pink ears
    hedgehog; a pile of dry leaves; short brown spikes
    squirrel; a hollow oak; a bushy tail
    fox; a den under the roots; bright orange fur
    bear; a mossy cave; big soft paws
    duck; a nest among the reeds; yellow feathers
    frog; a lily pond; shiny green legs
    kitten; a basket by the stove; white whiskers
    puppy; a wooden kennel; floppy ears
    lamb; a stone barn; curly wool
    piglet; a muddy pen; a tiny pink nose
    pony; a stable full of straw; a silky mane
    goat; a shed on the hillside; two small horns
    turtle; a log by the creek; a hard, round shell
    otter; a nest beside the river; sleek wet fur
    badger; a tunnel beneath the ferns; black and white stripes
    penguin; a hut of ice; shiny flippers
    koala; a tall gum tree; fuzzy round cheeks
    monkey; a treehouse of vines; quick fingers
    elephant; a wide valley; a wrinkled trunk
    lion cub; a den of warm sand; big golden eyes
    dragon; a castle tower; purple scales
    robot; a garage full of tools; two blinking lights
    """,
)

TRAITS = table(
    "name reaction praise",
    """
    patient; took a slow breath and counted to ten; You waited so calmly
    brave; stood up tall although {hero.their} knees trembled; You were as brave as a knight
    curious; looked at everything closely and asked why; You ask such good questions
    gentle; spoke in a quiet voice and did not shout; You have a gentle heart
    clever; sat down on a stone and thought hard; What a clever idea you had
    stubborn; stamped one foot and refused to give up; You simply never give up
    cheerful; hummed a merry tune to keep {hero.their} spirits up; You smile even on hard days
    shy; blushed and hid behind {hero.their} hands for a moment; You were shy, but you spoke up
    careful; tiptoed along and checked each step twice; I can always trust you to be careful
    quick; jumped up at once and dashed to have a look; You are as quick as lightning
    dreamy; gazed up at the clouds and imagined an answer; Your dreams are full of good ideas
    honest; said exactly what had happened; You always speak the truth
    helpful; rolled up {hero.their} sleeves right away; You are such a good helper
    silly; giggled first, because giggling always helped; You make everyone laugh
    polite; said, "Excuse me, please," before anything else; What lovely manners you have
    playful; turned the whole problem into a game; With you, even trouble is fun
    thoughtful; wondered how everyone else was feeling; You always think of others
    hopeful; crossed {hero.their} fingers and made a wish; You never stop hoping
    proud; lifted {hero.their} chin and did not want to cry; You can be proud of yourself
    sleepy; yawned, stretched, and rubbed {hero.their} eyes; You did all that before your nap
    noisy; yelled so loudly that the birds flew up; Your big voice was useful today
    neat; put everything in a straight row to see better; You are so tidy and sharp
    generous; offered to give away {hero.their} own things; You are kind and generous
    bold; marched ahead without looking back; Nothing ever scares you
    """,
)

WEATHER = table(
    "name sign months",
    """
    sunny; The sky was as blue as a robin's egg; [March|April|May|June|July|August|September|October]
    windy; Leaves danced and twirled along the path; [September|October|November]
    cloudy; Puffy clouds drifted over the rooftops; [March|April|May|June|July|August|September|October]
    misty; A thin white mist lay upon the fields; [September|October|November]
    frosty; Ice sparkled on every twig; [November|December|January|February]
    warm; A soft breeze smelled of hay; [June|July|August]
    rainy; Drops tapped against the window; [March|April|May|June|July|August|September|October]
    chilly; Everyone wore a scarf and mittens; [November|December|January|February]
    golden; The sun painted the hills yellow; [September|October|November]
    snowy; Fresh snow covered the fences like icing; [November|December|January|February]
    bright; Butterflies fluttered from bloom to bloom; [April|May|June]
    quiet; Only a cuckoo called from far away; [April|May|June]
    fine; The grass was still wet with dew; [April|May|June]
    hot; Even the lizards looked for shade; [June|July|August]
    gray; The chimneys puffed thick smoke; [November|December|January|February]
    breezy; The laundry flapped on the line; [March|April|May|June|July|August|September|October]
    lovely; Cherry blossoms fell like pink snow; [April|May]
    cool; Crickets chirped in the long grass; [September|October|November]
    clear; You could see all the way to the mountains; [March|April|May|June|July|August|September|October]
    mild; Fat bumblebees bounced against the glass; [April|May|June]
    damp; Snails crawled across the pavement; [September|October|November]
    stormy; Thunder had rumbled until dawn; [September|October|November]
    hazy; The lake shimmered like silver; [June|July|August]
    perfect; Swallows swooped above the steeple; [June|July|August]
    """,
)

OUTINGS = table(  # places worth a walk
    "name at spot did searched",
    """
    the orchard; in the orchard; beneath the crooked pear tree; climbed on the low branches; peeked into every apple crate
    the beach; on the beach; beside a tangle of seaweed; built a castle with a moat; sifted through the warm sand
    the park; in the park; under the wooden bench; fed crumbs to the pigeons; walked around the fountain
    the market; at the market; next to the melon stall; sniffed the ripe peaches; bent down to see below the carts
    the garden; in the garden; among the sunflower stems; pulled weeds from the carrot bed; parted the tall bean plants
    the meadow; in the meadow; in a patch of daisies; rolled down the slope; combed through the grass
    the pond; at the pond; upon a flat lily pad; counted the tadpoles; waded along the shore
    the forest; in the forest; at the foot of a giant pine; collected shiny chestnuts; turned over the fallen leaves
    the harbor; at the harbor; inside a coil of rope; waved at the fishing boats; asked each sailor on the pier
    the castle ruins; at the castle ruins; in a crack of the wall; pretended to be a guard; climbed the broken stairs
    the zoo; at the zoo; near the giraffe gate; laughed at the parrots; asked the keeper with the bucket
    the hilltop; on the hilltop; beside a ring of stones; watched hawks circle; looked around each boulder
    the bridge; on the bridge; in a corner of the railing; dropped sticks into the stream; leaned over both sides
    the farm; on the farm; next to the rusty tractor; petted the calves; searched the henhouse
    the cave; in the cave; upon a dry ledge; shouted to hear the echo; felt along the cold walls
    the river bank; on the river bank; between two smooth rocks; skipped pebbles over the water; followed the current
    the vineyard; in the vineyard; under a bunch of grapes; ran races between the rows; knelt beside every vine
    """,
)

PLACES = OUTINGS + table(
    "name at spot did searched",
    """
    the barn; in the barn; behind a bale of straw; slid down the hay; lifted the heavy sacks
    the library; in the library; between two thick atlases; read a tale about pirates; checked all the shelves
    the attic; in the attic; inside a dusty trunk; tried on funny old hats; crawled among the cobwebs
    the bakery; in the bakery; beside the flour bin; watched the loaves rise; swept the floor with a broom
    the playground; at the playground; at the bottom of the slide; swung as high as the treetops; dug in the sandbox
    the museum; in the museum; by the dinosaur bones; stared at a golden mask; looked in every hall
    the kitchen; in the kitchen; behind the cookie jar; helped to stir the batter; opened all the cupboards
    the train station; at the train station; under the big clock; listened to the whistles; searched both platforms
    the school; at school; inside the chalk box; drew a map of the world; emptied every desk
    the greenhouse; in the greenhouse; among the flower pots; smelled the orchids; moved the watering cans
    the toy shop; in the toy shop; on the lowest shelf; admired the model railway; looked behind the counter
    the bus stop; at the bus stop; below the timetable; waited for the green bus; looked up and down the street
    the tent; in the tent; at the end of the sleeping bag; told spooky jokes; shook out the blankets
    the laundry room; in the laundry room; inside a striped sock; folded the towels; emptied the hamper
    the theater; in the theater; beneath a velvet seat; clapped for the dancers; crept along the rows
    the workshop; in the workshop; among the wood shavings; sanded a little boat; sorted the nails and screws
    the swimming pool; at the swimming pool; under a folded towel; splashed in the shallow end; asked the lifeguard
    the post office; in the post office; beside the stamp machine; mailed a letter to a cousin; peeped into the parcels
    the bedroom; in the bedroom; beneath a soft pillow; jumped on the mattress; pulled out all the drawers
    """,
)

TOYS = table(
    "name look use",
    """
    kite; red paper; fly it above the rooftops
    drum; shiny tin; beat it like a soldier
    ball; striped rubber; bounce it against the wall
    doll; smiling rag; rock it to sleep
    puppet; painted wooden; make it dance on its strings
    whistle; silver; blow it to call {hero.their} friends
    top; spinning; watch it whirl across the floor
    robot; clanking toy; wind it up with a key
    boat; white sailing; float it in the bathtub
    truck; yellow dump; fill it with gravel
    train; long wooden; push it through tunnels of books
    teddy bear; fluffy; hug it all night
    marble; blue glass; roll it between {hero.their} fingers
    yo-yo; bright green; swing it up and down
    flute; slim bamboo; play songs on it at sunset
    crown; sparkly paper; wear it like a queen or a king
    cape; purple satin; swish it like a wizard
    telescope; brass; look at the moon through it
    compass; tiny; find the north with it
    book; thick picture; read it beside the fire
    map; crinkled treasure; hunt for gold with it
    lantern; round paper; carry it after dark
    bell; copper; ring it at breakfast
    bucket; orange plastic; carry seashells in it
    shovel; little metal; dig deep holes with it
    hat; straw; wear it in the sun
    scarf; woolly checked; wrap it around {hero.their} neck
    backpack; green canvas; carry snacks in it
    umbrella; spotted; twirl it in the rain
    paintbrush; fine; paint rainbows with it
    crayon; violet wax; draw castles with it
    puzzle; jigsaw; solve it on the carpet
    scooter; speedy; ride it around the block
    sled; sturdy; race it down the hill
    guitar; small brown; strum it on the porch
    trumpet; dented; wake the whole house with it
    music box; carved; listen to its tinkling tune
    magnet; strong; pick up pins with it
    necklace; beaded; wear it to parties
    coin; lucky gold; flip it in the air
    feather; long peacock; tickle {hero.their} friends with it
    seashell; pearly; hear the ocean in it
    bicycle; secondhand; pedal it along the lane
    balloon; giant pink; let it bob on its ribbon
    ring; plastic ruby; pretend it was magic
    camera; old black; take pictures of beetles with it
    flashlight; pocket; make shadows with it
    globe; painted; spin it and dream of travel
    rocket; cardboard; launch it toward the stars
    tambourine; jingling; shake it at parades
    """,
)

TREATS = (
    "a warm cinnamon bun|a bowl of strawberry ice cream|a slice of cherry pie|a plate of ginger cookies|"
    "a jug of cold lemonade|a pot of vegetable soup|a stack of pancakes with syrup|a cup of hot cocoa|"
    "a loaf of bread with butter|a basket of blueberries|an apple tart|a bag of popcorn|a tray of muffins|"
    "a cheese sandwich|a dish of vanilla pudding|a handful of raisins|a honey cake|a bunch of sweet grapes|"
    "a juicy watermelon|a tin of toffee|a ripe mango|a mug of warm milk|an oat biscuit|a crunchy carrot salad|"
    "a big bowl of noodles|a pizza with olives|a jar of plum jam|a fluffy omelet|a coconut|a chocolate cupcake"
).split("|")

GAMES = (
    "hopscotch|hide-and-seek|tag|leapfrog|checkers|dominoes|pirates|dress-up|catch|jump rope|follow the leader|"
    "knights and dragons|tug-of-war|musical chairs|cards|soccer|blindman's buff|detectives|shopkeepers|astronauts"
).split("|")

NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()  # NUMBERS[i] spells i + 2
ORDINALS = "first second third fourth fifth sixth seventh".split()  # ORDINALS[i] belongs to i + 1

LANDMARKS = (
    "the red gate|the old windmill|the stone well|the crooked lamp post|the tall poplar|the blue mailbox|"
    "the wooden signpost|the duck pond|the broken wagon|the church tower|the rose hedge|the humming beehives|"
    "the sleepy donkey|the iron statue|the row of birches|the little chapel|the narrow stile|the water mill|"
    "the giant mushroom|the hollow stump|the clay oven|the scarecrow|the fox hole|the mossy rock|the bramble bush|"
    "the rabbit fence|the tiny waterfall|the candy store|the fire station|the railway crossing"
).split("|")

GOODS = (  # plural, to be counted and given away
    "strawberries|cookies|marbles|stickers|candles|peanuts|pears|pretzels|chestnuts|lollipops|tangerines|shells|ribbons|"
    "postcards|dumplings|cherries|buttons|figs|waffles|beads|tulips|donuts|apricots|badges|crackers|kites|whistles|acorns"
).split("|")

VENUES = (
    "down by the river|on the village green|behind the school|in the town square|near the old bridge|at the lake".split(
        "|"
    )
)
ERRANDS = "the dentist|the market|the bank|the town hall|the station|the mill|the pharmacy|the barber|the tailor".split(
    "|"
)
