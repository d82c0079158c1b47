"""Templates of the sample articles: for each kind of article, its paragraphs with alternative phrasings."""

from __future__ import annotations

RULES = {
    "dateline": ("{town_capitals} -- ", "{town}, {month} {day} -- ", "", "({paper}) "),
    "link": (
        "[More information|Further details|The full text|A complete list] [is available at|can be found at] {url}.",
        "See {url} for [details|more|updates|pictures].",
        "[Questions? Write to|Comments may be sent to|Contact:] {mail}.",
    ),
    "reported": "[said|explained|told the {paper}|stressed|added|noted]",
    "adverb": "[clearly|narrowly|surprisingly|reportedly|apparently|eventually|quietly|finally|actually]",
    "filed": "[Filed under|Tags|Topics]",
    "by": (
        "By {reporter}",
        "By {reporter}, {paper}",
        "{weekday}, {month} {day}",
        "Posted by {reporter} on {month} {day}",
    ),
    "reader": (
        "[What do you think?|Have we missed anything?|Do you disagree?] [Leave a comment below.|Write to {mail}.|Tell us at {url}.]",
        "If you liked this [post|article|piece], [share it with a friend|subscribe to our newsletter|see {url} for more].",
        "[Next week|In the next issue|Tomorrow]: [the winners of our photo contest|letters from our readers|a walk through {town2}"
        "|an interview with {expert}|how to survive a family reunion].",
    ),
}

SPORTS = (
    "[{winner} Beat {loser} {high}-{low}|{case.name} results: {home} {total_home}, {away} {total_away}|{winner} Edge Past {loser}|{star} Leads {winner} to Victory]",
    "{by}",
    "{dateline}The {winner} [defeated|beat|overcame] the {loser} {high}-{low} in [front of {attendance} spectators|a {adjective} match] at the "
    "{home_town} {case.venue} on {weekday}. [It was their {ordinal} victory of the season|Few had expected it|The result had been in doubt until the last minutes].",
    "After the first {case.half} the score was {first_home}-{first_away} from the point of view of the {home}. In the second, the {home} scored {second_home} {case.unit} "
    "and the {away} {second_away}, which made it {total_home}-{total_away}. [{Case.star} {star} {case.skill} in the {minute}th minute|The best "
    "player on the field was {case.star} {star}, who {case.skill}].",
    '"[We kept our nerve|It was not pretty, but it counts|My team ran until the very end|We had trained exactly for this]," {winner} coach {coach} {reported}. '
    '"[{star} was outstanding|The crowd carried us|Now we need some sleep]." [{loser} coach {coach2} blamed {tired} legs|{coach2}, who coaches the {loser}, left without a word'
    "|The {loser} protested in vain against a late whistle].",
    "[With {wins} wins and {losses} losses in {games} games|After {games} games, with {wins} wins and {losses} losses], the {winner} are now in {place} place. "
    "[They travel to {town3} next {weekday2}|Their next opponent comes from {town3}|Tickets for the game against {town3} cost ${price}].",
)

COUNCIL = (
    "[Council {verdict_verb} {case.short}|{town} council: {case.short} {verdict}|Notes from the {town} town council|A long evening about {case.short}]",
    "{by}",
    "{dateline}On {weekday}, the town council of {town} [voted on|dealt with|debated] {case.name}. There were {votes_for} votes in favor and {votes_against} against; members who "
    "abstained: {votes_abstain}. All {votes_all} members were present, so {case.short} is {verdict}.",
    'The [mayor|chair|clerk], {mayor}, [recalled|pointed out] that {case.purpose}. "{Case.support}," {mayor_they} {reported}. '
    '[Councillor {opponent}|{opponent}, who leads the opposition,] disagreed. "{Case.objection}," {opponent_they} [replied|warned|objected].',
    "The cost is put at ${cost_all}: ${cost_town} from the town and ${cost_region} from {region}. [Work could begin in {month2}|The money is set aside for {year}"
    "|A loan is not required].",
    "Other items:\n- [Minutes of the last meeting were approved|Apologies were received from nobody]\n- [A streetlight on Mill Lane will be replaced|The playground gets a new fence"
    "|Dog licenses will cost ${price}]\n- Next meeting: {month} {day_later}, {hour} p.m.",
    "{link}",
)

