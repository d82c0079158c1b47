"""The composed articles: well-formed, rich in words, and with numbers that add up."""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from owt_leaderboard.texts import words
from owt_leaderboard.texts.articles import KINDS, between, compose_article
from trainer.experiments.sample_corpus import documents, split_of

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def articles():
    return list(itertools.islice(documents(compose_article, split="train", seed=0), 3000))


def number(text):
    return int(text.replace(",", ""))


def matches(articles, pattern, least=50):
    """Find a pattern in all articles; at least so many must have it."""
    found = [match for article in articles if (match := re.search(pattern, article))]
    assert len(found) >= least
    return found


def test_vocabulary_and_length(articles):
    vocabulary = {word for article in articles for word in re.findall(r"[a-z]+", article.lower())}
    assert len(vocabulary) >= 1800
    lengths = [len(article.split()) for article in articles]
    assert min(lengths) >= 80
    assert max(lengths) <= 350
    assert len(KINDS) >= 10


@pytest.mark.parametrize(
    "oddity",
    [
        r"[\[\]{}|<>]",
        r"  |\n\n\n| \n|\n ",
        r" [.,!?:]",
        r"[.,!?]{2,}",
        r"\b([A-Za-z]+) \1\b",
        r"\b[Aa] (?!one-|use|uni)[aeiou]",
        r"\b[Aa]n (?!hour|honest)[^aeiouAEIOU]",
        r"[.!?] [a-z](?!\.)",
        r"\bNone\b",
        r"[^\x20-\x7e\n“”’—]",
        r"^[”’]|[ (]”|“ |\w“",
    ],
)
def test_no_oddity(articles, oddity):
    found = [
        article[max(0, match.start() - 20) : match.end() + 20]
        for article in articles
        if (match := re.search(oddity, article))
    ]
    assert found == []


def test_quotation_marks_are_paired_in_every_paragraph(articles):
    curly = 0
    for article in articles:
        for paragraph in article.split("\n\n"):
            assert paragraph.count('"') % 2 == 0
            assert paragraph.count("“") == paragraph.count("”")
            assert paragraph[0].isupper() or paragraph[0] in '"“(+' or paragraph[0].isdigit(), paragraph
        curly += "“" in article
        assert not ('"' in article and "“" in article)
    assert curly > 500


def test_halves_add_up_to_the_score(articles):
    pattern = (
        r"score was ([\d,]+)-([\d,]+) from the point of view of the (.+?)\. In the second, the \3 scored (\d+) \w+ "
        r"and the (.+?) (\d+), which made it (\d+)-(\d+)"
    )
    for match in matches(articles, pattern):
        one, two, home, three, away, four, total_home, total_away = match.groups()
        assert int(one) + int(three) == int(total_home)
        assert int(two) + int(four) == int(total_away)
        high, low = sorted((int(total_home), int(total_away)), reverse=True)
        assert high > low
        winner = home if int(total_home) == high else away
        loser = away if winner == home else home
        assert re.search(rf"The {winner} (?:defeated|beat|overcame) the {loser} {high}-{low}", match.string)
        record = re.search(r"(?:With|games, with) (\d+) wins and (\d+) losses", match.string)
        assert re.search(
            rf"in {int(record[1]) + int(record[2])} games|After {int(record[1]) + int(record[2])} games", match.string
        )


def test_votes_and_costs_add_up(articles):
    for match in matches(
        articles, r"were (\d+) votes in favor and (\d+) against; members who abstained: (\d+)\. All (\d+) members"
    ):
        votes_for, against, abstained, total = map(int, match.groups())
        assert votes_for + against + abstained == total
        assert ("is approved" if votes_for > against else "is rejected") in match.string
        assert ("Rejects" if votes_for > against else "Approves") not in match.string
    for match in matches(articles, r"put at \$([\d,]+): \$([\d,]+) from the town and \$([\d,]+) from"):
        whole, one, two = map(number, match.groups())
        assert whole == one + two


