"""tiktoken's rank files: whatever the ranks, the ids equal tiktoken's, or the file is refused."""

import base64

import pytest
import tiktoken
from helpers import CORPUS, EOT, data_file, mixed
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer
from bpe.text import CL100K_PATTERN

MASK = bpe.AddedToken("<mask>", special=True, lstrip=True)
ALL_BYTES = [bytes([byte]) for byte in range(256)]
LETTERS = "[abc]+|[^abc]+"

O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

words = st.text("abc", min_size=2, max_size=6).map(str.encode)
texts = st.lists(st.text("aabbcc x", max_size=25), max_size=4)


def write(path, ranks):
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))


def theirs(ranks, pattern=LETTERS, special=None):
    return tiktoken.Encoding("made here", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special or {})


@given(tokens=st.lists(words, unique=True, max_size=25), texts=texts, whole=st.booleans())
def test_any_ranks_give_tiktokens_ids(tokens, texts, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks") / "made.tiktoken"
    ranks = {token: rank for rank, token in enumerate([*ALL_BYTES, *tokens])}
    write(path, ranks)
    ours = Tokenizer.from_tiktoken(path, LETTERS)
    reader = theirs(ranks)
    for text in [*texts, *(token.decode() for token in tokens)]:
        assert ours.encode(text) == reader.encode(text)
    again = path.with_name("again.tiktoken")
    ours.save_tiktoken(again)
    assert Tokenizer.from_tiktoken(again, LETTERS) == ours
    if ours.ignore_merges:
        with_merges_only = Tokenizer(ours.vocab, ours.merges, pattern=LETTERS)
        with pytest.raises(ValueError, match="no merges make its token"):
            with_merges_only.save_tiktoken(again)


def test_a_token_that_merging_cannot_make(tmp_path):
    ranks = {token: rank for rank, token in enumerate([*ALL_BYTES, b"abc", b"bb"])}
    write(tmp_path / "ranks", ranks)
    ours = Tokenizer.from_tiktoken(tmp_path / "ranks", LETTERS)
    assert ours.merges == [(b"b", b"b")]
    assert ours.ignore_merges
    assert ours.encode("abc abcc bbb") == [256, 32, 97, 98, 99, 99, 32, 257, 98]
    assert ours.encode("abc abcc bbb") == theirs(ranks).encode("abc abcc bbb")


def test_a_token_made_of_one_with_a_higher_rank(tmp_path):
    ranks = {token: rank for rank, token in enumerate([*ALL_BYTES, b"abc", b"ab"])}
    write(tmp_path / "ranks", ranks)
    ours = Tokenizer.from_tiktoken(tmp_path / "ranks", LETTERS)
    assert ours.merges == [(b"ab", b"c"), (b"a", b"b")]
    assert ours.encode("cabc") == theirs(ranks).encode("cabc") == [99, 256]


@given(data=st.data(), texts=texts, ignore_merges=st.booleans())
def test_saved_files_have_the_same_ids_in_tiktoken(data, texts, ignore_merges, tmp_path_factory):
    """Random merges in any order, some of them useless, are saved only if no id changes."""
    known, merges = [b"a", b"b", b"c"], []
    for _ in range(data.draw(st.integers(0, 6))):
        merges.append((data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known))))
        known.append(b"".join(merges[-1]))
    products = list(dict.fromkeys(token for token in known if len(token) > 1))
    if data.draw(st.booleans()):
        products = data.draw(st.permutations(products))
    tokenizer = Tokenizer(
        dict(enumerate([*ALL_BYTES, *products])), merges, pattern=LETTERS, ignore_merges=ignore_merges
    )
    path = tmp_path_factory.mktemp("ranks") / "made.tiktoken"
    try:
        tokenizer.save_tiktoken(path)
    except ValueError as error:
        refusal = str(error)
    if not path.exists():
        assert "cannot be written for tiktoken" in refusal
        return
    reader = theirs({token: id_ for id_, token in tokenizer.vocab.items()})
    again = Tokenizer.from_tiktoken(path, LETTERS)
    for text in texts:
        assert tokenizer.encode(text) == reader.encode(text) == again.encode(text)


