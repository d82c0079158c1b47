"""Special tokens that a call allows, disallows or treats as ordinary text, as in tiktoken."""

import re
import unicodedata

import pytest
import tiktoken
from helpers import CORPUS, EOT, SLOWER, data_file, mixed, using_kernels
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import Tokenizer, reference
from bpe.text import CL100K_PATTERN

SPECIAL = [EOT, "<|a|>", "hello!", " the", "é", "\n\n"]
OVERLAPPING = [EOT, EOT + EOT, "<|", "|><|", "a b", "b a", " a"]

parts = st.lists(st.one_of(mixed, st.sampled_from([*SPECIAL, *OVERLAPPING, "<|b|>", "e\u0301", "hello", "the", "a"])))
texts = parts.map("".join)


def some(tokens):
    """A strategy for collections of some of the tokens."""
    chosen = st.lists(st.sampled_from(tokens), unique=True)
    return st.one_of(chosen, chosen.map(set), chosen.map(tuple), chosen.map(lambda tokens: dict.fromkeys(tokens)))


def outcome(call):
    """Return the result of a call as a list, or "refused" for ValueError."""
    try:
        return list(call())
    except ValueError:
        return "refused"


def every_way(tokenizer, text, step, **rules):
    """Encode a text in every way."""
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    yield outcome(lambda: tokenizer.encode(text, **rules))
    yield outcome(lambda: tokenizer.encode_to_numpy(text, **rules).tolist())
    yield outcome(lambda: tokenizer.encode_batch(["x", text, ""], **rules)[1].tolist())
    yield outcome(lambda: tokenizer.encode_iterable(pieces, **rules))
    yield outcome(lambda: tokenizer.encode_with_offsets(text, **rules)[0])


@pytest.fixture(scope="module", params=["in Python", "by kernels"])
def engine(request):
    """A function that makes a tokenizer encode in one of the two ways."""
    return using_kernels if request.param == "by kernels" else lambda tokenizer: tokenizer


@pytest.fixture(scope="module")
def cl100k(engine):
    return engine(Tokenizer.from_tiktoken(data_file("vocabularies/cl100k_base.tiktoken"), CL100K_PATTERN, SPECIAL[:5]))


@pytest.fixture(scope="module")
def theirs(cl100k):
    special = {token: cl100k.token_to_id(token) for token in cl100k.special_tokens}
    ranks = {token: id_ for id_, token in cl100k.vocab.items() if id_ < 100_256}
    return tiktoken.Encoding("test", pat_str=CL100K_PATTERN, mergeable_ranks=ranks, special_tokens=special)


@given(text=texts, step=st.integers(1, 9), data=st.data())
def test_the_rules_are_those_of_tiktoken(cl100k, theirs, text, step, data):
    # Characters of newer versions of Unicode have different classes in `regex` and tiktoken.
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cn", "Co"))
    allowed = data.draw(st.one_of(st.just("all"), some(cl100k.special_tokens)))
    disallowed = data.draw(st.one_of(st.just("all"), st.just(()), some([*cl100k.special_tokens, "<|b|>", "l"])))
    rules = {"allowed_special": "all" if allowed == "all" else set(allowed), "disallowed_special": disallowed}
    expected = outcome(lambda: theirs.encode(text, **rules))
    rules["allowed_special"] = allowed
    for ids in every_way(cl100k, text, step, **rules):
        assert ids == expected
    assert cl100k.encode_ordinary(text) == theirs.encode_ordinary(text)


def naive(tokenizer, text, allowed):
    """Search for the longest allowed token at each position in turn, and encode the text between by definition."""
    ids, ordinary, start = [], "", 0
    while start <= len(text):
        here = max((token for token in allowed if text.startswith(token, start)), key=len, default="")
        if here or start == len(text):
            ids += reference.encode(ordinary, tokenizer.vocab, tokenizer.merges)
            ids += [tokenizer.token_to_id(here)] if here else []
            ordinary = ""
        else:
            ordinary += text[start]
        start += len(here) or 1
    return ids