def test_percentages_add_up_and_fit_the_counts(articles):
    for match in matches(
        articles, r"asked ([\d,]+) adults .*?\. (\d+) percent were in favor, (\d+) percent against, and (\d+) percent"
    ):
        sample, *shares = map(number, match.groups())
        assert sum(shares) == 100
        counts = re.search(r"([\d,]+) people said yes, ([\d,]+) said no and ([\d,]+) did not", match.string).groups()
        assert [number(count) * 100 for count in counts] == [sample * share for share in shares]
    for match in matches(articles, r"list price is \$(\d+)\. .*?(\d+) percent less, that is, \$(\d+)\."):
        full, percent, sale = map(int, match.groups())
        assert sale * 100 == full * (100 - percent)
    for match in matches(articles, r"([\d,]+) \w+ last year, ([\d,]+) more than the ([\d,]+) of .*?(\d+) percent"):
        now, more, before, percent = map(number, match.groups())
        assert now == before + more
        assert more * 100 == before * percent


@pytest.mark.parametrize(
    ("pattern", "whole"),
    [
        (r"(\d+) people were .*?, (\d+) men and (\d+) women", lambda total, *parts: total == sum(parts)),
        (r"takes (\d+) minutes and cooking (\d+) minutes, (\d+) minutes in all", lambda a, b, c: a + b == c),
        (r"bed \$(\d+), food \$(\d+), tickets \$(\d+); \$(\d+) in total", lambda *n: sum(n[:3]) == n[3]),
        (r"from (\d+) to (\d+) milliseconds, a saving of (\d+)", lambda before, after, saved: before - after == saved),
        (r"employs (\d+) people, (\d+) of them in .*? and (\d+) in", lambda total, *parts: total == sum(parts)),
        (r"Handling: (\d+).10\n.*: (\d+).10\n.*: (\d+).10\nOverall: (\d+).10", lambda *n: sum(n[:3]) == 3 * n[3]),
        (r"\$(\d+) per person; groups of (\d+) pay \$(\d+) instead of \$(\d+)", lambda p, n, s, f: p * n == f > s),
        (r"Some (\d+) kilometers .* Another (\d+) kilometers .*walk is (\d+) kilometers", lambda a, b, c: a + b == c),
        (
            r"this \w+: (\d+) near .*?, (\d+) near .*? and (\d+) near .*?there were (\d+), .*?(\d+)\b",
            lambda one, two, three, before, change: abs(one + two + three - before) == change,
        ),
    ],
)  # fmt: skip
def test_numbers_agree(articles, pattern, whole):
    for match in matches(articles, pattern):
        assert whole(*map(int, match.groups())), match[0]


def test_places_and_people_are_invented_and_addresses_lead_nowhere(articles):
    for article in articles:
        for address in re.findall(r"(?:https?://|www\.|@)([\w.-]+\w)", article):
            assert address == "example.com" or address.endswith(".example.com"), address
    assert len(set(words.TOWNS)) == len(words.TOWNS)
    assert not set(words.WOMEN) & set(words.MEN)


def test_nearly_all_articles_are_distinct():
    texts = [compose_article(random.Random(seed)) for seed in range(3000)]
    assert len(set(texts)) == len(texts)
    assert 0.04 < sum(split_of(text) == "valid" for text in texts) / len(texts) < 0.09


def test_between_includes_both_ends():
    rng = random.Random(0)
    assert {between(rng, 2, 4) for _ in range(100)} == {2, 3, 4}


def test_one_seed_tells_the_same_in_every_process():
    program = (
        "import random, sys\n"
        "from owt_leaderboard.texts.articles import compose_article\n"
        "text = '\\n'.join(compose_article(random.Random(seed)) for seed in range(30))\n"
        "sys.stdout.buffer.write(text.encode())\n"
        "assert 'torch' not in sys.modules\n"
    )
    path = f"{ROOT}/packages/trainer/src{os.pathsep}{ROOT}/apps/owt-leaderboard/src"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "42")
    }
    assert outputs == {"\n".join(compose_article(random.Random(seed)) for seed in range(30)).encode()}


def test_the_separator_never_occurs(articles):
    assert not any("endoftext" in article for article in articles)