SURVEY = (
    "[{percent_yes} Percent Back {case.short}|What {town} Thinks About {case.short}|Poll: {region} divided over {case.short}]",
    "{by}",
    "{dateline}[A new survey|A poll by the {paper}] asked {sample} adults in {region} about {case.name}. {percent_yes} percent were in favor, {percent_no} percent "
    "against, and {percent_unsure} percent [undecided|unsure].",
    "In absolute numbers, {count_yes} people said yes, {count_no} said no and {count_unsure} did not want to commit. [Among those under thirty, support was stronger"
    "|Support was weakest in {town}|Women and men answered alike].",
    '[Supporters argue|Those in favor say] that {case.purpose}. "{Case.support}," wrote one participant from {town2}. "{Case.objection}," wrote another.',
    '[{expert}, a sociologist at the University of {town3},|Pollster {expert}] [urges caution|was not surprised]: "[Opinions change once the bill arrives|A question is '
    'only as good as its wording|Five years ago the majority was on the other side]." The margin of error is {margin} points. {link}',
)

HOWTO = (
    "[How to {case}|How to {case} in four steps|A beginner's guide to {case.gerund}|{Case.gerund}: what nobody tells you]",
    "[I used to think that {case.gerund} was a job for professionals. It is not.|Last {weekday} I finally learned how to {case}.|Readers keep asking about {case.gerund}, "
    "so here is my method.] [You will need|All it takes is] {case.tools}, and about {minutes} minutes. [It matters:|Here is why:|It is worth the effort:] {case.why}.",
    "[Step 1. {Case.one}.\nStep 2. {Case.two}.\nStep 3. {Case.three}.\nStep 4. {Case.four}.|1) {Case.one}.\n2) {Case.two}.\n3) {Case.three}.\n4) {Case.four}."
    "|First: {case.one}.\nThen: {case.two}.\nAfter that: {case.three}.\nLast of all: {case.four}.]",
    "[Common mistake|A word of warning|The one rule]: do not {case.warning}. [{expert}, who has run a repair shop in {town} for {years} years, sees it every week|I did, and "
    "I regretted it for {number} days|My teacher, {expert}, would never forgive you].",
    "[A professional charges around ${price_big} for {case.gerund}; my material cost ${price}, so I saved ${saved}.|I spent ${price} instead of the ${price_big} on the "
    "estimate, which leaves ${saved} for better things.]",
    "{reader}",
)

REVIEW = (
    "[{case.maker} {model} review: {overall} out of 10|Tested: the {case.name} {case.maker} {model}|Is the {case.maker} {model} worth ${sale}?]",
    "{by}",
    "[I have used the {case.maker} {model} for {number} weeks|The {model} arrived in a plain box|{case.maker} promises a lot with its latest {case.name}]. "
    "[In short|The most important thing first|Verdict in one line]: {case.good}, but {case.bad}.",
    "According to {case.maker}, {case.measure} {case.size}. [In our test, that was accurate|We measured slightly less|We found no reason to doubt it]. The {case.name} "
    "[looks solid|feels well made|comes in {color}], [and the manual is readable|although the manual is a riddle|and setting it up took {minutes} minutes].",
    "Pros:\n- {case.good}\n- [spare parts are available|{years}-year warranty|no app required]\nCons:\n- {case.bad}\n- [only one color|heavy packaging|no carrying case]",
    "Handling: {score_one}/10\nPerformance: {score_two}/10\nValue: {score_three}/10\nOverall: {overall}/10",
    "The list price is ${list}. [Until {month} {day}|At the moment|This week] you can get it for {percent} percent less, that is, ${sale}. "
    "[We recommend it to {case.who}|{Case.who} will like it|It is made for {case.who}]. [{reader}|{link}]",
)

