"""The sample corpus: short stories for small children, composed from a grammar.

A story first draws its facts (characters, place, toy, a problem and its solution) and then tells them in one of many
phrasings. Facts mentioned twice agree, so that a model can learn more than single sentences.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from tinystories.texts import words
from tinystories.texts.plots import PLOTS, RULES, Plot
from trainer.experiments.grammar import Fact, Grammar, pick, pick_distinct

PRONOUNS = {
    "she": {"they": "she", "them": "her", "their": "her", "themself": "herself"},
    "he": {"they": "he", "them": "him", "their": "his", "themself": "himself"},
}
OTHER = {"she": "he", "he": "she"}
_NAMES = {"she": words.GIRLS, "he": words.BOYS}
_KINDS = {"she": "girl", "he": "boy"}
_HOMES = (
    "a tall brick house|a cottage by the sea|a village among the hills|a flat above the bakery|a cabin in the woods|"
    "a houseboat on the canal|a busy town|a farmhouse with green shutters|a house with {number} windows|a lighthouse|"
    "a white house at the edge of the city|a valley full of poppies|an old mill|a caravan with round windows"
).split("|")
_GRAMMAR = Grammar(RULES)


def compose_story(rng: random.Random) -> str:
    """Compose one story of 80 to 250 words, in one paragraph or several."""
    plot = pick(rng, PLOTS)
    return tell(plot, draw_facts(plot, rng), rng)


def draw_facts(plot: Plot, rng: random.Random) -> dict[str, Fact]:
    """Draw all facts of a plot's templates; the friend's pronoun differs from the hero's, and all names differ."""
    case = pick(rng, plot.cases)
    pronoun = pick(rng, ("she", "he"))
    animal_names = pick_distinct(rng, words.ANIMAL_NAMES, 4)
    hero = _character(rng, pronoun, animal_names[0])
    friend = _character(rng, OTHER[pronoun], animal_names[1])
    elder_pronoun = pick(rng, ("she", "he"))
    place, place2 = pick_distinct(rng, words.PLACES, 2)
    marks = pick_distinct(rng, words.LANDMARKS, 4)
    toys = [toy | {"full": f"{toy['look']} {toy['name']}"} for toy in map(dict, pick_distinct(rng, words.TOYS, 4))]
    total = 4 + int(rng.random() * 9)
    given = 2 + int(rng.random() * (total - 3))
    tries = 4 + int(rng.random() * 4)
    helper_kind = case.get("helper") or pick(rng, words.SPECIES)["name"]
    facts: dict[str, Fact] = {
        "case": case,
        "hero": hero,
        "friend": friend,
        "elder": {"name": pick(rng, words.ELDERS[elder_pronoun]), **PRONOUNS[elder_pronoun]},
        "helper": _named(animal_names[2], helper_kind, pick(rng, ("she", "he"))),
        "guest": _named(animal_names[3], case.get("kind", ""), pick(rng, ("she", "he"))),
        "trait": pick(rng, words.TRAITS),
        "weather": pick(rng, words.WEATHER),
        "place": place,
        "place2": place2,
        "outing": pick(rng, words.OUTINGS),
        "venue": pick(rng, words.VENUES),
        "errand": pick(rng, words.ERRANDS),
        "toy": toys[0],
        "toy_use_mine": toys[0]["use"].replace("{hero.their}", "my"),  # in direct speech
        "toy2": toys[1],
        "toy3": toys[2],
        "toy4": toys[3],
        "treat": pick(rng, words.TREATS),
        "game": pick(rng, words.GAMES),
        "goods": pick(rng, words.GOODS),
        "number": pick(rng, words.NUMBERS),
        "count_all": words.NUMBERS[total - 2],
        "count_given": words.NUMBERS[given - 2],
        "count_left": words.NUMBERS[total - given - 2] if total - given > 1 else "one",
        "ordinal": words.ORDINALS[tries - 1],
        "tries": words.NUMBERS[tries - 2],
        **{f"mark{number}": mark for number, mark in enumerate(marks, 1)},
    }
    worker_pronoun = pick(rng, ("she", "he"))
    worker_names = [name for name in _NAMES[worker_pronoun] if name not in (_name(hero), _name(friend))]
    facts["worker"] = _named(pick(rng, worker_names), case.get("name", ""), worker_pronoun)
    return facts


def tell(plot: Plot, facts: Mapping[str, Fact], rng: random.Random) -> str:
    """Tell a plot with the given facts; a third of the stories is one paragraph, the others have one per line."""
    separator = pick(rng, (" ", "\n", "\n"))
    return separator.join(_GRAMMAR.render(paragraph, facts, rng).strip() for paragraph in plot.paragraphs)


def _character(rng: random.Random, pronoun: str, animal_name: str) -> dict[str, str]:
    """Draw a child (three times in five) or an animal."""
    if rng.random() < 0.6:
        name = pick(rng, _NAMES[pronoun])
        return {"name": name, "full": name, "kind": _KINDS[pronoun], "home": pick(rng, _HOMES), **PRONOUNS[pronoun]}
    species = pick(rng, words.SPECIES)
    return _named(animal_name, species["name"], pronoun) | {"home": species["home"]}


def _named(name: str, kind: str, pronoun: str) -> dict[str, str]:
    return {"name": name, "full": f"{name} the {kind}", "kind": kind, **PRONOUNS[pronoun]}


def _name(fact: Fact) -> str:
    return fact if isinstance(fact, str) else fact["name"]
