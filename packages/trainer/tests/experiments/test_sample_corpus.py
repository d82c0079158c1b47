"""The grammar engine and the streams: against plain string work, brute-force splits and other processes."""

import itertools
import os
import random
import re
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.experiments.grammar import Grammar, capitalise, pick, pick_distinct, table, with_article
from trainer.experiments.sample_corpus import CorpusReport, documents, split_of, write_corpus

SOURCE = Path(__file__).parents[1] / "src"


def sentence(rng):
    """Half a million sentences of six words."""
    return " ".join(f"word{int(rng.random() * 9)}" for _ in range(6)) + "."


def take(count, **options):
    return list(itertools.islice(documents(sentence, **options), count))


def render(template, facts=None, rules=None, seed=0):
    return Grammar(rules).render(template, facts or {}, random.Random(seed))


def test_slots_facts_fields_rules_articles_and_capitals():
    facts = {"hero": {"name": "mia", "their": "her"}, "toy": "orange kite", "nested": "{hero}'s {toy}"}
    assert render("{Hero} flew {a toy} with {hero.their} mom.", facts) == "Mia flew an orange kite with her mom."
    assert render("{A toy}! {Nested}, {a animal}.", facts, {"animal": "[unicorn]"}) == (
        "An orange kite! Mia's orange kite, a unicorn."
    )
    assert render("no holes") == "no holes"
    assert render("") == ""


def test_facts_win_over_rules_and_rules_may_have_alternatives():
    assert render("{x}", {"x": "fact"}, {"x": "rule"}) == "fact"
    assert {render("{x}", rules={"x": ["a", "b"]}, seed=seed) for seed in range(20)} == {"a", "b"}


def test_choices_nest_and_all_alternatives_occur_equally_often():
    texts = [render("[a|b[c|d]|]", seed=seed) for seed in range(3000)]
    share = {text: texts.count(text) / 3000 for text in set(texts)}
    assert share == pytest.approx({"a": 1 / 3, "": 1 / 3, "bc": 1 / 6, "bd": 1 / 6}, abs=0.05)


@given(st.text(st.characters(blacklist_characters="[]|{}")))
def test_text_without_holes_is_left_alone(text):
    assert render(text) == text
    assert render("{fact}", {"fact": text}) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a [b", "has a '[' without its ']': close it"),
        ("a | b", "has '|' outside brackets"),
        ("a ] b", "has ']' outside brackets"),
        ("a { b", "malformed slot '{'"),
        ("a } b", "malformed slot '}'"),
        ("{two words}", "malformed slot '{two words}'"),
        ("{}", "malformed slot '{}'"),
    ],
)
def test_malformed_templates(template, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        render(template)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=re.escape(message)):
        Grammar({"rule": template})


def test_unfillable_slots():
    with pytest.raises(ValueError, match=r"slot 'hiro' is unknown: expected a fact \(hero\) or a rule \(day\)"):
        render("{hiro}", {"hero": "Mia"}, {"day": "x"})
    with pytest.raises(ValueError, match="slot 'hero' has no field 'age': expected one of name, their"):
        render("{hero.age}", {"hero": {"name": "Mia", "their": "her"}})
    with pytest.raises(ValueError, match="asks a field of plain text 'Mia': drop the field"):
        render("{hero.age}", {"hero": "Mia"})
    with pytest.raises(ValueError, match="slot 'day' is unknown"):
        render("{day.name}", rules={"day": "x"})
    with pytest.raises(ValueError, match="rule 'day' is empty"):
        Grammar({"day": []})
    with pytest.raises(ValueError, match=r"'\{a_loop\}' never ends"):
        render("{a_loop}", {"a_loop": "more {a_loop}"})


@pytest.mark.parametrize(
    "phrase",
    ["a cat", "an apple", "an hour", "an honest man", "a unicorn", "a university", "an uninvited guest", "a used car",
     "a usual day", "a one-way road", "a European", "an umbrella", "an utter mess", "a utensil", "an 8", "an 11th",
     "a 12th", "an 11", "a 110th", "an unimportant hat", "an Otter", "a house"],
)  # fmt: skip
def test_articles(phrase):
    assert with_article(phrase.split(" ", 1)[1]) == phrase


def test_capitalise():
    assert [capitalise(text) for text in ("", "a", "the NBA", "élan")] == ["", "A", "The NBA", "Élan"]


def test_table():
    assert table("name look", "\n  kite; red paper\n\n ball ;round \n") == (
        {"name": "kite", "look": "red paper"},
        {"name": "ball", "look": "round"},
    )
    with pytest.raises(ValueError, match=r"row 'kite' has 1 fields: expected 2 \(name look\)"):
        table("name look", "kite")


@given(st.integers(0, 2**64), st.lists(st.integers(), min_size=1, max_size=8), st.data())
def test_draws(seed, options, data):
    rng = random.Random(seed)
    assert pick(rng, options) in options
    count = data.draw(st.integers(0, len(options)))
    drawn = pick_distinct(rng, list(enumerate(options)), count)
    assert len(set(drawn)) == count
    assert all(options[index] == option for index, option in drawn)


@pytest.mark.parametrize("count", [-1, 3])
def test_pick_distinct_refuses(count):
    with pytest.raises(ValueError, match=f"count is {count}: expected 0 to 2"):
        pick_distinct(random.Random(0), "ab", count)


def test_streams_are_disjoint_whatever_the_seeds():
    train = {text for seed in range(3) for text in take(2000, split="train", seed=seed)}
    valid = {text for seed in range(2, 5) for text in take(200, split="valid", seed=seed)}
    assert not train & valid
    assert {split_of(text) for text in train} == {"train"}
    assert {split_of(text) for text in valid} == {"valid"}