def test_merges_that_never_happen_are_no_obstacle(small, tmp_path):
    """Files made from ranks have every pair that forms a token, in the order of ids."""
    ids = {token: id_ for id_, token in small.vocab.items() if id_ != small.eot_id}
    every = [
        (token[:cut], token[cut:])
        for token in sorted(ids, key=ids.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    assert len(every) > len(small.merges)
    tokenizer = Tokenizer(small.vocab, every, [EOT], ignore_merges=True)
    assert tokenizer.encode(CORPUS) == small.encode(CORPUS)
    tokenizer.save_tiktoken(tmp_path / "ranks")
    assert Tokenizer.from_tiktoken(tmp_path / "ranks", special_tokens=[EOT]) == small
    with pytest.raises(ValueError, match="do not follow the order"):
        Tokenizer(small.vocab, every[::-1], [EOT]).save_tiktoken(tmp_path / "ranks")


def test_ids_out_of_order_have_no_tiktoken_file(small, tmp_path):
    vocab = small.vocab
    vocab[256], vocab[257] = vocab[257], vocab[256]
    tokenizer = Tokenizer(vocab, small.merges, [EOT])
    small.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be written for tiktoken: its ids do not follow"):
        tokenizer.save_tiktoken(tmp_path / "new.tiktoken")
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.tiktoken").exists()  # nor is the one that was there before left
    assert Tokenizer.from_pretrained(tmp_path) == tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Tokenizer({0: b"a"}, []), "lacks some of the 256 bytes"),
        (Tokenizer(dict(enumerate([*ALL_BYTES, b"a"])), []), "two of its ids have the same bytes"),
        (Tokenizer(dict(enumerate(ALL_BYTES)), [], ["a"]), "lacks some of the 256 bytes"),
        (Tokenizer(dict(enumerate(ALL_BYTES)), [], normalization="NFC"), "normalizes text to NFC first"),
        (Tokenizer(dict(enumerate(ALL_BYTES)), [], pattern=("a", GPT2_PATTERN)), "splits text by several patterns"),
        (Tokenizer(dict(enumerate(ALL_BYTES)), [], byte_pattern="a"), "splits text by several patterns"),
        (Tokenizer(dict(enumerate(ALL_BYTES)), [], add_prefix_space=True), "its add_prefix_space puts a space"),
        (
            Tokenizer(dict(enumerate(ALL_BYTES)), [], added_tokens=[MASK]),
            r"finds AddedToken\(content='<mask>'.* in another",
        ),
        (Tokenizer(dict(enumerate([*ALL_BYTES, b"ab"])), []), r"lacks the merge \(b'a', b'b'\)"),
        (Tokenizer(dict(enumerate([*ALL_BYTES, b"abc"])), []), "no merges make its token b'abc'"),
        (Tokenizer(dict(enumerate([*ALL_BYTES, b"ab"])), [(b"a", b"b")], ["ab"]), "makes a special token"),
    ],
)
def test_tokenizers_that_tiktoken_cannot_hold_are_refused(tokenizer, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        tokenizer.save_tiktoken(tmp_path / "tokenizer.tiktoken")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_tokens_that_are_found_like_special_tokens_are_no_obstacle(small, tmp_path):
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT], added_tokens=[bpe.AddedToken("<tool>")])
    tokenizer.save_tiktoken(tmp_path / "ranks")
    special = {EOT: small.eot_id, "<tool>": small.eot_id + 1}
    again = Tokenizer.from_tiktoken(tmp_path / "ranks", special_tokens=special)
    assert again.encode(f"the cat<tool>{EOT}") == tokenizer.encode(f"the cat<tool>{EOT}")
    assert again.vocab == tokenizer.vocab


