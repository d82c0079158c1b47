"""The composed stories: well-formed, rich in words, and consistent with the facts of their beginnings."""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinystories.texts import words
from tinystories.texts.plots import PLOTS
from tinystories.texts.stories import OTHER, PRONOUNS, compose_story, draw_facts, tell
from trainer.experiments.sample_corpus import documents, split_of

ROOT = Path(__file__).parents[4]
GENDERED = {"she": {"she", "her", "herself", "hers"}, "he": {"he", "him", "his", "himself"}}
PLOT = {plot.name: plot for plot in PLOTS}


@pytest.fixture(scope="module")
def stories():
    return list(itertools.islice(documents(compose_story, split="train", seed=0), 3000))


def told(name, seed, **changes):
    """Tell one plot; return its facts and its text."""
    rng = random.Random(seed)
    facts = draw_facts(PLOT[name], rng) | changes
    return facts, tell(PLOT[name], facts, rng)


def test_vocabulary(stories):
    vocabulary = {word for story in stories for word in re.findall(r"[a-z]+", story.lower())}
    assert len(vocabulary) >= 1800


def test_length_and_paragraphs(stories):
    lengths = [len(story.split()) for story in stories]
    assert min(lengths) >= 80
    assert max(lengths) <= 250
    assert {story.count("\n") + 1 for story in stories} >= {1, 2, 4, 5}


def test_plots():
    assert len(PLOT) == len(PLOTS) >= 10
    assert len({case["name"] for case in PLOT["fear"].cases}) == len(PLOT["fear"].cases)


@pytest.mark.parametrize(
    "oddity",
    [
        r"[\[\]{}|<>;]",
        r"  |\n\n| \n|\n ",
        r" [.,!?:]",
        r"[.,!?]{2,}",
        r"\b(\w+) \1\b",
        r"\b[Aa] [aeiou](?!ne-)",
        r"\b[Aa]n (?!honest|hour)[^aeiouAEIOU]",
        r"[.!?] [a-z]",
        r"\b(?:None|they's)\b",
        r"[^\x20-\x7e\n]",
    ],
)
def test_no_oddity(stories, oddity):
    found = [
        match[0] + story[match.start() : match.start() + 40] for story in stories if (match := re.search(oddity, story))
    ]
    assert found == []


def test_quotation_marks_are_paired_and_every_paragraph_ends_a_sentence(stories):
    for story in stories:
        for paragraph in story.split("\n"):
            assert paragraph.count('"') % 2 == 0
            assert re.search(r'[.!?]"?$', paragraph), paragraph
            assert paragraph[0].isupper() or paragraph[0] == '"'


def test_nearly_all_stories_are_distinct():
    texts = [compose_story(random.Random(seed)) for seed in range(5000)]
    assert len(set(texts)) >= 4995
    assert 0.04 < sum(split_of(text) == "valid" for text in texts) / len(texts) < 0.09


@pytest.mark.parametrize("pronoun", ["she", "he"])
@pytest.mark.parametrize("name", sorted(PLOT))
def test_pronouns_agree_with_their_owners(name, pronoun):
    """If all persons share a pronoun, no other occurs: every pronoun belongs to somebody, and none is fixed."""
    for seed in range(40):
        rng = random.Random(seed)
        facts = draw_facts(PLOT[name], rng)
        for role in ("hero", "friend", "elder", "helper", "guest", "worker"):
            facts[role] = facts[role] | PRONOUNS[pronoun]
        text = tell(PLOT[name], facts, rng)
        assert not GENDERED[OTHER[pronoun]] & set(re.findall(r"[a-z]+", text.lower())), text


def test_the_friend_has_the_other_pronoun_and_all_names_differ():
    for seed in range(500):
        rng = random.Random(seed)
        facts = draw_facts(PLOTS[seed % len(PLOTS)], rng)
        assert {facts["hero"]["they"], facts["friend"]["they"]} == {"she", "he"}
        names = [facts[role]["name"] for role in ("hero", "friend", "elder", "helper", "guest", "worker")]
        assert len(set(names)) == len(names)


def test_the_lost_toy_lies_where_the_hero_first_was():
    for seed in range(200):
        facts, text = told("lost", seed)
        place, toy = facts["place"], facts["toy"]["name"]
        start, end = text.split("ran back to ")
        went = re.search(
            rf"(?:went|walked|skipped|strolled|hurried|wandered|trotted|marched) to (.+?) with the {toy}", start
        )
        assert went[1] == place["name"]
        assert end.startswith(f"{place['name']}. ")
        assert re.search(rf"{place['spot']} (?:was|lay|rested) the {toy}", end)
        assert place["spot"] not in start


def test_the_helper_can_do_what_the_trouble_asks_for():
    for seed in range(200):
        facts, text = told("rescue", seed)
        case, helper = facts["case"], facts["helper"]["name"]
        assert text.index(case["ability"]) < text.index(case["trouble"]) < text.rindex(case["solved"])
        assert f"{helper} the {case['helper']}" in text
        assert f"{helper} {case['solved']}" in text


def test_the_promise_is_kept():
    for seed in range(200):
        facts, text = told("promise", seed)
        task, kept = facts["case"]["task"], facts["case"]["kept"]
        assert f"Will you {task} " in text
        assert text.index(f"Will you {task} ") < text.index("There is") < text.index(f"ran home and {kept}")


def test_sharing_adds_up():
    number = {"one": 1} | {word: value for value, word in enumerate(words.NUMBERS, 2)}
    for seed in range(200):
        facts, text = told("sharing", seed)
        goods = facts["goods"]
        total = re.search(rf"gave (?:her|him) (\w+) {goods}", text)[1]
        given = re.search(rf"give you (\w+) of my {goods}", text)[1]
        left = re.search(r"Then I still have (\w+)\.", text)[1]
        assert number[total] == number[given] + number[left]
        assert f"Only {left}," in text


def test_the_way_has_the_same_order_forth_and_back():
    for seed in range(100):
        _, text = told("route", seed)
        one, two, three = re.search(r"First you pass (.+?), then (.+?), then (.+?), and then", text).groups()
        assert f"{three}, {two}, {one}.".lower() in text.lower()
        assert f"go back to {one}" in text
        assert f"because {two} comes next" in text


def test_the_trades_form_a_chain():
    for seed in range(100):
        _, text = told("trade", seed)
        chain = re.search(
            r"First I had an? (.+?), then an? (.+?), then an? (.+?), and now I have an? (.+?)!", text
        ).groups()
        assert len(set(chain)) == 4
        assert f"the {chain[0]} and got the {chain[1]}" in text
        assert f"give my {chain[2]} for your {chain[1]}" in text
        assert f"Take the {chain[3]} for it" in text


def test_two_seeds_tell_other_stories_and_one_seed_the_same_in_every_process():
    assert compose_story(random.Random(1)) != compose_story(random.Random(2))
    program = (
        "import random, sys\n"
        "from tinystories.texts.stories import compose_story\n"
        "print(*(compose_story(random.Random(seed)) for seed in range(30)), sep='\\n')\n"
        "assert 'torch' not in sys.modules\n"
    )
    path = f"{ROOT}/packages/trainer/src{os.pathsep}{ROOT}/apps/tinystories/src"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "42")
    }
    assert outputs == {"".join(f"{compose_story(random.Random(seed))}\n" for seed in range(30))}


def test_the_separator_never_occurs(stories):
    assert not any("endoftext" in story for story in stories)
