"""Extension of a vocabulary by more merges: present ids stay, and results equal the slow reference."""

import json
import random

import pytest
import tiktoken
import tokenizers
from helpers import CORPUS, EOT, WORDS, data_file
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import PretokenCounts, Tokenizer, kernels, reference

OTHER = (
    "A new text: the hat of a cat, banana bread, naïve naïveté, 日本 日本語 日本。 3.14159 " * 5 + EOT + "cats' hats"
)


@pytest.fixture(params=["Python", "kernels"])
def engine(request, monkeypatch):
    """Make one of the two engines learn, whatever the size."""
    monkeypatch.setattr(kernels, "LEARNING_BYTES", 1 << 30 if request.param == "Python" else -1)
    monkeypatch.setattr(kernels, "learning_loaded", lambda: request.param == "kernels")


def expected_extension(tokenizer, counts, vocab_size, **limits):
    """Extend by the slow reference; no merge may make a token of the vocabulary."""
    new = vocab_size - tokenizer.vocab_size
    merges = reference.learn_merges(counts, new, present=tokenizer.merges, **limits)
    tokens = enumerate((left + right for left, right in merges), start=tokenizer.vocab_size)
    return Tokenizer(
        tokenizer.vocab | dict(tokens),
        tokenizer.merges + merges,
        {token: tokenizer.token_to_id(token) for token in tokenizer.special_tokens},
        pattern=tokenizer.pattern,
    )


some_counts = st.dictionaries(
    st.one_of(st.text(alphabet="aabc", min_size=1, max_size=12).map(str.encode), st.binary(min_size=1, max_size=6)),
    st.integers(1, 4),
    min_size=1,
    max_size=8,
)


@pytest.mark.usefixtures("engine")
@given(counts=some_counts, others=some_counts, first=st.integers(0, 12), more=st.integers(0, 12))
def test_extending_equals_the_reference(counts, others, first, more):
    """R17."""
    tokenizer = bpe.train_from_counts(counts, 257 + first, ["<x>"])
    vocab_size = tokenizer.vocab_size + more
    assert tokenizer.extend_from_counts(others, vocab_size) == expected_extension(tokenizer, others, vocab_size)
    limits = {"min_frequency": 2, "max_token_length": 4}
    extended = tokenizer.extend_from_counts(others, vocab_size, **limits)
    assert extended == expected_extension(tokenizer, others, vocab_size, **limits)


@pytest.mark.usefixtures("engine")
@given(counts=some_counts, first=st.integers(0, 12), more=st.integers(0, 12))
def test_training_in_two_steps_is_training_in_one(counts, first, more):
    at_once = bpe.train_from_counts(counts, 258 + first + more, ["<x>", "<y>"])
    begun = bpe.train_from_counts(counts, 258 + first, ["<x>", "<y>"])
    extended = begun.extend_from_counts(counts, 258 + first + more)
    assert extended.merges == at_once.merges
    assert sorted(extended.vocab.values()) == sorted(at_once.vocab.values())
    assert extended.vocab.items() >= begun.vocab.items()
    for token in ("<x>", "<y>"):
        assert extended.token_to_id(token) == begun.token_to_id(token)


@pytest.mark.usefixtures("engine")
def test_files_strings_and_counts_extend_alike(small, tmp_path):
    (tmp_path / "a.txt").write_text(OTHER, "utf-8", newline="")
    (tmp_path / "b.jsonl").write_text(json.dumps({"body": OTHER}), "utf-8")
    expected = expected_extension(small, reference.count_words(OTHER, [EOT]), 420)
    assert small.extend(tmp_path / "a.txt", 420) == expected
    assert small.extend(tmp_path, 420, column="body", threads=2) == expected
    assert small.extend_from_iterator(OTHER.split(EOT), 420) == expected
    assert small.extend_from_iterator([{"body": [OTHER]}], 420, column="body") == expected
    assert small.extend_from_counts(bpe.count_pretokens(tmp_path / "a.txt"), 420) == expected
    assert small.extend(tmp_path / "a.txt", 400) == small
    assert expected.vocab_size == 420
    assert expected.eot_id == small.eot_id == 399
    assert expected.decode(expected.encode(OTHER)) == OTHER
    assert len(expected.encode(OTHER)) < len(small.encode(OTHER))