RECIPE = (
    "[{Case.name} for {servings}|My favorite {case.name}|{expert}'s {case.name}|{Case.name} with {case.herb}]",
    "[{Case.story}.|Everyone needs {a case.name} that never fails.|{weekday} is {case.name} day at our house.] [This version comes from {expert} in {town}"
    "|I found the recipe in an old issue of the {paper}|I have cooked it {number} times this year] and serves {servings}.",
    "Ingredients\n- {grams} g {case.main}\n- {grams_second} g {case.second}\n- {grams_third} g {case.third}\n- {spoons} teaspoons of {case.herb}\n- salt and pepper",
    "Directions: Chop the {case.second} [finely|coarsely|into cubes] and put them aside. Bring out {case.vessel}. [Add the {case.main} first|Start with the {case.main}], "
    "then the {case.second}, and finally the {case.third}. Season with {case.herb}. {Case.method}.",
    "Preparation takes {prep} minutes and cooking {cook} minutes, {total} minutes in all. [For twice as many guests, use {grams_double} g of {case.main}"
    "|Leftovers keep for {number} days].",
    '[{reader}|"It needs more {case.herb}," says my {relative}. It does not.|Serve it with [bread|a green salad|good company].]',
)

NEWS = (
    "[{case.headline}|{case.headline} in {town}|{town}: {case.headline}|Breaking: {case.headline}]",
    "{by}",
    "{dateline}{Case.event} {case.place} in {town} on {weekday} [morning|afternoon|evening|night]. [The cause was|Officials blamed|Investigators point to] {case.cause}. "
    "{Case.effect}.",
    "[A total of|Altogether,] {injured} people were [slightly injured|treated on site], {men} men and {women} women; [nobody was in danger|all of them have since gone home|{one_detail}]. "
    "The damage is estimated at ${damage}.",
    '"[It all happened within seconds|I have not seen anything like it in {years} years|I heard a noise and ran outside]," said {witness}, {age}, who lives nearby. '
    "[{Witness_they} helped the first responders|{Witness_they} made tea for everybody|{Witness_they} filmed the scene from a balcony].",
    '{Case.official} {expert} [asked residents for patience|thanked the volunteers|praised the crews]. "{Case.advice}," {expert_they} {reported}. [Repairs will take until {weekday2}'
    "|A second inspection is planned for {weekday2}|Traffic was back to normal by {weekday2}]. {link}",
)

FORUM = (
    "[{case.title}|{case.title} - any ideas?|[SOLVED: |Help! ]{case.title}]",
    "{user1} wrote on {month} {day}:\n{case.problem}. I have already tried {case.tried}, [without success|but it only got worse|and it did not help]. [Any ideas?|What am I missing?"
    "|Please help, I am at my wits' end.]",
    "{user2} replied:\n[I had the same trouble, {user1}.|Welcome to the forum, {user1}!|This comes up every {season}.] [{Case.tried} is a popular myth.|Forget about {case.tried}.|"
    "With {case.tried} you treat only the symptom.] {case.answer}. The reason is simple: {case.because}.",
    "{user3} replied:\n[+1 to {user2}.|{user2} is right.|I was skeptical, but {user2} has a point.] [It took {number} days in my case|There is a longer thread at {url}"
    "|Do not expect miracles before {weekday}]. [Good luck!|Let us know how it goes.|Cheers from {town}.]",
    "{user1} wrote on {month} {day_later}:\nThank you, {user2}! {case.thanks}. [I owe you a coffee.|Closing this thread.|Why did I not ask {number} weeks ago?]",
    "[{likes} people found this helpful.|Views: {attendance}. Replies: 3.|This topic was closed by a moderator.]",
)

