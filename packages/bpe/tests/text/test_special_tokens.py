"""The search for special tokens, compared with its definition and with the `tokenizers` library."""

import numpy as np
import pytest
from helpers import SLOWER, using_kernels
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import Tokenizer
from bpe.text import SpecialTokenFinder, check_special_tokens

BYTES = {byte: bytes([byte]) for byte in range(256)}

letters = st.text("abé", max_size=60)
overlapping = st.lists(st.text("abé", min_size=1, max_size=5), max_size=25, unique=True)


def leftmost_longest(text, tokens):
    """The definition: at each position the longest token, and no token within another that was found."""
    found, position = [], 0
    while position < len(text):
        at = [token for token in tokens if text.startswith(token, position)]
        if at:
            longest = max(at, key=len)
            found.append((position, position + len(longest), tokens.index(longest)))
            position = found[-1][1]
        else:
            position += 1
    return found


@given(text=letters, special=overlapping)
def test_the_longest_token_at_the_leftmost_position_is_found(text, special):
    finder = SpecialTokenFinder(special)
    expected = leftmost_longest(text.encode(), [token.encode() for token in special])
    assert finder.spans(text.encode()) == expected
    assert finder.find(np.frombuffer(text.encode(), dtype=np.uint8)).tolist() == [list(span) for span in expected]
    parts = finder.split(text)
    assert "".join(part + (special[index] if index >= 0 else "") for part, index in parts) == text
    assert [index for _, index in parts] == [*(index for *_, index in expected), -1]


@given(text=letters, special=overlapping, data=st.data())
def test_a_token_that_straddles_a_cut_is_found_even_within_others(text, special, data):
    content, tokens = text.encode(), [token.encode() for token in special]
    cut = data.draw(st.integers(0, len(content)))
    starts = [
        start
        for start in range(cut)
        if any(content.startswith(token, start) and start + len(token) > cut for token in tokens)
    ]
    assert SpecialTokenFinder(special).straddling(content, cut) == min(starts, default=None)


def test_a_lone_surrogate_stays_in_the_text_around():
    assert SpecialTokenFinder(["<a>"]).split("x\ud800<a>y") == [("x\ud800", 0), ("y", -1)]


def test_thousands_of_special_tokens(tmp_path):
    """With a search whose time depends on their number, this takes minutes."""
    import tokenizers

    special = [f"<|audio_{number}|>" for number in range(16_000 // SLOWER)]
    tokenizer = bpe.train_from_iterator(["hello world " * 9], 258 + len(special), special)
    text = "".join(special[number * 7919 % len(special)] for number in range(6_000)) + " hello world" * 2_000
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again == tokenizer
    expected = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    assert again.encode(text) == expected
    assert using_kernels(tokenizer).encode(text) == expected


def test_special_tokens_without_an_order_are_refused():
    for special in ({"<a>", "<b>"}, frozenset(["<a>"])):
        with pytest.raises(TypeError, match="is a set, whose order changes"):
            check_special_tokens(special)
    with pytest.raises(TypeError, match="is a set"):
        bpe.train_from_iterator(["x"], 260, {"<a>", "<b>"})


def test_special_tokens_get_the_ids_they_come_with():
    tokenizer = Tokenizer(BYTES, [], {"<a>": 300, "<b>": 270})
    assert tokenizer.encode("<a>x<b>") == [300, 120, 270]
    assert tokenizer.special_tokens == ["<a>", "<b>"]
    assert tokenizer.vocab_size == 301
    assert Tokenizer({**BYTES, 300: b"<a>"}, [], {"<a>": 300}).encode("<a>") == [300]


@pytest.mark.parametrize(
    ("special", "message"),
    [
        ({"<a>": 97}, r"special token '<a>' has id 97, which b'a' has; give it another id"),
        ({"<a>": -1}, "vocab has the id -1"),
        ({"<a>": "300"}, "vocab has the id '300'"),
        ({"a": 300, "<b>": 300}, r"special token '<b>' has id 300, which b'a' has"),
    ],
)
def test_ids_that_special_tokens_cannot_have_are_refused(special, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(BYTES, [], special)


def test_training_assigns_the_ids_of_special_tokens():
    with pytest.raises(TypeError, match="special_tokens is a mapping, but ids are assigned here; expected a list"):
        bpe.train_from_iterator(["x"], 260, {"<a>": 300})
