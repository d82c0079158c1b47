"""Short articles in the style of web text, composed from a grammar: the sample corpus.

An article first draws its facts, including numbers that agree with each other (halves with totals, prices with
discounts, counts with percentages), and then states them in one of many phrasings.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from owt_leaderboard.texts import templates, words
from trainer.experiments.grammar import Fact, Grammar, pick, pick_distinct

Facts = dict[str, Fact]
Cases = Sequence[Mapping[str, str]]

_GRAMMAR = Grammar(templates.RULES)
_ORDINALS = "second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
_OPENING_QUOTE = re.compile(r'(?:(?<=[\s(—])|^)"', re.MULTILINE)


def between(rng: random.Random, low: int, high: int) -> int:
    """Draw an integer from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def compose_article(rng: random.Random) -> str:
    """Compose one article of 80 to 350 words: a headline and paragraphs separated by blank lines."""
    paragraphs, cases, draw_numbers = pick(rng, KINDS)
    facts = draw_facts(pick(rng, cases), rng)
    draw_numbers(rng, facts)
    paragraphs += tuple(pick_distinct(rng, templates.BACKGROUND, between(rng, 0, 3)))
    texts = [_GRAMMAR.render(paragraph, facts, rng).strip() for paragraph in paragraphs]
    article = "\n\n".join(text[:1].upper() + text[1:] for text in texts)
    return pick(rng, (_plain, _typographic))(article)


def _plain(text: str) -> str:
    return text.replace(" -- ", " - ")


def _typographic(text: str) -> str:
    text = _OPENING_QUOTE.sub("“", text.replace(" -- ", " — "))
    return text.replace('"', "”").replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def draw_facts(case: Mapping[str, str], rng: random.Random) -> Facts:
    """Draw the people, places and dates that an article may mention; all names and towns are distinct."""
    town, town2, town3 = pick_distinct(rng, words.TOWNS, 3)
    surnames = pick_distinct(rng, words.SURNAMES, 9)
    facts: Facts = {"case": case, "town": town, "town2": town2, "town3": town3, "town_capitals": town.upper()}
    for role in ("reporter", "star", "coach", "coach2", "mayor", "opponent", "expert", "witness"):
        woman = rng.random() < 0.5
        facts[role] = f"{pick(rng, words.WOMEN if woman else words.MEN)} {surnames.pop()}"
        facts[f"{role}_they"], facts[f"{role}_their"] = ("she", "her") if woman else ("he", "his")
    users = pick_distinct(rng, words.HANDLES, 3)
    weekday, weekday2 = pick_distinct(rng, words.WEEKDAYS, 2)
    day = between(rng, 1, 21)
    month = int(rng.random() * 12)
    site = f"{town.lower().replace(' ', '-')}.example.com"
    return facts | {
        "user1": f"{users[0]}{between(rng, 2, 99)}",
        "user2": f"{users[1]}_{pick(rng, _NUMBERS)}",
        "user3": f"Old_{users[2]}",
        "paper": f"{town} {pick(rng, words.PAPERS)}",
        "region": pick(rng, words.REGIONS),
        "weekday": weekday,
        "weekday2": weekday2,
        "month": words.MONTHS[month],
        "month2": words.MONTHS[(month + between(rng, 2, 6)) % 12],
        "day": str(day),
        "day_next": str(day + 1),
        "day_later": str(day + between(rng, 2, 7)),
        "year": str(between(rng, 2027, 2035)),
        "past_year": str(between(rng, 1994, 2012)),
        "years": str(between(rng, 3, 35)),
        "age": str(between(rng, 18, 89)),
        "hour": str(between(rng, 1, 5)),
        "hour_later": str(between(rng, 6, 10)),
        "people": f"{between(rng, 21, 880) * 100:,}",
        "founded": str(between(rng, 1180, 1890)),
        "minutes": str(between(rng, 4, 18) * 5),
        "number": pick(rng, _NUMBERS),
        "ordinal": pick(rng, _ORDINALS),
        "attendance": f"{between(rng, 11, 180) * 50:,}",
        "speed": str(between(rng, 18, 32) * 5),
        "season": pick(rng, ("spring", "summer", "autumn", "winter")),
        "color": pick(rng, ("navy blue", "charcoal", "olive green", "ivory", "burgundy", "teal", "rust red")),
        "relative": pick(rng, ("brother", "sister", "grandmother", "roommate", "father-in-law", "cousin", "landlord")),
        "venue": pick(rng, ("fire station", "old brewery", "town hall", "grammar school", "silo", "post office")),
        "adjective": pick(rng, ("tense", "lively", "fast-paced", "scrappy", "memorable", "rain-soaked", "dramatic")),
        "tired": pick(rng, ("tired", "heavy", "young", "nervous")),
        "dish": pick(rng, words.DISHES)["name"],
        "price": str(between(rng, 4, 38)),
        "likes": str(between(rng, 3, 240)),
        "url": pick(rng, (f"https://{site}/{between(rng, 100, 999)}", f"www.example.com/{site.split('.')[0]}")),
        "mail": f"{pick(rng, ('editor', 'info', 'desk', 'office', 'hello'))}@{site}",
    }


