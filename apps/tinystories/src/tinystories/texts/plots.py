"""Plots of the sample stories: paragraphs of templates whose endings depend on facts from their beginnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinystories.texts import situations

RULES = {
    "opening": (
        "[Once upon a time, there was|Once there was|Not long ago, there was|There once was] {a hero.kind} named {hero}. "
        "{Hero.they} lived in {hero.home} and was [very|quite|always|rather] {trait}.",
        "{Hero} was {a trait} [little|young|small] {hero.kind} who lived in {hero.home}.",
        "In {hero.home} lived {a hero.kind} [named|called] {hero}. [Everyone|The whole village|{Elder}] knew how {trait} {hero.they} was.",
        "{Hero.full} was as {trait} as can be. {Hero.their} home was {hero.home}.",
    ),
    "morning": (
        "One {weather} morning,",
        "On a {weather} day in {weather.months},",
        "Early one {weather} {weekday},",
        "One {weekday} afternoon, when it was {weather} outside,",
        "Last {weekday}, a {weather} day,",
    ),
    "reaction": (
        "But {hero.they} was {trait}, so {hero.they} {trait.reaction}.",
        "{Hero} {trait.reaction}. That is how {trait} {hero.they} was.",
        "Being {trait}, {hero.they} {trait.reaction}.",
        "For a start, {hero} {trait.reaction}.",
        "As always, {hero} {trait.reaction}.",
    ),
    "praise": (
        '"{trait.praise}[!|, {hero}!]" said {elder}.',
        '{Elder} gave {hero.them} a hug. "{trait.praise}," {elder.they} [said|whispered].',
        '"{trait.praise}," {elder} told {hero.them}[| with a wink| at bedtime| and laughed].',
    ),
    "treat_end": (
        "To celebrate, they shared {treat}.",
        "In the evening, {elder} brought out {treat}, and it tasted [wonderful|delicious|better than ever].",
        "Then {elder} gave them {treat}.",
        "Afterwards {hero} and {friend} sat down and enjoyed {treat}.",
        "When they got home, {treat} was waiting for them.",
    ),
    "sad": "[sad|upset|unhappy|miserable|worried|heartbroken|gloomy|disappointed]",
    "glad": "[happy|glad|delighted|overjoyed|pleased|thrilled]",
    "cried": "[cried|shouted|gasped|sobbed|exclaimed|called]",
    "went": "[went|walked|skipped|strolled|hurried|wandered|trotted|marched]",
    "soon": "[Soon|Before long|After a while|A little later|Some minutes later|At last]",
    "weekday": "[Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday]",
    "junk": "[an old glove|a rusty spoon|a cracked cup|a lost button|a dead moth|some crumpled foil|a bent fork|"
    "a hairpin|a wet tissue|a torn ticket|two pencils|an empty bottle|a broken comb|a bit of chalk|a single slipper]",
    "home_again": "[Back at home|At home|That evening|At supper|Before bed|Later that day]",
}


@dataclass(frozen=True)
class Plot:
    """A name, paragraphs, and for some plots a table whose rows tie a problem to its solution (the fact `case`)."""

    name: str
    paragraphs: tuple[str, ...]
    cases: tuple[Mapping[str, str], ...] = field(default=({},))


LOST = Plot(
    "lost",
    (
        "{opening} [Of all {hero.their} things, {hero.they} liked {a toy.full} best|{Hero.their} favorite thing was {a toy.full}"
        "|For {hero.their} birthday, {elder} had given {hero.them} {a toy.full}]. {Hero.they} [loved|liked] to {toy.use}.",
        "{morning} {hero} {went} to {place} with the {toy}. {weather.sign}. There {hero.they} {place.did}[| until noon| for an hour"
        "| and forgot everything else]. Then {hero.they} met {hero.their} friend {friend.full} {place2.at}, and they played {game}.",
        "When [it was time to go home|the game was over|the bells rang], {hero} [noticed|saw] that something was missing. "
        '"[Oh no|Oh dear|Help]! [My {toy} is gone!|I lost my {toy}!|Where is my {toy}?]" {hero.they} {cried}. '
        "{Hero.they} felt {sad}. {reaction}",
        'First they {place2.searched}, but they found only {junk}. ["Think, {hero}. Where were you before?"|"Where did you '
        'have it last?"|"Where else have you been today?"] asked {friend}. {Hero} [closed {hero.their} eyes|scratched '
        '{hero.their} head|thought about it]. "[I was {place.at}|I took it to {place}]," {hero.they} said. "I {place.did}!"',
        "So they ran back to {place}. [And there it was|Sure enough, there it lay]: {place.spot} [was|lay|rested] the {toy}! "
        '["Thank you, {friend}! You helped me remember,"|"I am so glad that you asked me, {friend},"] said {hero}. '
        "[{treat_end}|{praise}|From then on, {hero} looked around {hero.them} before leaving any place.]",
    ),
)

RESCUE = Plot(
    "rescue",
    (
        "{opening} [Not far away|Close by|Just around the corner] lived {helper.full}, who could {case.ability}. [Some neighbors laughed about that"
        "|{Hero} thought that was amazing|Nobody knew what that was good for].",
        "{morning} {hero} [took {hero.their} {toy.full} to {place}|went to {place} with {hero.their} {toy.full}, to {toy.use}]. {weather.sign}. [Suddenly|All of a sudden"
        '|Then, oh no,] the {toy} {case.trouble}! "My {toy}!" {cried} {hero}. {reaction}',
        "First {hero} {case.attempt}, but {case.failed}. [Next {friend.full} came by. {Friend.they} tried the same, but it was no use"
        '|{Hero} tried it {number} times, but it was no use|{Friend.full} tried too, and failed]. "What now?" [asked|sighed] {hero}.',
        '["I know who can help,"|"Let us ask {helper},"] {friend.full} said[| with a smile]. [They went|They ran] to find {helper}. '
        '["Please help us! My {toy} {case.trouble},"|"Dear {helper}, my {toy} {case.trouble},"] said {hero}. '
        '"{Case.lesson}? That is what I do best!" {helper.they} [answered|replied|laughed].',
        '{Helper} {case.solved}. ["Hooray!" shouted {friend}. |]{Hero} [hugged|thanked|kissed] {helper} and was {glad} to have the '
        '{toy} back. [Nobody laughed about {case.lesson} anymore|"Without you, I could not {toy_use_mine}," {hero.they} said'
        "|So {hero} learned that everybody is good at something]. {treat_end}",
    ),
    situations.RESCUES,
)

PROMISE = Plot(
    "promise",
    (
        '{opening} {morning} {elder} had to go to {errand}. "Will you {case.task} [tonight|before dark|today]?" {elder.they} asked. '
        '"It matters, because {case.because}." "[I promise|You have my word|Of course, I promise]," said {hero}.',
        '[At noon|In the afternoon|Some hours later], {friend.full} came running. "{hero}, come quickly! There is {case.temptation} '
        '{venue}!" {friend.they} {cried}. [{Hero} had never seen such a thing|{Hero} wanted to go so much that {hero.their} feet '
        "itched]. {weather.sign}. They {went} there and had [lots of fun|a great time|a splendid afternoon].",
        '[When the sun sank|When the shadows grew long|When a bell struck six], {hero} stopped. "I promised {elder} to {case.task}!" '
        '{hero.they} {cried}. "Just {number} minutes more," begged {friend}. [{Hero} looked back once|It was hard to leave]. {reaction} '
        '"No, {friend}. {Case.because}. A promise is a promise."',
        "So {hero} ran home and {case.kept}[| with {hero.their} own hands| as well as {hero.they} could]. And look: {case.result}! "
        'When {elder} came back from {errand}, {elder.they} [smiled|beamed|nodded]. "You kept your promise, {hero}." [{treat_end}|{praise}]',
    ),
    situations.PROMISES,
)

SHARING = Plot(
    "sharing",
    (
        '{opening} {morning} {elder} gave {hero.them} {count_all} {goods}. "[They are all yours|Do with them what you like]," said {elder}. '
        "{Hero} [counted them twice|put them into a little bag|could hardly wait] and {went} to {outing}.",
        '{weather.sign}. {Outing.at} sat {friend.full}, looking {sad}. "What is wrong, {friend}?" asked {hero}. '
        '["I had {goods} too, but I dropped them all in the mud,"|"Everybody has {goods} but me,"|"I have not had a single thing since '
        'breakfast,"] {friend.they} [said|mumbled|sniffed].',
        "{Hero} looked at the {count_all} {goods}. [It was not easy to part with them|{Hero.they} had wanted to keep every one]. {reaction} "
        '"Here, {friend}. I will give you {count_given} of my {goods}," {hero.they} said. "Then I still have {count_left}."',
        '{Friend} [beamed|jumped for joy|could not believe it]. "{Count_given} {goods} for me? Thank you!" Together they {outing.did}, and '
        'the {goods} were soon forgotten. {home_again}, {elder} asked, "How many {goods} do you have now?" "Only {count_left}," '
        'said {hero}, "but I have {friend}, too." [Sharing makes a little feel like a lot.|{praise}]',
    ),
)

FEAR = Plot(
    "fear",
    (
        "{opening} There was only one thing {hero} could not stand: {case}. [When others talked about it, {hero.they} ran off"
        "|Whenever {hero.they} thought of it, {hero.their} tummy hurt]. {Friend.full} did not know that.",
        "{morning} {friend} came to visit. They {went} to {place} and {place.did}. {weather.sign}. [Later|Afterwards|Then] something "
        'happened: {case.sign}. {Hero} [turned pale|froze|screamed]. "It is {case.imagined}!" {hero.they} {cried}.',
        '"I am here," said {friend}[| and took {hero.their} hand]. ["I used to be afraid of {case} too. Let us look together."'
        '|"Shall we find out what it really is?"] {Hero} did not want to. {reaction} Step by step, they came closer.',
        "And what did they see? It was not {case.imagined} at all. It was only {case.truth}! {Hero} [began to laugh|giggled with relief"
        '|sighed deeply]. {home_again}, {elder} gave {hero.them} {case.comfort}. "Now you need not be afraid of {case} anymore," '
        "{elder.they} said. [And {hero} never was.|{praise}|{Hero} still shivered sometimes, but {hero.they} always looked twice.]",
    ),
    situations.FEARS,
)

BREAKAGE = Plot(
    "breakage",
    (
        '{opening} {Elder} owned {a case.thing} and was very fond of it. "Please be careful near my {case.thing}," {elder.they} '
        "[often said|always warned]. {morning} {elder} {went} to {errand}, and {hero} was alone with {friend.full}.",
        '"I am bored," said {friend}. So they {case.play}. [It was great fun, until|They laughed and laughed. Then] the '
        '{case.thing} {case.how}! [For a moment it was silent|"Uh-oh," whispered {friend}|Nobody dared to breathe].',
        '"We could [hide it|say the wind did it|blame the cat]," said {friend}. {Hero} [shook {hero.their} head|felt a lump in {hero.their} '
        'throat|did not like that]. {reaction} "No, {friend}. We must tell {elder} that we {case.play}."',
        'When {elder} came back from {errand}, {hero} [took a step forward|looked at the floor]. "I am sorry. We {case.play}, and your {case.thing} '
        '{case.how}," {hero.they} said. {Elder} was {sad}, but {elder.they} was not angry for long. '
        '"Thank you for [telling me|being honest]. We can {case.fix}. All we need is {case.tool}."',
        'They worked together until the {case.thing} was [as good as new|almost like before]. ["It is even more special now," said {elder}.'
        "|{treat_end}] {Hero} learned that the truth mends more than [glue|any tool|a thousand excuses].",
    ),
    situations.BREAKAGES,
)

GIFT = Plot(
    "gift",
    (
        "{opening} {Elder}'s {case.event} was [near|only {number} days away|coming up], and {hero} wanted to make {case.gift}. "
        '"What do we need?" asked {friend.full}. "Three things: {case.first}, {case.second}, and {case.last}," said {hero}.',
        "{morning} they began. {weather.sign}. They found {case.first} {place.at} and {case.second} {place2.at}. But there was no trace of "
        '{case.last}! [They looked everywhere|They asked all the neighbors|They searched until their legs hurt]. "Without {case.last}, '
        'there will be no gift," said {hero}, and {hero.they} felt {sad}.',
        '{reaction} Then {friend} [clapped {friend.their} hands|had an idea|jumped up]. "I have seen {case.last} {case.where}!" '
        "[Off they went|They rushed over], and indeed, {case.where} was just what they needed.",
        'On the great day, {hero} [held out|proudly showed|gave {elder}] the gift. "{Case.gift}! And you made it [all alone|yourself]?" '
        'asked {elder}. "{friend} found {case.last}," {hero} said at once. {Elder} {case.use}. '
        "[A gift made by two pairs of hands is the best of all.|{praise}]",
    ),
    situations.GIFTS,
)

SKILL = Plot(
    "skill",
    (
        "{opening} [More than anything, {hero.they} wanted to {case.infinitive}|{Hero.their} big dream was to {case.infinitive}]. "
        '"{Case.name} is hard," warned {hero.their} friend {friend}, "but I know you can learn it."',
        '{morning} they {went} to {case.where}. {weather.sign}. The first time, {hero} {case.first_fail}. "Try again," said {friend}. '
        'The second time, {hero.they} {case.second_fail}. ["I will never learn it!" {hero.they} {cried}|{Hero} felt {sad} and sat down].',
        '{Elder} had watched it all. "{Case.advice}," {elder.they} said. "That was how I learned to {case.infinitive}, too." {reaction}',
        '"{Case.advice}," {hero.they} [murmured|repeated|told {hero.themself}]. It did not work on the third try. [It almost worked after '
        'that. |]But on the {ordinal} try, {hero} {case.success}! "You did it!" shouted {friend}. "It took {tries} tries, and now you are a real {case.praise}!"',
        "[{treat_end}|{praise}|That night, {hero} dreamed of {case}.] [Whoever keeps on trying will get there one day.|Practice and good advice go a long way.|]",
    ),
    situations.SKILLS,
)

NEWCOMER = Plot(
    "newcomer",
    (
        "{opening} {morning} a new neighbor moved into {case.home}. It was {a case.kind} named {guest}. {weather.sign}. "
        "{Hero} {went} over to say hello, but {guest} {case.habit}.",
        '"Maybe {guest} does not like me," {hero} told {friend.full}. "[{guest} is only shy|Everyone is shy in a new place]," said {friend}. '
        '"What does {a case.kind} like to eat?" {Hero} did not know. {reaction} Then {hero.they} asked {elder}. '
        '"{Case.food}," said {elder}. "Every {case.kind} loves that."',
        "So the next day, {hero} took {case.food} to {case.home}, [put down the gift|left everything on the ground] and sat very still. "
        "{Hero.they} waited for {number} minutes. [A nose appeared|Something rustled|There was a soft sound]. First {guest} {case.habit}, "
        "just as before. Then {guest.they} came closer and closer, and [ate every bite|did not leave a crumb|ate it all up].",
        '"My name is {hero}. Do you want to play {game}?" "Yes, please," said {guest}, and out of pure joy {guest.they} {case.thanks}. '
        "[Since that day, {hero}, {friend}, and {guest} are always together|{Hero} was {glad}, and so was {friend}]. "
        "[{praise}|A friendly heart and a little patience open every door.|{treat_end}]",
    ),
    situations.NEWCOMERS,
)

STORM = Plot(
    "storm",
    (
        '{opening} {morning} {hero} and {friend.full} wanted to hike to {outing}. {weather.sign}. "Take {a case.item} with you," said {elder}. '
        '["But it is so heavy!" {hero} complained|"What for? Nothing will happen," said {hero}|{Hero} rolled {hero.their} eyes]. '
        "Still, {hero.they} packed the {case.item} next to {hero.their} {toy}.",
        "[The way was long and they sang songs|On the way they played {game}|They picked berries as they went]. {Outing.at} they {outing.did}. "
        'But on the way back, {case.sky}, and {case.effect}. "What shall we do?" {cried} {friend}.',
        '{reaction} Then {hero} remembered what {elder} had said. "The {case.item}!" [{Hero.they} opened {hero.their} bag|{Hero.they} reached '
        'past the {toy}] and {case.use}. ["That is much better," said {friend}|"You saved us," said {friend}|{Friend} sighed with relief].',
        '[An hour later|Before supper|Tired but safe], they came home. "Did you need the {case.item}?" asked {elder}. "You were right," said '
        '{hero}. "[It was not heavy at all|I will always listen to you|I will never leave without it]." {treat_end}',
    ),
    situations.STORMS,
)

FAVOR = Plot(
    "favor",
    (
        "{opening} {morning} {hero} {went} to {outing}. {weather.sign}. On the path {hero.they} saw {a case.creature} {case.stuck}. "
        '"[Please help me|Help, help]!" it [squeaked|called|begged]. {Hero} {case.freed}. "Thank you, {hero}," said the {case.creature}. '
        '"[One day I will help you|I will never forget that|I will pay you back]."',
        '{Friend.full} [laughed|grinned] when {friend.they} heard about it. "{A case.creature}? How could {a case.creature} ever help you?" '
        '{Hero} only shrugged. "I did not do it for a reward," {hero.they} said. Then they {outing.did} and forgot about it.',
        '[Three weeks later|A month later|The next spring|When nobody expected it], {hero} {case.trouble}. "[Is anybody there?|Help me, please!]" {hero.they} {cried}. '
        '[Nobody came for a long time|{Friend} was far away]. {reaction} Then {hero.they} heard a voice. "Do not worry! Do you remember me?"',
        'It was the {case.creature} that had once been {case.stuck}! And the {case.creature} {case.repaid}. "You saved me!" said {hero}. '
        '"You helped me first," the {case.creature} answered. [When {friend} heard the story, {friend.they} never laughed again. |]'
        "[Kindness always finds its way back.|No friend is too small or too strange.|{treat_end}]",
    ),
    situations.FAVORS,
)

MYSTERY = Plot(
    "mystery",
    (
        '{opening} {morning} {elder} called, "{hero}! Somebody has taken the {case.stolen} from {case.from}!" [{Hero} put on {hero.their} '
        'detective hat|{Hero} loved riddles|"I will solve this case," said {hero}]. {weather.sign}. {Friend.full} came along as {hero.their} helper.',
        '[First|To begin with], they looked closely at {case.from}. There they found {case.clue}. "{Case.reading} was here," said {hero}. '
        '["Was it you?" they asked a passing tortoise. "I am much too slow," it said. |"Maybe it was a ghost," whispered {friend}. '
        '|"It was not me," said {friend} quickly. ]{reaction}',
        'They hid {place.at} and waited for {number} minutes. {soon}, {a case.culprit} [sneaked by|crept out|appeared] with some of the {case.stolen}. "Stop!" [shouted|called] '
        '{hero}. "You took the {case.stolen}. We found {case.clue}!" The {case.culprit} [hung its head|began to weep|turned red]. "I am sorry. {Case.reason}."',
        '{Hero} was no longer angry. "Next time, just ask," {hero.they} said. {home_again}, {elder} heard the whole tale: {case.reason}. '
        "So {elder.they} packed a basket for the {case.culprit}. [Case closed!|And the {case.stolen} never vanished again.|{praise}]",
    ),
    situations.MYSTERIES,
)

TRADE = Plot(
    "trade",
    (
        "{opening} In the window of a little store, {hero.they} had seen {a toy.full}. How {hero.they} would love to {toy.use}! But {hero.they} "
        'had no money. All {hero.they} owned was {a toy2.full}. ["Maybe I can trade," {hero.they} thought|"Try trading," advised {elder}].',
        '{morning} {hero} {went} to {place}. {weather.sign}. {Friend.full} was there with {a toy3.full}. "I wish I had {a toy2}," {friend.they} said. '
        '"I wish I had {a toy3}," said {hero}. "Shall we trade?" So {hero} gave {friend} the {toy2} and got the {toy3}.',
        '{Outing.at}, {hero} met {helper.full}, who had {a toy4.full}. "I would give my {toy4} for your {toy3}," said {helper}. [{Hero} thought '
        "for a moment|{Hero} liked the {toy3}]. {reaction} Then {hero.they} shook {helper}'s hand. Now {hero} had the {toy4}.",
        'The owner of the store looked at the {toy4}. "My grandchild has always wanted {a toy4}! Take the {toy} for it." {Hero} was {glad}. '
        '{home_again}, {hero.they} told {elder}, "First I had {a toy2}, then {a toy3}, then {a toy4}, and now I have {a toy}!" [{praise}|"What a day!" laughed {elder}.]',
    ),
)

ROUTE = Plot(
    "route",
    (
        '{opening} {morning} {hero} was allowed to walk to {outing} alone for the very first time. "Listen well," said {elder}. "First you pass '
        '{mark1}, then {mark2}, then {mark3}, and then you are there." "{Mark1}, {mark2}, {mark3}," repeated {hero}.',
        "{weather.sign}. [{Hero} sang as {hero.they} walked|{Hero} carried {treat} in a basket|{Hero} took {hero.their} {toy} along]. Soon {hero.they} passed {mark1}. "
        'There stood {friend.full}. "I know a shortcut," said {friend}. [They took the shortcut|They left the road]. But it ended at {mark4}, '
        "which {elder} had not mentioned!",
        '"We are lost," {cried} {friend}. {reaction} "We must go back to {mark1}," said {hero}, "because {mark2} comes next." They turned '
        "around. [Hand in hand|Slowly|Carefully], they found {mark1} again. After that came {mark2}, and behind it {mark3}.",
        '"{Mark3}! Now we are there!" shouted {hero}, and they really were. {Outing.at} they {outing.did} [until evening|until the stars came out|until lunchtime]. '
        'On the way home, {hero} said it backwards: "{Mark3}, {mark2}, {mark1}." [{praise}|And this time nobody asked for a shortcut.|{treat_end}]',
    ),
)

JOB = Plot(
    "job",
    (
        '{opening} "What will you be when you grow up?" asked {elder}. {Hero} did not know. {morning} {hero.they} {went} past {case.place}. '
        '{weather.sign}. Inside, {worker.full} was busy with {case.tool}. "May I help you?" asked {hero}.',
        '"Gladly," said {worker}. "I must make {number} orders of {case.product} today. You can {case.task}." [It looked easy, but it was not'
        "|{Hero} was so excited that everything went wrong]. [{Hero.their} first try was a mess|{Hero.they} had to start over {number} times]. {reaction}",
        '"Here is my secret," said {worker}. "{Case.trick}. My own teacher taught me that." {Hero} tried it[| once more]. "{Case.trick}," {hero.they} [whispered|mumbled]. '
        'And this time it worked! {soon}, {friend.full} looked in. "I want to {case.task} too!" {friend.they} said. '
        '"Then {case.trick}," said {hero}, as if {hero.they} had always known it.',
        'In the evening, {worker} gave {hero.them} some {case.product} to take home. "[Come back any time|You are always welcome here|You have golden hands]," {worker.they} said. '
        '"Well?" asked {elder}. "Now I know what I will be," {hero} said. "{A case}!" [{praise}|"Then I will be your first customer," laughed {elder}.]',
    ),
    situations.JOBS,
)

SEED = Plot(
    "seed",
    (
        '{opening} {morning} {elder} gave {hero.them} {case.seed}. "[What will it be|What will grow from it|What is inside]?" {hero} asked. '
        '"{Case.riddle}," said {elder}. {Hero} planted it [in the garden|in a clay pot|by the fence|behind the shed|under the window] and watered it every {weekday}.',
        'For {number} weeks, nothing happened. "[It is dead|Give up|Dig it out]," said {hero.their} friend {friend}. {reaction} '
        "Then a [tiny|pale|small green] sprout came up, and soon there was {a case}! {Elder} had told the truth: {case.because}. "
        "[{treat_end}|Good things take time.|Together they made {case.dish}.]",
    ),
    situations.SEEDS,
)

QUARREL = Plot(
    "quarrel",
    (
        '{opening} {morning} {hero} and {friend.full} found {a toy.full} {place.at}. [Both of them grabbed it|Both wanted it at once]. "I saw it '
        'first!" shouted {hero}. "No, I want to {toy_use_mine}!" shouted {friend}. {weather.sign}, but neither of them noticed.',
        "They pulled so hard that both fell down. [{Friend} began to cry|It was quiet for a moment]. {reaction} "
        '"Let us take turns," said {hero}. "You have the {toy} for {number} minutes, and then I have it for {number} minutes." '
        "{Friend} agreed. [And so both of them could play|After that, they even shared {treat}]. Two friends are worth more than one {toy}.",
    ),
)

PLOTS = (
    SEED, QUARREL,
    LOST, RESCUE, PROMISE, SHARING, FEAR, BREAKAGE, GIFT, SKILL, NEWCOMER, STORM, FAVOR, MYSTERY, TRADE, ROUTE, JOB,
)  # fmt: skip