@given(text=texts, step=st.integers(1, 9), allowed=some(OVERLAPPING), disallowed=some(OVERLAPPING))
def test_overlapping_tokens_are_found_from_the_left_and_the_longest_first(
    small, engine, text, step, allowed, disallowed
):
    tokenizer = engine(Tokenizer(small.vocab, small.merges, OVERLAPPING))
    expected = naive(tokenizer, text, allowed)
    for ids in every_way(tokenizer, text, step, allowed_special=allowed):
        assert ids == expected
    refused = any(token in text for token in disallowed)
    for ids in every_way(tokenizer, text, step, allowed_special=allowed, disallowed_special=disallowed):
        assert ids == ("refused" if refused else expected)


@pytest.mark.parametrize("normalization", [None, "NFC"])
def test_large_texts_on_several_threads(small, normalization, monkeypatch):
    monkeypatch.setattr("bpe.kernels.SMALL_TEXT_BYTES", 2000)
    tokenizer = using_kernels(Tokenizer(small.vocab, small.merges, OVERLAPPING, normalization=normalization))
    text = (CORPUS + EOT + "<|" + EOT + "e\u0301 a" + "b" * 300) * (400 // SLOWER)
    for allowed in ([], ["<|"], [EOT, " a"], OVERLAPPING):
        ids = {token: tokenizer.token_to_id(token) for token in allowed}
        ordinary = {id_: token for id_, token in tokenizer.vocab.items() if id_ <= small.eot_id}
        ordinary.pop(small.eot_id)
        other = Tokenizer(ordinary, small.merges, ids, normalization=normalization)
        expected = other.encode_to_numpy(text).tolist()
        assert tokenizer.encode(text, allowed_special=allowed, threads=3) == expected
        assert tokenizer.encode_to_numpy(text, 2, allowed_special=allowed).tolist() == expected
        assert tokenizer.encode_batch([text], 2, allowed_special=allowed)[0].tolist() == expected
    last = text + "|><|"
    for threads in (1, 3):
        with pytest.raises(ValueError, match=r"disallowed special token '\|><\|'"):
            tokenizer.encode(last, disallowed_special=["|><|"], threads=threads)


def test_a_disallowed_token_across_windows_of_the_search(small, monkeypatch):
    monkeypatch.setattr("bpe.encoding.encoder.BLOCK_BYTES", 16)
    tokenizer = using_kernels(Tokenizer(small.vocab, small.merges, [EOT]))
    for before in range(40):
        text = "x" * before + EOT + "y" * 20
        with pytest.raises(ValueError, match="disallowed"):
            tokenizer.encode(text, allowed_special=(), disallowed_special="all")
        assert tokenizer.encode(text[:-21], disallowed_special=[EOT + "y"]) == tokenizer.encode(text[:-21])


def test_rules_share_the_kernels_and_their_number_is_bounded(small):
    tokenizer = Tokenizer(small.vocab, small.merges, [f"<{number}>" for number in range(60)])
    encoders = [tokenizer._encoder.with_rules([token], ()) for token in tokenizer.special_tokens for _ in range(2)]
    assert len(set(map(id, encoders))) == 60
    assert len({id(encoder.load_kernels()) for encoder in encoders}) == 1
    assert tokenizer._encoder._with_rules.cache_info().currsize < 60
    assert tokenizer._encoder.with_rules("all", "all") is tokenizer._encoder.with_rules("all", ()) is tokenizer._encoder


def test_ordinary_text_never_becomes_a_special_token_by_being_whole():
    """With `ignore_merges`, "pad" is a pre-token and in the vocabulary, but only as a special token."""
    vocab = {**{byte: bytes([byte]) for byte in range(256)}, 256: b"pad", 257: b"ab", 258: b"xyz"}
    for make in (lambda tokenizer: tokenizer, using_kernels):
        tokenizer = make(Tokenizer(vocab, [(b"a", b"b")], ["pad", "ab", "z"], ignore_merges=True))
        assert tokenizer.encode("pad\nab\nxyz") == [256, 10, 257, 10, 120, 121, 122]
        assert tokenizer.encode_ordinary("pad\nab\nxyz") == [*b"pad\n", 257, 10, 258]
    composed = Tokenizer(vocab, [], {"\u00e9": 300}, ignore_merges=True, normalization="NFC")
    assert composed.encode("\u00e9 e\u0301") == [300, 32, *"\u00e9".encode()]


def test_lone_surrogates_and_disallowed_tokens(small):
    tokenizer = Tokenizer(small.vocab, small.merges, ["🙂"])
    for encode in (
        lambda text: tokenizer.encode(text, disallowed_special=["🙂"]),
        lambda text: list(tokenizer.encode_iterable(text, disallowed_special=["🙂"])),
    ):
        assert encode("\ud83d \ude42") == tokenizer.encode("\ufffd \ufffd")
        with pytest.raises(ValueError, match="disallowed special token '🙂'"):
            encode("a\ud83d\ude42")


def test_ids_before_a_disallowed_token_are_yielded(small):
    ids = small.encode_iterable(["The cat ", "sat ", EOT[:4], EOT[4:]], disallowed_special={EOT})
    assert small.id_to_token(next(ids)) == b"The"
    with pytest.raises(ValueError, match="disallowed"):
        list(ids)


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"allowed_special": EOT}, TypeError, f'allowed_special is {EOT!r}, expected "all" or a collection'),
        ({"disallowed_special": "none"}, TypeError, "disallowed_special is 'none', expected \"all\" or a collection"),
        ({"allowed_special": None}, TypeError, 'allowed_special is a NoneType, expected "all" or a collection'),
        ({"disallowed_special": 3}, TypeError, "disallowed_special is a int"),
        ({"allowed_special": ["<|endoftxt|>"]}, ValueError, "'<|endoftxt|>', which is not a special token of this"),
        ({"allowed_special": [3]}, ValueError, "special token 3 is not a non-empty string"),
        ({"disallowed_special": [""]}, ValueError, "special token '' is not a non-empty string"),
        ({"disallowed_special": ["\ud800"]}, ValueError, "lone surrogate"),
    ],
)
def test_wrong_rules(small, rules, error, message):
    for call in (
        small.encode,
        small.encode_to_numpy,
        small.encode_with_offsets,
        lambda text, **rules: [*small.encode_iterable([text], **rules)],
        lambda text, **rules: small.encode_batch([text], **rules),
    ):
        with pytest.raises(error, match=re.escape(message)) as caught:
            call("text", **rules)
        assert "\n" not in str(caught.value)


def test_the_error_says_what_to_do(small):
    with pytest.raises(ValueError, match="disallowed special token") as caught:
        small.encode(f"a{EOT}", allowed_special=set(), disallowed_special="all")
    assert f"allowed_special={{{EOT!r}, ...}}" in str(caught.value)
    assert "disallowed_special=()" in str(caught.value)


def test_thousands_of_disallowed_tokens():
    special = [f"<|audio_{number}|>" for number in range(16_000 // SLOWER)]
    tokenizer = bpe.train_from_iterator(["hello world " * 9], 258 + len(special), special)
    text = " hello <|audio_ world" * (20_000 // SLOWER)
    for make in (lambda tokenizer: tokenizer, using_kernels):
        ids = make(tokenizer).encode(text, disallowed_special=special)
        assert ids == tokenizer.encode(text, allowed_special=special[:1], disallowed_special="all")
        with pytest.raises(ValueError, match=re.escape(special[-1])):
            tokenizer.encode(text + special[-1] + text, allowed_special=special[:1], disallowed_special="all")
