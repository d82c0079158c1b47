"""Pre-tokens that are merged in turns get the symbols that each of them gets alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from bpe.encoding.in_python import merge_symbols
from bpe.encoding.merges import Merges
from bpe.kernels.machine.arrays import read_only
from bpe.kernels.merging.several_pretokens import (
    LONGEST_OF_SEVERAL,
    SEVERAL,
    merge_several,
    several,
    take_symbols,
)
from bpe.vocabulary import TokenizerSpec

BYTES = [bytes([byte]) for byte in range(256)]


def merges_of(pairs):
    """Return merges of symbols given by index among "a", "b", "c" and what was made before, in any order."""
    tokens, merges = [b"a", b"b", b"c"], []
    for left, right in pairs:
        merge = tokens[left % len(tokens)], tokens[right % len(tokens)]
        if b"".join(merge) not in tokens:
            merges.append(merge)
            tokens.append(b"".join(merge))
    return tokens[3:], merges


@given(
    pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=40),
    other_ids=st.booleans(),
    other_ranks=st.booleans(),
    pretokens=st.lists(
        st.text("abc", min_size=1, max_size=LONGEST_OF_SEVERAL).map(str.encode), min_size=1, max_size=SEVERAL
    ),
)
def test_each_gets_its_own_symbols(pairs, other_ids, other_ranks, pretokens):
    made, merges = merges_of(pairs)
    if other_ids:
        made = made[::-1]
    if other_ranks:  # a token may then be merged before its parts are made
        merges = merges[::-1]
    own = Merges(TokenizerSpec(dict(enumerate(BYTES + made)), merges, []))
    in_order = other_ids == other_ranks or len(merges) == 1
    assert (own.arrays.first_merged == 256) == (in_order and len(merges) > 0)
    data = b"".join(pretokens)
    state = several()
    for which, pretoken in enumerate(pretokens):
        state.starts[which] = sum(map(len, pretokens[:which]))
        state.lengths[which] = len(pretoken)
    merge_several(read_only(data + bytes(8)), len(pretokens), own.arrays, state)
    ids = np.zeros(LONGEST_OF_SEVERAL, dtype=np.uint32)
    for which, pretoken in enumerate(pretokens):
        expected = merge_symbols([own.byte_symbols[byte] for byte in pretoken], own.ranks)
        assert ids[: take_symbols(which, state, ids)].tolist() == expected


def test_new_pretokens_between_special_tokens_and_texts():
    """Their gaps in the output are filled later, and the ends of texts move with them."""
    made, merges = merges_of([(i * 7 + 1, i * 5) for i in range(200)])
    tokenizer = Tokenizer(dict(enumerate(BYTES + made)), merges, ["<|x|>"])
    alone = Tokenizer(tokenizer.vocab, merges, ["<|x|>"])
    chance = np.random.default_rng(5)
    texts = []
    for _ in range(400):
        words = ["".join(chance.choice(list("abc é"), chance.integers(1, 45))) for _ in range(chance.integers(0, 6))]
        texts.append(" ".join(word + "<|x|>" * (chance.random() < 0.3) for word in words))
    tokenizer._encoder.load_kernels()
    expected = [alone._encoder._text_in_python(text) for text in texts]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == expected
    whole = "<|x|>".join(texts)
    assert Tokenizer(tokenizer.vocab, merges, ["<|x|>"]).encode_to_numpy(whole * 20, threads=1).tolist() == (
        alone._encoder._text_in_python(whole * 20)
    )
