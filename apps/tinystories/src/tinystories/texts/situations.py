"""Events of the sample stories: each row ties a problem to its solution."""

from __future__ import annotations

from trainer.experiments.grammar import table

RESCUES = table(  # the helper has the ability that the obstacle needs
    "helper ability trouble attempt failed solved lesson",
    """
    mole; dig faster than anyone; fell down a narrow hole; reached into the hole with one arm; the hole was much too deep; dug a tunnel from the side and pushed it out; digging
    woodpecker; peck through solid wood; slipped inside a hollow log; knocked on the log with a stone; the wood was too thick; pecked a round opening in the bark; pecking
    giraffe; reach the highest branches; got caught in the top of a tree; jumped up and down below the tree; the branch was too high; stretched a long neck and lifted it down; reaching up
    beaver; gnaw through thick trunks; was trapped under a fallen trunk; pulled with both hands; the trunk was too heavy; gnawed the trunk into three short pieces; gnawing
    dolphin; swim through the wildest waves; drifted out to sea; threw a rope after it; the rope was too short; dived through the waves and carried it back; swimming
    spider; spin threads as strong as rope; dropped to the bottom of a well; lowered a bucket; the bucket always came up empty; spun a sticky thread and fished it up; spinning
    owl; see in the darkest night; vanished in a pitch-dark cellar; lit a match; the draft blew it out; spotted it at once with two huge eyes; seeing in the dark
    gorilla; lift the heaviest rocks; rolled behind a giant boulder; pushed against the boulder; it did not move an inch; lifted the boulder like a pillow; lifting
    ant; squeeze through the tiniest cracks; slid into a crack in the floor; poked a spoon into the crack; the spoon only pushed it deeper; marched in with nine sisters and pushed it up; squeezing into cracks
    eagle; fly over the steepest cliffs; landed on a rocky cliff; tried to climb the cliff; the stones were too slippery; flew to the top and brought it down; flying
    bloodhound; follow any smell; was carried off by a naughty raccoon; followed the footprints; they ended at the creek; sniffed the air and led the way to the raccoon's den; sniffing
    octopus; do eight things at once; got tangled in a fishing net; tugged at one knot; another knot only grew tighter; untied all eight knots at the same time; untying knots
    kangaroo; leap over any fence; flew across a tall fence; peeped through a gap; the gate was locked; hopped over the fence and back in one bound; leaping
    camel; walk through the desert without a drink; was left behind in the hot sand; walked a few steps; the sand burned like fire; trotted calmly through the heat and fetched it; walking in the heat
    seal; slide over the thinnest ice; skidded onto a frozen lake; put one foot on the lake; the ice began to creak; slid out on a smooth belly and nudged it home; sliding
    parrot; imitate every voice; was taken by a grumpy goose; begged the goose to give it back; the goose only hissed; barked like a big dog until the goose ran away; copying voices
    """,
)

PROMISES = table(
    "task kept temptation because result",
    """
    water the tomato plants; watered the tomato plants; a puppet show; plants get thirsty too; the limp leaves stood up again
    feed the goldfish; fed the goldfish; a ride on the merry-go-round; the goldfish cannot open the can; the goldfish blew a happy bubble
    close the gate; closed the gate; a parade with elephants; the sheep could wander off; every sheep was safe in the pasture
    return the borrowed ladder; returned the borrowed ladder; a cartoon about mice; the painter needs it tonight; the painter shook hands and smiled
    sweep the front steps; swept the front steps; a snowball fight; visitors might slip; not a single visitor slipped
    visit the lonely neighbor; visited the lonely neighbor; a trip to the circus; nobody else would knock; the neighbor wiped away a tear of joy
    bring in the laundry; brought in the laundry; a game of marbles; rain was on its way; the shirts stayed dry
    collect the eggs; collected the eggs; a picnic by the lake; the breakfast table is waiting; there were omelets for everybody
    light the candle at dusk; lit the candle at dusk; a bonfire on the beach; the fishermen look for it; the fishermen found their way home
    brush the old horse; brushed the old horse; a new swing set; the coat is full of burrs; the horse neighed softly
    tidy the bookshelf; tidied the bookshelf; a magic show; the teacher is coming; the teacher found a long-lost poem
    carry wood to the stove; carried wood to the stove; an afternoon of sledding; the night will be bitter cold; the whole room was snug and warm
    rock the baby; rocked the baby; a visit from the clown; the baby cries when left alone; the baby fell fast asleep
    deliver the medicine; delivered the medicine; a boat race; the shepherd has a terrible cough; the shepherd slept without coughing
    guard the pie; guarded the pie; a chase after butterflies; the crows are hungry; the crows flew off without a crumb
    practice the piano; practiced the piano; a spinning carousel; the concert is near; the melody flowed like honey
    write a letter to the sailor; wrote a letter to the sailor; a kite contest; the sea is a lonely place; the sailor sent back a starfish
    mend the bird house; mended the bird house; a bag of fireworks; the sparrows need a nest; five eggs lay in it by spring
    """,
)

