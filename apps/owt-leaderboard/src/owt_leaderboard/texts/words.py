"""Invented people, towns and organisations, and the subjects of the sample articles.

Values in one row belong together; nobody and nothing here exists.
"""

from __future__ import annotations

from trainer.experiments.grammar import table

WOMEN = (
    "Adela Beatrix Corinna Delphine Elspeth Fenella Gwenda Hester Imogen Jocasta Kerensa Lavinia Marit Nadine Odette "
    "Perdita Rosalind Saskia Tamsin Ursula Verity Wilhelmina Yolanda Zelda"
).split()
MEN = (
    "Alaric Bertram Corwin Desmond Emeric Fergus Gideon Hamish Ivor Jasper Konrad Leander Magnus Norbert Osbert Piers "
    "Quentin Rufus Silas Tobias Ulrich Valentin Wendell Zoltan"
).split()
SURNAMES = (
    "Ambervale Birkenhaw Calderwick Drummerby Eskwith Fallowden Garrowmere Hathersom Ingelthwait Jorrick Kestlemoor "
    "Larkenby Mossington Nettlefrey Orrowby Pennycliff Quillham Ravenstoke Saltergard Thornaby-Lisk Umberslade Vellacote "
    "Withergrove Yarrowdean Zennick Bramblecote Corriswold Duskinfell Everlund Flintermoor Greywether Hollinshade"
).split()
TOWNS = (
    "Alderquay|Brackenmouth|Cindermoor|Dunwhistle|Eastermere|Farrowgate|Gildenholt|Harrowfen|Ironbeck|Juniper Falls|"
    "Kettlebridge|Lower Marrow|Millersend|Northwick Bay|Otterscar|Pinehallow|Quarrel Hill|Rushford Green|Silverden|"
    "Thistleport|Upper Wexley|Vinterby|Willowmarsh|Yewbarrow|Stonepenny|Copperwell|Saltersby|Fennimore Cross|Redlantern|Applewharf"
).split("|")
REGIONS = (
    "Lorrin County|the Ashen Valley|Merrowshire|the Tarn district|the Hollow Shire|Westerlund|the Copper Hills|"
    "the Lakes of Orvane|Greymark|the Sable Plains|Northern Calvenny|the Tress Islands"
).split("|")
PAPERS = (
    "Gazette|Courier|Herald|Observer|Messenger|Chronicle|Bulletin|Examiner|Weekly|Post-Telegram|Sentinel|Dispatch"
).split("|")
HANDLES = "Pixel Moss Tinker Otter Gravel Comet Juniper Falcon Biscuit Walnut Quill Ember".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NICKNAMES = (
    "Herons|Anvils|Millers|Lanterns|Badgers|Comets|Ferrymen|Quarrymen|Kestrels|Thunder|Wolverines|Mariners|Pikes|"
    "Tinkers|Stags|Cyclones|Ravens|Lumberjacks|Hornets|Tritons"
).split("|")

SPORTS = table(
    "name unit half star skill venue",
    """
    football; goals; half; striker; headed in a corner; stadium
    basketball; points; half; guard; sank three free throws; arena
    handball; goals; half; left winger; scored from a narrow angle; sports hall
    rugby; points; half; fly-half; converted from the touchline; ground
    water polo; goals; half; goalkeeper; blocked two penalties; aquatic center
    lacrosse; goals; half; midfielder; broke through the defense; field
    field hockey; goals; half; captain; deflected a short corner; turf
    netball; points; half; shooter; missed only one attempt; leisure center
    """,
)