@pytest.mark.usefixtures("engine")
def test_random_corpora_and_special_tokens_extend_as_by_the_reference():
    generator = random.Random(5)
    for _ in range(30):
        special = generator.choice([[], [EOT], ["ab", "aba"]])
        first, second = ("".join(generator.choices(["a", "b", "c ", "é", "aaa", *special], k=200)) for _ in range(2))
        tokenizer = bpe.train_from_iterator([first], 256 + len(special) + generator.randint(0, 20), special)
        counts = reference.count_words(second, special)
        for vocab_size in (tokenizer.vocab_size + 1, tokenizer.vocab_size + 30):
            assert tokenizer.extend_from_iterator([second], vocab_size) == expected_extension(
                tokenizer, counts, vocab_size
            )


def test_gpt2s_vocabulary_is_extended(gpt2, tmp_path):
    text = data_file("torture_mix.txt").read_bytes()[:400_000].decode("utf-8", "ignore")
    extended = gpt2.extend_from_iterator([text], 50_500)
    assert extended.vocab.items() >= gpt2.vocab.items()
    assert extended.merges[:50_000] == gpt2.merges
    assert (extended.vocab_size, extended.eot_id) == (50_500, 50_256)
    assert len(extended.encode(text)) < 0.95 * len(gpt2.encode(text))
    extended.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path) == extended
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    part = text[:50_000] + EOT
    assert theirs.encode(part).ids == extended.encode(part)
    ranks = {token: id_ for id_, token in extended.vocab.items() if id_ != extended.eot_id}
    encoding = tiktoken.Encoding(
        "x", pat_str=bpe.GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={EOT: extended.eot_id}
    )
    assert encoding.encode(part, allowed_special="all") == extended.encode(part)


BYTES = {id_: bytes([id_]) for id_ in range(256)}


@pytest.mark.usefixtures("engine")
def test_a_merge_that_makes_a_token_of_the_vocabulary_adds_no_id():
    """Published vocabularies have tokens that no merge makes."""
    tokenizer = Tokenizer({**BYTES, 256: b"ab", 257: b"abc", 258: b"de", 259: b"de"}, [(b"a", b"b")], {EOT: 300})
    extended = tokenizer.extend_from_counts({b"abcf": 9, b"abc": 3, b"de": 5, b"gh": 2}, 303)
    merges = [(b"ab", b"c"), (b"abc", b"f"), (b"d", b"e"), (b"g", b"h")]
    assert extended.merges == [(b"a", b"b"), *merges]
    assert extended.vocab == {**tokenizer.vocab, 301: b"abcf", 302: b"gh"}
    assert extended.special_tokens == [EOT]
    assert extended.encode("abcf de gh") == [301, 32, 258, 32, 302]


@pytest.mark.usefixtures("engine")
def test_whole_pretokens_of_a_vocabulary_that_ignores_merges_are_not_merged():
    tokenizer = Tokenizer({**BYTES, 256: b"xyz", 257: b"ab"}, [(b"a", b"b")], ignore_merges=True)
    extended = tokenizer.extend_from_counts({b"xyz": 9, b"xyzw": 2, b"abc": 5}, 260)
    assert extended.merges == [(b"a", b"b"), (b"ab", b"c"), (b"z", b"w")]
    assert extended.ignore_merges
    assert [extended.decode([id_]) for id_ in extended.encode("xyz")] == ["xyz"]