EVENT = (
    "[{case.name} Returns to {town}|{town} invites you to the {ordinal} {case.name}|{case.name}: what to know before you go]",
    "{dateline}The {ordinal} {case.name} takes place in {town} on {month} {day} and {day_next}. [Highlights include|Visitors can look forward to] {case.act}, {case.second} and {case.extra}.",
    '[Organizer {expert}|{expert}, who founded the event with {witness},] expects {attendance} guests. "[Last year the weather let us down|We have doubled the number of chairs'
    '|It began as a joke among neighbors]. [Bring {case.bring}|Do not forget {case.bring}]!" {expert_they} {reported}.',
    "Program\n{month} {day}, {hour} p.m.: {case.act}\n{month} {day}, {hour_later} p.m.: {case.second}\n{month} {day_next}, {hour} p.m.: {case.extra}",
    "Tickets: ${price} per person; groups of {group} pay ${group_price} instead of ${group_full}. [Children under {child_age} get in free|Dogs on a leash are welcome"
    "|Parking is behind the {venue}]. {link}",
)

TRAVEL = (
    "[Two Days in {town}|{town} on ${budget} a day|Why you should visit {town} this {season}|A weekend in {region}]",
    "{by}",
    "[Most travelers rush through {region} without stopping in {town}. They are wrong.|{town} has {number} cafes, one cinema and no hurry.|I came to {town} by accident -- "
    "I had fallen asleep on the train to {town2}.]",
    "[Begin at|Your first stop should be] {sight1}, known for {sight1_detail}; {sight1_hint}. Some {distance_one} kilometers [north|south|east|west] of it [you find|you will see] {sight2}, with {sight2_detail}. "
    "Another {distance_two} kilometers on, you reach {sight3}: {sight3_detail}. The whole walk is {distance_all} kilometers.",
    "[At {sight2}, {sight2_hint}.|A tip for {sight3}: {sight3_hint}.] [For dinner, try the {dish} at {expert}'s place|The hotel by the station serves {dish} until midnight]. "
    '"[People here talk to strangers|Stay for the sunset|We have time, that is our luxury]," said {witness}, [a retired captain|a pastry chef|who rents out rowboats].',
    "My costs: bed ${bed}, food ${food}, tickets ${tickets}; ${budget} in total. {reader}",
)

NATURE = (
    "{trend_headline}",
    "{by}",
    "{dateline}[{Case.watcher} have counted|A count by {case.watcher} found] {count_all} {case.name} in {case.habitat} of {region} this {season}: {count_one} near {town}, "
    "{count_two} near {town2} and {count_three} near {town3}. [A decade ago|In {past_year}] there were {count_before}, [so the number has {trend} by {count_change}"
    "|a change of {count_change}: the population has {trend}].",
    '[According to {expert} of the Wildlife Trust, {case.name} suffer|{expert} of the Wildlife Trust believes that {case.name} suffer] most from {case.threat}. "[Nature forgives a lot if you let it'
    '|Every single pair matters|Counting is the easy part]. Give them {case.hope} and they will recover," {expert_they} {reported}.',
    "[Anyone who sees {case.name} is asked to report the place and the time.|The next count is due in {month}.|Schools may borrow binoculars free of charge.] {link}",
)

RELEASE = (
    "[{case.name} {version} released|Release notes: {case.name} {version}|Announcing {case.name} {version}]",
    "[We are happy to announce|Today we publish|Here comes] version {version} of {case.name}, {case.does}. It replaces {version_old} and contains {changes} changes by "
    "{authors} contributors. [Upgrading is recommended for everyone|There are no breaking changes|Settings are migrated on first launch].",
    "New\n- {case.added}\n- [better contrast in dark mode|keyboard shortcuts for every menu|translations into {number} languages]\nFixed\n- {case.fixed_one} (thanks to {user1})\n"
    "- {case.fixed_two} (reported by {user2})\n- [typos in the manual|a misleading error message|warnings on older compilers]",
    "[On our test machine|In the benchmark of {user3}], loading dropped from {ms_before} to {ms_after} milliseconds, a saving of {ms_saved}. [The trick is a cache|Most of it comes from "
    "reading less|We simply stopped doing things twice].",
    "[Download {version} from|The source of {version} is at|Grab {version} at] {url}. [Support for {version_old} ends in {month}.|Please report bugs in {version} there.|Maintainer {expert} "
    "thanks everybody who tested {version}.]",
)