FEARS = table(
    "name sign imagined truth comfort",
    """
    the dark; a long shadow moved across the ceiling; a monster with claws; the curtain waving by the open window; a small night-light
    thunder; a mighty boom shook the house; a giant stamping on the roof; two clouds bumping together; a song about raindrops
    deep water; something brushed against one leg; a hungry shark; a ribbon of seaweed; a pair of water wings
    strange noises; a scratching came from the wall; a sneaky burglar; a family of mice building a nest; a cup of chamomile tea
    the basement; a red light glowed in the corner; a dragon's eye; the button of the old heater; a flashlight on a string
    loud dogs; a deep bark came around the corner; a wolf with sharp fangs; a lonely puppy tied to a post; a dog biscuit to share
    the attic; a white figure swayed in the gloom; a howling ghost; a wedding dress on a hanger; an oil lamp
    the forest at night; two yellow eyes blinked from a branch; a wicked witch; a baby owl that could not sleep; a walking stick
    spiders; a web trembled above the bed; a poisonous beast; a shy spider catching mosquitoes; a magnifying glass
    masks; a green face grinned at the door; a goblin; the mailman dressed for the carnival; a silly mask to wear
    the wind; a moan rose from the chimney; a sad phantom; air blowing over the bricks like over a bottle; a pinwheel
    the big slide; the ladder seemed to touch the clouds; falling into space; a smooth ride and a heap of soft sand; a hand to hold
    the doctor; a metal tool gleamed on the tray; a horrible sting; a stick to look at the throat; a colorful bandage
    the barber; the scissors snapped like a beak; losing an ear; a gentle snip that did not hurt; a mirror to watch in
    bees; a buzzing circled closer and closer; an angry swarm; one bee on the way to the clover; a quiet minute of standing still
    the swamp; bubbles rose from the brown mud; a slimy creature; a toad taking a bath; a pair of rubber boots
    """,
)

BREAKAGES = table(
    "thing play how fix tool",
    """
    blue vase; kicked a football in the hallway; hit the shelf with a bang; stick the pieces together; strong glue
    window; threw snowballs at the house; cracked with a crash; put in a new pane; putty and a ruler
    teapot; danced with a tray; slid to the floor and lost its spout; join the spout to the pot; a dab of cement
    chair; used the furniture as a ship; tipped over and lost a leg; screw the leg back on; a screwdriver
    picture frame; practiced cartwheels; dropped from its nail; nail the corners; a small hammer
    reading lamp; swung a jump rope; fell over with a clatter; twist in a new bulb; a fresh bulb
    curtain; pretended to be trapeze artists; tore from top to bottom; sew the tear; a needle and thread
    wooden bowl; played the drums on the dishes; split down the middle; clamp the halves until they held; wood glue
    garden fence; rode a wheelbarrow down the hill; lost two boards; nail on new boards; a saw and a dozen nails
    flower pot; juggled three onions; burst into pieces; plant the geranium in a bigger pot; a scoop of soil
    clock; climbed the cabinet; stopped ticking; set the wheels straight; tweezers
    pillow; had a wild pillow fight; ripped and let out a storm of feathers; stitch the seam; strong cotton thread
    pair of glasses; tried to act like professors; bent like a pretzel; bend the wires back; a pair of pliers
    birdbath; wrestled on the lawn; cracked along the rim; seal the crack; waterproof plaster
    """,
)