@pytest.mark.parametrize("python_bytes", [0, 1 << 20])
def test_text_is_normalized_as_for_encoding(tmp_path, monkeypatch, python_bytes):
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", python_bytes)
    tokenizer = Tokenizer(BYTES, [], [EOT], normalization="NFC")
    composed, decomposed = f"né né{EOT}né", f"ne\u0301 ne\u0301{EOT}ne\u0301"
    (tmp_path / "text.txt").write_bytes(decomposed.encode() + b" \xff")
    counts = reference.count_words(f"{composed} \ufffd", [EOT])
    expected = tokenizer.extend_from_counts(counts, 262)
    with pytest.warns(bpe.InvalidUTF8Warning, match="1 malformed UTF-8 sequence"):
        assert tokenizer.extend(tmp_path / "text.txt", 262) == expected
    assert tokenizer.extend_from_iterator([f"{decomposed} \ufffd"], 262) == expected
    assert expected.normalization == "NFC"
    assert expected.encode(decomposed) == expected.encode(composed)
    with pytest.raises(ValueError, match=r"the counts have b'e\\xcc\\x81', but the tokenizer normalizes text to NFC"):
        tokenizer.extend_from_counts({b"e\xcc\x81": 1}, 262)


class Named(Tokenizer):
    pass


def test_a_subclass_and_other_settings_stay(small):
    named = Named(small.vocab, small.merges, [EOT], pattern=r"\w+|\s")
    extended = named.extend_from_iterator([OTHER], 410)
    assert type(extended) is Named
    assert extended.pattern == r"\w+|\s"
    assert extended == expected_extension(named, reference.count_words(OTHER, [EOT], r"\w+|\s|[^\w\s]+"), 410)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t.extend_from_iterator([WORDS], 399),
            ValueError,
            "vocab_size is 399, expected .* at least 400, the",
        ),
        (lambda t: t.extend_from_iterator([WORDS], 410.0), ValueError, "vocab_size is 410.0, expected"),
        (lambda t: t.extend_from_iterator([WORDS], 410, min_frequency=-2), ValueError, "min_frequency is -2"),
        (lambda t: t.extend("absent.txt", 410), FileNotFoundError, "no file 'absent.txt'"),
        (lambda t: t.extend("absent.txt", 410, max_token_length=0), ValueError, "max_token_length is 0"),
        (lambda t: t.extend_from_iterator([], 410), ValueError, "there is nothing to train on"),
        (lambda t: t.extend_from_iterator(WORDS, 410), TypeError, "texts is one str"),
        (lambda t: t.extend_from_counts({"a": 1}, 410), ValueError, "pre-token 'a' is not non-empty bytes"),
        (
            lambda t: t.extend_from_counts(PretokenCounts({b"a": 1}, pattern="x"), 410),
            ValueError,
            "the counts were made with the pattern 'x', but that of the tokenizer is",
        ),
        (
            lambda t: t.extend_from_counts({EOT.encode(): 1}, 440),
            ValueError,
            r"the counts contain the special token '<\|endoftext\|>'; count again without it",
        ),
        (
            lambda t: Tokenizer({0: b"a"}, []).extend_from_counts({b"ab": 1}, 2),
            ValueError,
            "byte b'b' is not in the vocabulary",
        ),
    ],
)
def test_wrong_arguments(small, call, error, message):
    with pytest.raises(error, match=message):
        call(small)


def test_what_the_text_cannot_fill_or_the_counts_do_not_match_is_a_warning(small):
    with pytest.warns(
        bpe.VocabularySizeWarning, match="vocab_size is 500, but the vocabulary has only 403 tokens"
    ) as w:
        assert small.extend_from_iterator(["qqqqq"], 500).vocab_size == 403
    assert w[0].filename == __file__
    with pytest.warns(
        UserWarning, match=r"the tokenizer has the special tokens .* but the counts were made with \['<a>'\]"
    ):
        small.extend_from_counts(PretokenCounts({b"qq": 1}, special_tokens=["<a>"]), 401)


def test_both_engines_give_the_same_on_real_text(gpt2, monkeypatch):
    text = data_file("owt_valid.txt").read_text("utf-8") + CORPUS
    extended = []
    for loaded in (False, True):
        monkeypatch.setattr(kernels, "LEARNING_BYTES", -1 if loaded else 1 << 30)
        monkeypatch.setattr(kernels, "learning_loaded", lambda loaded=loaded: loaded)
        extended.append(gpt2.extend_from_iterator([text], 51_000))
    assert extended[0] == extended[1]