PRODUCTS = table(
    "name maker good bad measure size who",
    """
    electric kettle; Brewlark; boils quickly and pours without dripping; the lid feels flimsy; it holds; 1.7 liters; tea drinkers
    hiking backpack; Ridgefold; sits snugly on the shoulders; the zippers jam when they get wet; it carries; 38 liters; weekend walkers
    wireless headset; Sonavell; blocks out the noise of the train; voices on calls sound thin; it lasts; 31 hours on a charge; commuters
    desk lamp; Lumenquist; spreads a warm and even light; the switch is hidden at the back; it reaches; 54 centimeters; students
    cordless drill; Torqwell; never stalled in hard maple; the case is too tight for the charger; it weighs; 1.4 kilograms; home improvers
    folding bicycle; Pedalune; collapses in nine seconds; the saddle is rather hard; it weighs; 11 kilograms; city dwellers
    coffee grinder; Brewlark; produces a uniform powder; it wakes up the neighbors; it holds; 250 grams; espresso lovers
    camping stove; Emberfold; lights even in strong gusts; simmering requires patience; it boils a liter in; four minutes; campers
    robot vacuum; Dustwander; maps the apartment on the first run; it gets lost under low sofas; it cleans; 90 square meters; pet owners
    e-book reader; Pagelight; the screen is crisp in bright sunshine; menus respond slowly; it stores; 6,000 novels; travelers
    office chair; Sitterby; supports the lower back; assembly takes an entire evening; it tilts to; 135 degrees; remote workers
    rain jacket; Ridgefold; kept us dry during a three-hour downpour; the hood slips over the eyes; it weighs; 290 grams; cyclists
    blender; Whirlmont; crushes ice into snow; cleaning the blades is fiddly; it spins at; 18,000 revolutions; smoothie fans
    digital piano; Claviston; the keys feel close to a concert grand; the built-in speakers rattle; it has; 88 weighted keys; beginners
    garden hose; Greenspool; rolls itself up without kinks; the nozzle is made of cheap plastic; it stretches to; 20 meters; balcony gardeners
    mechanical keyboard; Keyforge; typing on it is a pleasure; the software is confusing; it offers; 87 keys; programmers
    """,
)

TASKS = table(
    "name gerund tools one two three four warning why",
    """
    fix a dripping faucet; fixing a dripping faucet; an adjustable wrench and a new washer; Shut off the water under the sink; Unscrew the handle and lift out the cartridge; Replace the worn washer; Reassemble everything and open the valve slowly; forget to plug the drain, or a screw will vanish down it; a slow drip wastes thousands of liters a year
    sharpen a kitchen knife; sharpening a kitchen knife; a whetstone and a damp towel; Soak the stone for ten minutes; Hold the blade at a shallow angle; Draw it across the coarse side in smooth strokes; Polish the edge on the fine side; press too hard; a dull blade slips far more often than a keen one
    repot a houseplant; repotting a houseplant; fresh compost and a slightly larger pot; Water the plant the evening before; Loosen the roots with your fingers; Center it over a layer of gravel; Fill the gaps and tap the soil firm; choose a container without drainage holes; cramped roots starve the leaves
    patch a bicycle tire; patching a bicycle tire; two levers, sandpaper and glue; Release the air and pry the tire off the rim; Find the puncture by listening for a hiss; Roughen the rubber and apply a thin film of glue; Press the patch on and inflate the tube; leave the thorn inside the tire; a new tube costs ten times as much as a patch
    paint a room; painting a room; masking tape, a roller and a tray; Wash the walls and let them dry; Tape the trim and cover the carpet; Cut in along the edges with a brush; Roll the large surfaces in overlapping bands; skip the primer on fresh plaster; a careful afternoon beats two hasty weekends
    back up your photos; backing up your photos; an external disk and some patience; Gather all pictures in one folder; Copy the folder to the disk; Compare the number of files on both sides; Store the disk somewhere else; keep the only copy on your phone; every drive fails sooner or later
    bake sourdough bread; baking sourdough bread; a lively starter and a heavy pot; Mix flour, water and starter until no dry bits remain; Fold the dough every half hour; Let it rise overnight in the refrigerator; Bake it covered, then uncovered; slice the loaf while it is hot; slow fermentation gives the crumb its flavor
    prepare for an interview; preparing for an interview; a notebook and a friend who asks questions; Read the advertisement line by line; Write down three stories about your work; Rehearse them aloud; Plan the route and arrive early; speak badly of a former employer; calm candidates listen better
    remove a coffee stain; removing a coffee stain; white vinegar and a clean cloth; Blot the spot without rubbing; Dilute the vinegar with cold water; Dab from the outside inward; Rinse and dry in the shade; use hot water; heat sets the pigment in the fibers
    start a compost heap; starting a compost heap; a wooden bin and a garden fork; Pick a shady corner on bare earth; Begin with twigs for ventilation; Alternate kitchen scraps with dry leaves; Turn the pile every other week; add meat or cheese; a third of household rubbish can become soil
    descale a showerhead; descaling a showerhead; a plastic bag and citric acid; Dissolve the acid in lukewarm water; Tie the bag around the head; Wait an hour; Scrub the nozzles with an old toothbrush; scratch the chrome with steel wool; limescale halves the pressure within months
    hang a heavy mirror; hanging a heavy mirror; a level, anchors and a pencil; Locate the studs behind the plaster; Mark two points at equal height; Drill and insert the anchors; Lift the mirror with a helper; trust adhesive strips; a falling mirror ruins more than the floor
    """,
)