GIFTS = table(
    "event gift first second last where use",
    """
    birthday; a carrot cake; flour; carrots; eggs; in the henhouse; ate every crumb
    birthday; a patchwork quilt; needles; thread; soft cloth; in the rag box; slept under it that very night
    name day; a bird feeder; a plank; some nails; seeds; inside the sunflowers; hung it outside the window
    farewell party; a photo album; paper; paste; pictures; in the bottom drawer; turned each page twice
    garden party; a flower wreath; roses; ribbons; ivy; on the garden wall; wore it all day long
    anniversary; a pot of pumpkin soup; onions; cream; a pumpkin; behind the compost heap; asked for a second helping
    homecoming party; a string of lanterns; wire; candles; colored paper; under the staircase; lit it every evening
    birthday; a wool sweater; buttons; knitting needles; yarn; in the cat's basket; put it on at once
    harvest feast; a fruit salad; apples; pears; plums; at the end of the lane; shared it with the whole table
    birthday; a wooden stool; boards; a hammer; four legs; in the lumber shed; sat down on it and sighed happily
    welcome party; a paper dragon; bamboo; scissors; silk; in the costume chest; carried it through the street
    birthday; a model ship; cork; toothpicks; a sail; among the old handkerchiefs; set it upon the mantel
    get-well party; a jar of chicken broth; celery; parsley; salt; in the pepper cupboard; felt better by evening
    birthday; a rag puppet; buttons; stuffing; a sock; behind the dryer; gave it a funny voice
    """,
)

SKILLS = table(
    "name infinitive first_fail second_fail advice success praise where",
    """
    bike riding; ride a bike; wobbled and toppled into a bush; steered straight into a puddle; Look ahead and not at your feet; rolled all the way to the mailbox; rider; the lane behind the house
    swimming; swim; swallowed a mouthful of water; sank like a stone; Kick your legs like a frog; glided across the pool; swimmer; the lake
    whistling; whistle; blew nothing but air; made a sound like a leaky tire; Wet your lips and make them round; whistled a whole tune; whistler; the porch
    skating; skate; landed on {hero.their} bottom; crashed into a snowbank; Bend your knees a little; made a perfect circle; skater; the frozen pond
    juggling; juggle; dropped all the lemons; bumped {hero.their} nose with a lemon; Start with only two; kept three lemons in the air; juggler; the backyard
    drawing; draw a horse; drew something like a potato; made a horse with five legs; Begin with simple circles; drew a galloping horse; artist; the kitchen table
    knitting; knit a scarf; tangled the wool into a knot; lost half of the stitches; Count softly while you knit; finished a warm scarf; knitter; the armchair by the fire
    singing; sing the high note; squeaked like a rusty hinge; ran out of breath; Stand straight and breathe from your belly; sang the note as clear as a bell; singer; the music room
    tying laces; tie shoelaces; tied both shoes together; made a bow that fell apart; Make two bunny ears and cross them; tied a neat bow; expert; the front steps
    baking; bake bread; burned the crust black; forgot the yeast; Watch the dough and be patient; baked a golden loaf; baker; the bakery
    archery; hit the target; shot an arrow into the hedge; hit the apple barrel; Hold your breath before you let go; hit the very center; archer; the archery field
    climbing; climb the rope; slid down with red palms; dangled like a sausage; Pinch the rope with your feet; touched the ceiling; climber; the gym
    reading; read; mixed up the letters; skipped a whole line; Point at each word with your finger; read a page aloud; reader; the library
    rowing; row a boat; went around in circles; splashed everybody; Pull both oars together; crossed the lake; rower; the river
    chess; play chess; lost the queen at once; moved the knight like a bishop; Think of what comes next; won a match; player; the chess club
    skipping; skip rope; tripped over the rope; caught it with one ear; Jump when you hear it tap; skipped twenty times; skipper; the school yard
    painting; paint a sunset; spilled the water jar; mixed all colors into brown; Let each color dry first; painted a glowing sunset; painter; the easel in the garden
    sailing; sail a dinghy; got stuck on a sandbank; forgot to untie the boat; Feel where the wind comes from; sailed around the island; sailor; the harbor
    """,
)