@given(st.text())
def test_the_split_depends_on_the_words_alone_by_blake2b(text):
    words = " ".join(re.findall(r"\w+", text.casefold()))
    number = int(blake2b(words.encode(), digest_size=8).hexdigest(), 16)
    assert split_of(text) == ("valid" if number % 16 == 0 else "train")
    assert split_of(f"  {text} ?!\n") == split_of(text)


def test_one_document_in_sixteen_is_for_validation():
    texts = {sentence(random.Random(seed)) for seed in range(20_000)}
    share = sum(split_of(text) == "valid" for text in texts) / len(texts)
    assert share == pytest.approx(1 / 16, abs=0.01)


def test_a_document_depends_on_seed_and_index_alone():
    calls = []

    def spendthrift(rng):
        """Draws different amounts of randomness from one document to the next."""
        calls.append(rng.getstate())
        return sentence(rng) + "".join(str(rng.random()) for _ in range(len(calls) % 5))[:0]

    wasteful = list(itertools.islice(documents(spendthrift, split="train", seed=7), 300))
    assert wasteful == take(300, split="train", seed=7)
    assert take(10, split="train", seed=7) == wasteful[:10]
    assert take(10, split="train", seed=8) != wasteful[:10]


def test_train_and_valid_sort_the_same_candidates():
    candidates = []
    for index in range(3000):
        rng = random.Random(int.from_bytes(blake2b(f"5/{index}".encode(), digest_size=8).digest(), "big"))
        candidates.append(sentence(rng))
    unique = list(dict.fromkeys(candidates))
    for split in ("train", "valid"):
        expected = [text for text in unique if split_of(text) == split]
        assert take(len(expected), split=split, seed=5) == expected


def test_repeats_are_dropped_even_if_case_and_marks_differ():
    def shouting(rng):
        text = f"word {int(rng.random() * 100)}"
        return pick(rng, (text, text.upper() + "!"))

    stream = documents(shouting, split="train", seed=0)
    texts = []
    with pytest.raises(ValueError, match="10000 documents in a row were repeats or of the other split"):
        texts.extend(stream)
    expected = [f"word {number}" for number in range(100) if split_of(f"word {number}") == "train"]
    assert sorted(text.lower().strip("!") for text in texts) == sorted(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test", "seed": 0}, "split is 'test': expected 'train' or 'valid'"),
        ({"split": "train", "seed": -1}, "seed is -1: expected an integer of 0 or more"),
        ({"split": "train", "seed": 1.5}, "seed is 1.5: expected an integer"),
    ],
)
def test_documents_refuses_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        documents(sentence, **options)


def test_an_empty_document_is_an_error():
    with pytest.raises(ValueError, match="document 0 of seed 3 is '  ': expected words"):
        next(documents(lambda rng: "  ", split="train", seed=3))


def test_write_corpus_by_documents_and_by_bytes(tmp_path):
    path = tmp_path / "corpus.txt"
    report = write_corpus(path, sentence, split="train", seed=1, documents=50)
    assert report == CorpusReport(path, 50, path.stat().st_size)
    assert path.read_text() == "".join(f"{text}\n<|endoftext|>\n" for text in take(50, split="train", seed=1))

    report = write_corpus(path, sentence, split="valid", seed=1, min_bytes=1000, separator="----")
    assert report.bytes == path.stat().st_size >= 1000
    parts = path.read_text().split("\n----\n")
    assert parts == [*take(report.documents, split="valid", seed=1), ""]
    assert report.bytes - len(f"{parts[-2]}\n----\n") < 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("old")
    count = itertools.count()

    def failing(rng):
        if next(count) == 30:
            raise OSError("no more")
        return sentence(rng)

    with pytest.raises(OSError, match="no more"):
        write_corpus(path, failing, split="train", seed=0, documents=1000)
    with pytest.raises(ValueError, match=r"contains the separator 'word': choose another one"):
        write_corpus(path, sentence, split="train", seed=0, documents=5, separator="word")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "documents is None and min_bytes is None: expected one of them"),
        ({"documents": 1, "min_bytes": 1}, "documents is 1 and min_bytes is 1: expected one of them"),
        ({"documents": 0}, "documents is 0: expected an integer of 1 or more"),
        ({"min_bytes": -3}, "min_bytes is -3: expected an integer of 1 or more"),
        ({"documents": 2.0}, "documents is 2.0: expected an integer of 1 or more"),
        ({"documents": 1, "separator": ""}, "separator is ''"),
        ({"documents": 1, "separator": "a\nb"}, r"separator is 'a\\nb'"),
        ({"documents": 1, "split": "all"}, "split is 'all'"),
    ],
)
def test_write_corpus_refuses(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        write_corpus(tmp_path / "x.txt", sentence, **{"split": "train", "seed": 0, **options})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write_corpus_needs_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder '.*missing' of 'x.txt' does not exist; create it first"):
        write_corpus(tmp_path / "missing" / "x.txt", sentence, split="train", seed=0, documents=1)


def test_same_text_in_every_process_and_no_torch():
    program = (
        "import itertools, sys\n"
        "from trainer.experiments.grammar import Grammar\nfrom trainer.experiments.sample_corpus import documents\n"
        "grammar = Grammar({'who': ['[Mia|Tom]', '{a pet}'], 'pet': ['owl', 'cat']})\n"
        "stream = documents(lambda r: grammar.render('{who} ' * 9, {}, r), split='train', seed=1)\n"
        "print(*itertools.islice(stream, 20))\n"
        "assert 'torch' not in sys.modules\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "777")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 500