BUSINESS = (
    "[{case.name} Grows by {percent} Percent|{case.name} plans {case.plan}|Record year for {case.name} of {town}]",
    "{by}",
    "{dateline}{case.name}, the {town} maker of {case.product}, [sold|shipped] {sold_now} {case.unit} last year, {sold_more} more than the {sold_before} of the year before. "
    "[That is a rise of|This amounts to a gain of] {percent} percent.",
    '"[We grew because we stayed small|Our customers wait patiently, and we never disappoint them|To be honest, we did not expect it]," {case.boss_title} {expert} {reported}. '
    "[{Expert_they} took over the firm {years} years ago|{Expert_they} still answers letters by hand|{Expert_they} began in the warehouse].",
    "[The company|{case.name}] employs {staff} people, {staff_here} of them in {town} and {staff_there} in {town2}. [Its next project|What comes next|The big plan]: {case.plan}. [The bank has agreed|Permits are expected by "
    "{month}|The town welcomes the plan].",
    "[{link}|Shares are not traded; the firm belongs to its staff.|Critics in {town2} fear that jobs will move to {town}.]",
)

BACKGROUND = (  # may follow any article
    "[About {town}|{town} at a glance|Where is {town}?]\n{Town} was founded in {founded} and has {people} inhabitants today. It is known for its [copper mines|ropewalks|glassblowers|"
    "ferries|salt works|cider|bell foundry] and lies in {region}, {minutes} minutes by train from {town2}. The nearest airport is in {town3}.",
    "[From the comments|Readers respond|What others say]\n{user1}: [Great article, thanks!|I was there and can confirm it.|Typical for {town}.|My uncle would disagree.]\n{user2}: "
    "[Who proofreads this?|Finally some good news from {region}.|Could you publish the numbers, please?|It was the same in {past_year}.]\n{user3}: [{user1}, you are right.|"
    "Please stay polite, {user2}.|I drove from {town3} just to see it.|First!]",
    "[Related stories|Read more|Most viewed this week]\n- [Why the bus from {town2} is always late|{town2} looks for a new mayor|A lighthouse for sale]\n- [The last typewriter shop of {town3}|"
    "{town3} celebrates its cheese|Swimming lessons for adults]\n- [Ten questions for {coach2}|{coach2} publishes a cookbook|{coach2} retires after {years} years]",
    "[Editor's note|Correction|Update, {month} {day_later}]: An earlier version of this [article|text|page] misspelled the name of {town}. [We apologize for the mistake.|It has been corrected.|"
    "A reader named {user2} was the first to notice.] [The headline was shortened as well.|The photograph was taken by {star}.|We thank all readers who wrote in.]",
    "[{reporter}|The author, {reporter},] [lives in {town2} and writes about everyday life in {region}|has written for the {paper} for {years} years|grew up in {town} and owns {number} bicycles]. "
    "[{Reporter_they} can be reached at {mail}.|In {reporter_their} spare time, {reporter_they} restores clocks.|A collection of {reporter_their} columns appeared in {past_year}.]",
    "[Weather for {town} and {region}|The forecast]: [sunshine with a few clouds|showers from the west|fog in the morning, clear later|light frost at night|thunderstorms toward evening], "
    "[a gentle breeze|strong gusts|hardly any wind]. On {weekday2} it will be [warmer|colder|milder|drier]. [Pollen levels are low.|Take a jacket along.|The river is at its usual level.|Roads may be slippery.]",
)