def test_special_tokens_anywhere(small, tmp_path):
    """Special tokens before all ranks, in a gap between ranks, and far behind them."""
    ordinary = [token for id_, token in sorted(small.vocab.items()) if id_ != small.eot_id]
    ranks = {token: id_ if id_ < 300 else id_ + 5 for id_, token in enumerate(ordinary, start=1)}
    special = {EOT: 0, "<|pad|>": 302, "<|far|>": 5000}
    write(tmp_path / "ranks", ranks)
    ours = Tokenizer.from_tiktoken(tmp_path / "ranks", special_tokens=special)
    text = f"{EOT}{CORPUS}<|pad|><|far|>{EOT}"
    assert ours.encode(text) == theirs(ranks, GPT2_PATTERN, special).encode(text, allowed_special="all")
    assert ours.decode(ours.encode(text)) == text
    assert ours.vocab_size == 5001
    ours.save_tiktoken(tmp_path / "again")
    assert Tokenizer.from_tiktoken(tmp_path / "again", special_tokens=special) == ours
    with pytest.raises(ValueError, match="has id 97, which b'`' has"):
        Tokenizer.from_tiktoken(tmp_path / "ranks", special_tokens={EOT: 97})
    with pytest.raises(ValueError, match="special token 'a' has id 0, expected one above 98"):
        Tokenizer.from_tiktoken(tmp_path / "ranks", special_tokens={"a": 0})


@given(text=mixed)
def test_a_tokenizer_trained_here(small, text):
    ranks = {token: id_ for id_, token in small.vocab.items() if id_ != small.eot_id}
    reader = theirs(ranks, GPT2_PATTERN, {EOT: small.eot_id})
    assigned = "".join(filter(_is_old, text))
    assert small.encode(assigned) == reader.encode(assigned, allowed_special="all")


def _is_old(character):
    """Return whether a character is so old that both libraries assign it to the same class."""
    return ord(character) < 0x530 or character in "\u2019日"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 lines, 0 tokens"),
        (b"YQ== 0\nnot base64 1\n", "line 2 of"),
        (b"YQ== 0\nYg==\n", "line 2 of"),
        (b"YQ== -1\n", "line 1 of"),
        (b"YQ== 0\nYg== 0\n", "2 tokens and 1 ranks in them, expected at least one token"),
        (b"YQ== 0\nYQ== 1\n", "2 lines, 1 tokens"),
        (b"YQ== 0\nYWI= 1\n", "no rank for b'b'"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_malformed_rank_files_are_refused(content, message, tmp_path):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.from_tiktoken(tmp_path / "bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "pattern"), [("cl100k_base", CL100K_PATTERN), ("o200k_base", O200K_PATTERN)])
def test_openais_own_files(name, pattern, tmp_path):
    import tokenizers

    path = data_file(f"vocabularies/{name}.tiktoken")
    ours = Tokenizer.from_tiktoken(path, pattern, {EOT: 300_000})
    assert not ours.ignore_merges
    ranks = {token: id_ for id_, token in ours.vocab.items() if id_ != 300_000}
    text = data_file("torture_mix.txt").read_bytes()[:100_000].decode("utf-8", "ignore") + EOT
    ids = ours.encode(text)
    assert ids == theirs(ranks, pattern, {EOT: 300_000}).encode(text, allowed_special="all")
    ours.save_tiktoken(tmp_path / "again.tiktoken")
    assert (tmp_path / "again.tiktoken").read_bytes() == path.read_bytes()
    ours.save_huggingface(tmp_path / "tokenizer.json")
    assert Tokenizer.from_huggingface(tmp_path / "tokenizer.json") == ours
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == ids


def test_a_directory_of_a_tokenizer_of_openai_has_no_files_of_gpt2(tmp_path):
    bpe.train_from_iterator([CORPUS], 300).save_pretrained(tmp_path)
    bpe.train_from_iterator([CORPUS], 300, pattern=CL100K_PATTERN).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tokenizer.json",
        "tokenizer.tiktoken",
        "tokenizer_config.json",
    ]