NEWCOMERS = table(
    "kind food home habit thanks",
    """
    panda; bamboo shoots; the thicket; hid behind {guest.their} own ears; did a clumsy somersault
    bunny; fresh lettuce; the hutch; twitched and froze; thumped a happy rhythm
    hamster; sunflower seeds; the cardboard tunnel; rolled into a ball; stuffed two cheeks full
    raccoon; boiled corn; the chimney top; peered through striped paws; washed every kernel
    deer; sweet clover; the birch grove; trembled on thin legs; leaped in the moonlight
    cat; a saucer of cream; the woodpile; arched and hissed; purred like an engine
    crow; walnuts; the dead elm; croaked and turned away; brought a shiny button
    seal; silver herrings; the rocky cove; ducked under the water; balanced a cork
    donkey; crisp thistles; the lonely paddock; turned to face the wall; brayed with delight
    hen; yellow corn; the empty coop; fluttered into a corner; laid a speckled egg
    walrus; fresh clams; the cold bay; grunted and closed both eyes; sang in a deep bass
    goat; turnip tops; the steep quarry; lowered {guest.their} horns; skipped from stone to stone
    parrot; pineapple; the palm tree; covered {guest.their} head with a wing; said a brand new word
    snail; cabbage leaves; the damp wall; pulled in both feelers; drew a silvery heart
    lizard; crunchy crickets; the warm roof; darted under a tile; changed from brown to emerald
    hippo; water lilies; the muddy lagoon; sank until only two nostrils showed; blew a fountain
    chipmunk; acorns; the stump; chattered from far away; offered half of the winter store
    swan; soaked barley; the silent lake; hissed and swam off; glided in a graceful circle
    """,
)

STORMS = table(
    "item sky effect use",
    """
    umbrella; fat drops began to pour; everyone's clothes were getting soaked; opened it over both of them
    raincoat; a cloudburst drenched the path; the sandwiches were getting wet; spread it over the picnic basket
    thick blanket; an icy wind swept down; their teeth began to chatter; wrapped it around both of them
    water bottle; the sun burned hotter and hotter; their throats felt like sandpaper; passed it back and forth
    sun hat; the noon heat beat down; their heads began to ache; shared it by turns
    long rope; a flood washed away the footbridge; there was no way across; tied it from bank to bank
    lantern; the fog swallowed the trail; they could not see their own feet; held it up high
    compass; snow hid every path; all directions looked alike; watched the needle point north
    pair of mittens; a blizzard howled around them; their fingers turned stiff and blue; gave one mitten to each
    canvas tarp; hailstones rattled down like peas; their heads got bumped; held it above them like a roof
    pair of boots; the trail turned into deep mud; their sandals stuck fast; carried {friend} piggyback in the boots
    whistle; dusk came much too early; nobody knew where they were; blew it three times until {elder} answered
    flask of tea; an early frost whitened the ground; their toes were numb; poured a steaming cup for each
    folding fan; the air stood as still as soup; their faces were as red as beets; fanned both of them in turn
    """,
)

FAVORS = table(  # a small favor early, and the very creature that can repay it later
    "creature stuck freed trouble repaid",
    """
    mouse; caught under a flower pot; tipped up the pot; got tangled in a net; nibbled through the net
    firefly; shut in a jam jar; unscrewed the lid; lost the way in the dark; lit up the path
    seagull; wrapped in fishing line; cut the line; drifted off on a raft; pulled the raft ashore by its string
    bee; floating in a puddle; held out a twig; met a growling weasel; buzzed at the weasel until it fled
    squirrel; shivering in a trap; opened the trap; sat high in a tree and dared not climb down; showed the safe branches one by one
    crab; lying upside down on the sand; turned it right side up; dropped a key between the rocks; picked up the key with one claw
    goose; frozen to the ice; poured warm water on the ice; heard a thief at the back door; honked until the whole street woke up
    elephant calf; stuck in a mud hole; brought planks to walk on; watched the hut catch fire; sprayed water over the flames
    snake; tied into a knot by mean boys; loosened the knot; needed a bridge over a ditch; stretched across like a plank
    pigeon; hurt by a thorn; pulled out the thorn; was locked inside a tower; carried a message to {elder}
    dog; trapped beneath a fallen gate; raised the gate; got buried in deep snow; dug through the snow with both paws
    turtle; stranded on the hot road; carried it to the water; fell into the river; swam beneath and became a raft
    bat; snared by a thorn bush; bent the twigs apart; was attacked by a cloud of mosquitoes; gobbled up the mosquitoes
    worm; drying on the pavement; laid it on wet earth; had a garden as hard as brick; loosened the soil for the seeds
    """,
)