DISHES = table(
    "name main second third herb vessel method story",
    """
    lentil soup; red lentils; carrots; coconut milk; cumin; a large saucepan; Simmer until the lentils fall apart; It is what my aunt cooked on every rainy Thursday
    mushroom risotto; short-grain rice; brown mushrooms; grated cheese; thyme; a wide pan; Stir in the broth one ladle at a time; Stirring it is cheaper than meditation
    fish stew; white fish; potatoes; chopped tomatoes; fennel; a cast-iron pot; Add the fish only at the very end; The harbor cafe served it with burnt toast
    vegetable curry; chickpeas; spinach; yogurt; turmeric; a deep skillet; Let the sauce thicken without a lid; It tastes even better on the second day
    apple crumble; tart apples; rolled oats; brown sugar; cinnamon; a baking dish; Bake until the edges bubble; We fought over the crispy corners as kids
    potato salad; waxy potatoes; pickles; mustard; chives; a mixing bowl; Dress the potatoes while they are warm; Every family claims to own the only true version
    chicken pie; chicken thighs; leeks; puff pastry; tarragon; a pie tin; Brush the top with a beaten egg; My neighbor traded me the recipe for a ladder
    bean chili; black beans; bell peppers; corn; smoked paprika; a slow cooker; Leave it alone for as long as you can; It won second prize at the school fair
    noodle salad; rice noodles; cucumber; roasted peanuts; mint; a salad bowl; Toss everything with lime juice; I eat it straight from the fridge in August
    onion tart; yellow onions; eggs; sour cream; nutmeg; a tart ring; Caramelize the onions over low heat; The smell alone brings people into the kitchen
    rhubarb cake; rhubarb; ground almonds; butter; vanilla; a springform pan; Cool it before you lift the ring; It marks the official start of spring
    barley broth; pearl barley; celery; turnips; parsley; a stockpot; Skim the foam twice; Hikers swear by it after a cold descent
    """,
)

PROPOSALS = table(
    "name short purpose support objection",
    """
    a new footbridge over the canal; the footbridge; pedestrians must now take a detour of two kilometers; Children could finally walk to school; The banks are not stable enough
    longer opening hours for the library; the library plan; most residents work until six; Reading rooms should not close at dusk; We cannot staff the late shift
    a ban on leaf blowers; the ban; complaints about noise have doubled; A rake does the job; Caretakers will need twice the time
    a skate park behind the gymnasium; the skate park; teenagers have nowhere to meet; They asked politely for six years; The neighbors deserve quiet evenings
    the renovation of the swimming pool; the renovation; the tiles are crumbling; Nobody should learn to swim in a neighboring town; The estimate will surely rise
    a speed limit near the kindergarten; the speed limit; two accidents were reported last autumn; A minute lost is a small price; Buses will miss their connections
    solar panels on the town hall; the solar project; electricity bills have climbed steeply; The roof faces south, so let us use it; The slates are under protection
    a weekly farmers' market; the market; growers want to sell directly; The square is dead on weekends; Parking is scarce already
    free bus rides on Saturdays; the bus scheme; downtown shops are losing customers; Empty buses help nobody; Someone has to pay the drivers
    more benches along the promenade; the bench program; elderly visitors find no place to rest; A town is kind if one can sit down in it; Vandals would wreck them in a month
    a community orchard on the old barracks site; the orchard; the lot has been vacant for a decade; Trees outlive any committee; We need apartments, not pears
    repairs to the storm drains; the repairs; basements flooded twice in spring; Water does not wait for budgets; The contractor has a poor record
    """,
)