def _whole(**values: int) -> Facts:
    """Format integers with thousands separators."""
    return {name: f"{value:,}" for name, value in values.items()}


def _parts(rng: random.Random, total: int, least: int) -> tuple[int, int, int]:
    """Split a total into three random parts, each at least `least`."""
    first = between(rng, least, total - 2 * least)
    second = between(rng, least, total - first - least)
    return first, second, total - first - second


def _sports_numbers(rng: random.Random, facts: Facts) -> None:
    case = facts["case"]
    assert not isinstance(case, str)
    many = 40 if case["name"] in ("basketball", "netball") else 14 if case["unit"] == "points" else 5
    first_home, first_away, second_home, second_away = (between(rng, many // 3, many) for _ in range(4))
    if first_home + second_home == first_away + second_away:
        second_home += 1
    home_town, away_town = facts["town"], facts["town2"]
    nicknames = pick_distinct(rng, words.NICKNAMES, 2)
    home, away = f"{home_town} {nicknames[0]}", f"{away_town} {nicknames[1]}"
    total_home, total_away = first_home + second_home, first_away + second_away
    winner, loser = (home, away) if total_home > total_away else (away, home)
    wins, losses = between(rng, 3, 14), between(rng, 0, 9)
    facts |= _whole(
        first_home=first_home,
        first_away=first_away,
        second_home=second_home,
        second_away=second_away,
        total_home=total_home,
        total_away=total_away,
        high=max(total_home, total_away),
        low=min(total_home, total_away),
        wins=wins,
        losses=losses,
        games=wins + losses,
        minute=between(rng, 24, 29),
    )
    facts |= {"home": home, "away": away, "winner": winner, "loser": loser, "home_town": home_town}
    facts |= {"place": pick(rng, ("first", *_ORDINALS[:7])), "ordinal": ("first", *_ORDINALS, *_TEENS)[wins - 1]}


_TEENS = ("thirteenth", "fourteenth")


def _council_numbers(rng: random.Random, facts: Facts) -> None:
    members = between(rng, 11, 31)
    votes_for = between(rng, 2, members - 4)
    votes_abstain = between(rng, 1, 2)
    votes_against = members - votes_for - votes_abstain
    cost_town, cost_region = between(rng, 12, 900) * 1000, between(rng, 8, 400) * 1000
    facts |= _whole(
        votes_for=votes_for, votes_against=votes_against, votes_abstain=votes_abstain, votes_all=members,
        cost_town=cost_town, cost_region=cost_region, cost_all=cost_town + cost_region,
    )  # fmt: skip
    facts["verdict"] = "approved" if votes_for > votes_against else "rejected"
    facts["verdict_verb"] = "Approves" if votes_for > votes_against else "Rejects"


def _survey_numbers(rng: random.Random, facts: Facts) -> None:
    hundreds = between(rng, 4, 30)
    yes, no, unsure = _parts(rng, 100, 7)
    facts |= _whole(
        sample=hundreds * 100, percent_yes=yes, percent_no=no, percent_unsure=unsure,
        count_yes=hundreds * yes, count_no=hundreds * no, count_unsure=hundreds * unsure, margin=between(rng, 2, 5),
    )  # fmt: skip


def _howto_numbers(rng: random.Random, facts: Facts) -> None:
    price, saved = between(rng, 5, 45), between(rng, 30, 180)
    facts |= _whole(price=price, price_big=price + saved, saved=saved)


def _review_numbers(rng: random.Random, facts: Facts) -> None:
    overall = between(rng, 5, 9)
    shift = between(rng, 0, 1)
    scores = pick_distinct(rng, (overall - shift, overall, overall + shift), 3)
    twenties, percent = between(rng, 2, 24), between(rng, 1, 8) * 5
    price = twenties * 20
    facts |= _whole(score_one=scores[0], score_two=scores[1], score_three=scores[2], overall=overall)
    facts |= _whole(list=price, percent=percent, sale=price * (100 - percent) // 100)
    facts["model"] = f"{pick(rng, 'ABCDEGKLMRSTVX')}{between(rng, 2, 9)}{between(rng, 0, 9)}0"


def _recipe_numbers(rng: random.Random, facts: Facts) -> None:
    servings, prep, cook = between(rng, 2, 8), between(rng, 2, 8) * 5, between(rng, 3, 18) * 5
    grams = servings * pick(rng, (60, 75, 80, 100, 120))
    facts |= _whole(
        servings=servings, grams=grams, grams_double=2 * grams, grams_second=servings * pick(rng, (40, 50, 70)),
        grams_third=servings * pick(rng, (20, 25, 30)), spoons=between(rng, 2, 4), prep=prep, cook=cook, total=prep + cook,
    )  # fmt: skip


def _news_numbers(rng: random.Random, facts: Facts) -> None:
    men, women = between(rng, 2, 12), between(rng, 2, 12)
    facts |= _whole(men=men, women=women, injured=men + women, damage=between(rng, 8, 950) * 1000)
    facts["one_detail"] = f"the oldest of them is {between(rng, 71, 96)}"


def _event_numbers(rng: random.Random, facts: Facts) -> None:
    price, group, off = between(rng, 5, 30), between(rng, 4, 12), between(rng, 1, 4)
    facts |= _whole(price=price, group=group, group_full=price * group, group_price=(price - off) * group)
    facts["child_age"] = str(between(rng, 5, 14))


def _travel_numbers(rng: random.Random, facts: Facts) -> None:
    one, two = between(rng, 2, 9), between(rng, 2, 9)
    bed, food, tickets = between(rng, 35, 120), between(rng, 18, 60), between(rng, 6, 40)
    facts |= _whole(distance_one=one, distance_two=two, distance_all=one + two)
    facts |= _whole(bed=bed, food=food, tickets=tickets, budget=bed + food + tickets)
    for number, sight in enumerate(pick_distinct(rng, words.SIGHTS, 3), 1):
        facts |= {f"sight{number}": sight["name"], f"sight{number}_detail": sight["detail"]}
        facts[f"sight{number}_hint"] = sight["hint"]


def _nature_numbers(rng: random.Random, facts: Facts) -> None:
    counts = [between(rng, 6, 140) for _ in range(3)]
    total = sum(counts)
    change = between(rng, 3, total // 2) * pick(rng, (1, 1, -1))
    facts |= _whole(count_one=counts[0], count_two=counts[1], count_three=counts[2], count_all=total)
    facts |= _whole(count_before=total - change, count_change=abs(change))
    facts["trend"] = "grown" if change > 0 else "fallen"
    good, bad = ("{Case.name} return to {region}", "Good news for {case.name}"), ("Fewer {case.name} in {region}",)
    facts["trend_headline"] = pick(rng, good if change > 0 else bad)


def _release_numbers(rng: random.Random, facts: Facts) -> None:
    major, minor = between(rng, 1, 9), between(rng, 1, 14)
    after, saved = between(rng, 20, 400), between(rng, 15, 600)
    facts |= {"version": f"{major}.{minor}", "version_old": f"{major}.{minor - 1}"}
    facts |= _whole(ms_before=after + saved, ms_after=after, ms_saved=saved)
    facts |= _whole(changes=between(rng, 24, 310), authors=between(rng, 3, 23))


def _business_numbers(rng: random.Random, facts: Facts) -> None:
    before, percent = between(rng, 8, 300) * 100, between(rng, 2, 40)
    here, there = between(rng, 6, 160), between(rng, 4, 80)
    more = before * percent // 100
    facts |= _whole(sold_before=before, percent=percent, sold_more=more, sold_now=before + more)
    facts |= _whole(staff=here + there, staff_here=here, staff_there=there)


KINDS: tuple[tuple[tuple[str, ...], Cases, Callable[[random.Random, Facts], None]], ...] = (
    (templates.SPORTS, words.SPORTS, _sports_numbers),
    (templates.COUNCIL, words.PROPOSALS, _council_numbers),
    (templates.SURVEY, words.PROPOSALS, _survey_numbers),
    (templates.HOWTO, words.TASKS, _howto_numbers),
    (templates.REVIEW, words.PRODUCTS, _review_numbers),
    (templates.RECIPE, words.DISHES, _recipe_numbers),
    (templates.NEWS, words.INCIDENTS, _news_numbers),
    (templates.FORUM, words.QUESTIONS, lambda rng, facts: None),
    (templates.EVENT, words.EVENTS, _event_numbers),
    (templates.TRAVEL, ({},), _travel_numbers),
    (templates.NATURE, words.SPECIES, _nature_numbers),
    (templates.RELEASE, words.PROGRAMS, _release_numbers),
    (templates.BUSINESS, words.COMPANIES, _business_numbers),
)