MYSTERIES = table(  # the clue fits the culprit
    "stolen from clue reading culprit reason",
    """
    cheese; the kitchen table; tiny bite marks; Somebody with sharp little teeth; mouse; seven babies had gone to bed hungry
    cherries; the windowsill; a heap of stones and one black feather; Somebody who can fly; blackbird; the nestlings were crying for fruit
    honey; the pantry; a big sticky paw print; Somebody very large; bear; winter was coming and the cave was bare
    carrots; the vegetable patch; a tuft of white fluff; Somebody with a cotton tail; rabbit; the clover had dried up
    fish; the pond; wet tracks with webbed toes; Somebody who likes to swim; otter; the river was frozen
    milk; the doorstep; a trail of white drops and a whisker; Somebody who purrs; cat; nobody had filled the bowl
    peanuts; the bird table; empty shells high up in the oak; Somebody who climbs; squirrel; the nut tree had been cut down
    lettuce; the seedbed; a shiny line of slime; Somebody very slow; snail; the lawn was too dry to crawl on
    silver spoons; the drawer; a long tail feather on the sill; Somebody who loves to glitter; magpie; the nest looked so dull
    eggs; the henhouse; red hairs on the wire; Somebody sly; fox; a cub was sick and weak
    bananas; the fruit stall; yellow peels hanging from the roof; Somebody with clever hands; monkey; the traveling zoo had forgotten supper
    socks; the clothesline; a pattern of muddy paws; Somebody who chews; puppy; sore gums needed something soft
    sugar; the blue bowl; a thin line of grains to the wall; Somebody very small with six legs; ant; the anthill had been flooded
    straw; the stable; footsteps of three long toes; Somebody with a beak; stork; the chimney nest had blown away
    """,
)

JOBS = table(
    "name place tool product task trick",
    """
    baker; the bakery; a rolling pin; raisin rolls; knead the dough; dust your hands with flour
    carpenter; the workshop; a plane; a rocking chair; smooth the boards; always follow the grain
    gardener; the nursery; a rake; tulips; plant the bulbs; put the pointed end up
    tailor; the sewing room; a thimble; a velvet jacket; sew on the buttons; tie a knot at the end
    potter; the pottery; a wheel; clay jugs; shape the handle; keep your fingers wet
    beekeeper; the apiary; a veil; golden honey; move the frames; never hurry near a hive
    blacksmith; the forge; an anvil; horseshoes; pump the bellows; watch the color of the iron
    cook; the restaurant; a ladle; mushroom stew; chop the herbs; curl your fingertips in
    fisherman; the jetty; a net; fresh mackerel; mend the holes; pull each loop tight
    farmer; the cowshed; a pail; sweet butter; milk the cow; sing so that the cow relaxes
    cobbler; the shoe shop; an awl; leather boots; polish the toes; rub in little circles
    librarian; the reading room; a rubber stamp; story hours; sort the novels; remember the alphabet
    clockmaker; the clock tower; a magnifier; cuckoo clocks; oil the gears; use a single drop
    florist; the flower shop; a pair of clippers; bouquets; trim the stems; cut them at a slant
    candle maker; the candle cellar; a kettle of wax; beeswax candles; dip the wicks; count to five between dips
    weaver; the loom house; a shuttle; soft carpets; pass the shuttle; keep the rows even
    vet; the animal clinic; a stethoscope; healthy pets; hold the guinea pig; stroke it behind the ears
    captain; the ferry; a wheel of oak; safe crossings; steer past the buoys; watch the lighthouse
    """,
)

SEEDS = table(
    "name seed riddle because dish",
    """
    pumpkin; a flat white seed; It will be round and orange like the moon; it was round and orange; pumpkin pie
    sunflower; a striped black seed; It will turn its face to the sun; all day it turned its face to the sun; roasted seeds
    bean plant; a speckled bean; It will climb up a pole; it climbed right up the pole; bean soup
    apple tree; a brown pip; One day it will wear white blossoms; in spring it wore white blossoms; apple sauce
    strawberry plant; a seed as small as a dot; It will hide red hearts under its leaves; red hearts hid under its leaves; strawberry jam
    tulip; a papery bulb; It will hold up a cup without a handle; it held up a pink cup without a handle; a lovely bouquet
    cornstalk; a golden kernel; It will grow ears but never hear; it had four ears and heard nothing; buttered corn
    oak; a nut with a cap; It will be a home for a hundred birds; the first bird moved in; a crown of leaves
    tomato plant; a flat fuzzy seed; It will carry shiny red lamps; red tomatoes shone like lamps; tomato salad
    cactus; a grain of black sand; It will wear needles but never sew; it was full of needles; a tiny desert
    watermelon; a slippery dark seed; It will be green outside and red inside; it was green outside and red inside; a cool fruit punch
    lavender bush; a gray grain; It will smell like summer; the whole place smelled like summer; little scented bags
    """,
)