INCIDENTS = table(
    "headline event cause place effect official advice",
    """
    Storm Topples Trees; A severe storm toppled dozens of trees; gusts of up to {speed} kilometers per hour; near the railway line; Trains were canceled until midnight; fire chief; Stay away from the woods until the branches are cleared
    Burst Pipe Floods Cellars; A burst pipe flooded several cellars; a valve that was more than fifty years old; in the old quarter; Water had to be carried from tanks; utility manager; Boil the water until further notice
    Truck Spills Honey; A truck overturned and spilled its load of honey; a worn brake; on the ring road; The lane was closed for seven hours; police spokesman; Drive slowly, the surface is still sticky
    Power Cut Halts Trams; A power cut halted all trams; a squirrel in the substation; in the city center; Thousands walked home; grid operator; Switch off sensitive devices
    Fire Damages Warehouse; A fire damaged a furniture warehouse; a forgotten soldering iron; at the industrial estate; Thick smoke drifted over the suburbs; fire chief; Keep your windows shut tonight
    Landslide Blocks Pass; A landslide blocked the mountain pass; three days of heavy rain; below the lookout; Two villages were cut off; district engineer; Use the ferry for the time being
    Escaped Llamas Stop Traffic; A herd of llamas stopped the evening traffic; an open gate at a petting zoo; on the main bridge; Commuters shared their sandwiches with the animals; zoo director; Do not chase them, they spit
    Fog Delays Ferries; Dense fog delayed the morning ferries; an unusually warm sea; off the western pier; Passengers slept in the terminal; harbor master; Check the timetable before leaving home
    Ice Closes Airport; Black ice closed the regional airport; freezing drizzle after sunset; beside the lagoon; Flights were diverted to the coast; airport director; Call your airline before you set out
    Crane Hits Bell Tower; A crane struck the historic bell tower; an error of the operator; beside the cathedral; The clock stopped at eleven minutes past four; site supervisor; Avoid the square while stones are loose
    """,
)

QUESTIONS = table(
    "title problem tried answer because thanks",
    """
    Laptop fan never stops; My laptop fan runs at full speed even when I am only reading mail; closing every program; Blow out the dust and renew the thermal paste; the heat cannot leave the processor; It is silent now
    Tomatoes split on the vine; My tomatoes crack just before they ripen; watering them more; Water a little every morning instead of a lot on Sundays; the skin cannot keep up when the fruit swells suddenly; No cracks since last week
    Cat ignores new bed; Our cat refuses to sleep in the bed we bought; sprinkling it with catnip; Put an old sweater of yours inside; it has to smell like home; She moved in the same night
    Spreadsheet shows wrong dates; My spreadsheet turns part numbers into dates; changing the font; Format the column as text before you paste; the program guesses the type of every cell; That did the trick
    Guitar goes out of tune; My guitar drifts out of tune within minutes; buying expensive strings; Stretch the new strings by hand and wind them three times around the post; slack in the windings slips under tension; It held through rehearsal
    Bread does not rise; My bread comes out flat and dense; doubling the yeast; Give it more time in a warmer spot; cold dough works at half the pace; I finally have holes in the crumb
    Knee hurts after running; My knee aches after ten kilometers; running through the pain; Shorten your stride and rest two days a week; long strides act like a brake at each step; I finished my loop without pain
    Squeaky floorboards; The boards in our hall squeak at every step; nailing them down; Puff talcum powder into the joints; the noise is wood rubbing against wood; Nobody wakes the baby anymore
    Phone battery drains overnight; My phone loses a third of its charge overnight; switching to flight mode; Look for an app that synchronizes all the time and restrict it; one talkative app keeps the radio awake; Only two percent lost this morning
    Learning vocabulary; I forget new words within a day; copying long lists; Review ten words after one hour, one day and one week; memory fades in steps and every repetition stretches them; I remembered nearly all of them
    Blurry moon pictures; My pictures of the moon show a white blob; longer exposures; Use a tripod and a much shorter exposure; the moon is as bright as a sunlit rock; I can see craters
    Roses with black spots; The leaves of my roses get black spots and drop; spraying soap; Remove the fallen leaves and water only the roots; the fungus spreads with splashing drops; The new shoots look clean
    """,
)

EVENTS = table(
    "name act second extra bring",
    """
    Lantern Parade; a brass orchestra; shadow theater for families; a floating bonfire; a paper lantern
    Harvest Fair; a tractor ballet; a giant pumpkin contest; hayrides around the lake; an appetite
    Jazz Night; a trio of saxophones; an open jam session; cocktails on the terrace; your own instrument
    Book Swap; readings by local poets; a typewriter corner; free bookbinding lessons; three volumes you have finished
    River Regatta; races in homemade boats; a rowing marathon; fireworks from a barge; a towel and dry socks
    Science Weekend; liquid nitrogen shows; a planetarium dome; tours of the observatory; your hardest question
    Winter Market; roasted almonds and mulled cider; a carver of ice; a choir of teachers; warm gloves
    Kite Festival; stunt pilots with four lines; a workshop for beginners; a night flight with lights; string and glue
    Film Marathon; seven silent comedies; a pianist who improvises; midnight pancakes; a cushion
    Beekeeping Day; tastings of heather honey; a glass hive; candle rolling; long sleeves
    Repair Cafe; volunteers with soldering irons; sewing machines for loan; homemade cake; anything that is broken
    Chess Open; a simultaneous exhibition; a blitz tournament; puzzles for children; a clock if you own one
    """,
)

SIGHTS = table(
    "name detail hint",
    """
    the Rope Museum; a cable as thick as a barrel; ask the guard to tie a bowline
    the Glass Market; stalls that shimmer at noon; haggle with a smile
    the Whispering Stairs; 212 steps and a curious echo; climb before breakfast
    the Salt Baths; steaming pools cut into rock; rent a robe at the entrance
    the Botanical Terrace; orchids and carnivorous pitchers; bring a macro lens
    the Clockwork Theater; puppets driven by weights; the matinee is cheaper
    the Signal Tower; a view as far as the islands; skip the elevator line
    the Tinsmiths' Lane; workshops that hammer until dusk; watch your head at low doors
    the Moth House; ten thousand pinned wings; the attic is open on request
    the Floating Library; novels on a retired barge; borrow without a card
    the Chapel of Nets; a ceiling woven by fishermen; whisper, the monks are strict
    the Amber Cellars; vaults of fermented pear cider; designate a driver
    the Cable Ferry; a crossing powered by the current; sit on the upstream side
    the Quarry Garden; roses on former spoil heaps; June is the best month
    """,
)

SPECIES = table(
    "name habitat threat hope watcher",
    """
    reed warblers; the marsh; drained ditches; higher water levels; ornithologists
    hazel dormice; the hedgerows; clipped hedges; bridges of rope; volunteers
    painted frogs; the quarry ponds; a skin fungus; cleaner boots; biologists
    river mussels; the upper stream; fertilizer; wider buffer strips; divers
    horseshoe bats; the railway tunnels; bright floodlights; darker streets; cavers
    swallowtails; the chalk slopes; missing thistles; later mowing; students
    barn owls; the church lofts; sealed roofs; nesting boxes; pensioners
    gray seals; the sandbanks; reckless jet skis; a resting zone; rangers
    brown hares; the stubble fields; fast harvesters; strips of clover; hunters
    stag beetles; the oak avenue; tidy parks; rotting trunks; schoolchildren
    """,
)

PROGRAMS = table(
    "name does fixed_one fixed_two added",
    """
    Ledgerleaf; a small accounting tool; rounding errors in quarterly totals; a crash when the archive was empty; export to plain text tables
    Mapwright; an editor for trail maps; tiles that stayed gray after zooming; contour labels printed upside down; offline search
    Notehatch; a notebook for the command line; lost tags after renaming; slow startup on network drives; a calendar view
    Choirbook; a viewer for sheet music; page turns that skipped a bar; wrong fonts for lyrics; transposition by semitones
    Pantryd; a daemon that tracks groceries; duplicated reminders; expired certificates; a shopping list sorted by aisle
    Sundialer; a library for time zones; an overflow in leap years; ambiguous local hours; parsing of week numbers
    Quiltbox; a pattern designer; misaligned triangles; memory leaks while dragging; a palette for color-blind users
    Ferrycast; a podcast manager; downloads that restarted from zero; broken chapter marks; playback at variable speed
    """,
)

COMPANIES = table(
    "name product unit boss_title plan",
    """
    Oakhollow Toys; wooden trains; boxes; founder; a second workshop with a training center
    Brightwater Dairy; sheep cheese; wheels; managing director; a cellar for longer ripening
    Kellmore Looms; linen fabric; bolts; chief executive; weaving courses in the old mill
    Pinion & Daughters; bicycle gears; sets; owner; an electric hub for cargo bikes
    Sandpiper Ceramics; handmade tiles; pallets; creative director; a kiln heated by hydrogen
    Northlight Optics; telescope mirrors; units; president; a factory tour for amateurs
    Tallow and Wick; scented candles; crates; co-owner; refills without plastic
    Ferncastle Brewery; ginger beer; barrels; head brewer; deposit bottles throughout the region
    Marrowfield Seeds; heirloom vegetables; packets; general manager; a vault for rare varieties
    Umber Paper Works; recycled envelopes; cartons; plant manager; a wastewater plant of its own
    """,
)
