"""GPT-2's vocab.json and merges.txt in the forms that various programs write."""

import json
import re

import pytest
import tokenizers
from helpers import CORPUS, EOT, data_file

import bpe
from bpe import Tokenizer
from bpe.formats import gpt2
from bpe.text import from_characters, to_characters


@pytest.fixture
def folder(small, tmp_path):
    """A folder with the files of a small tokenizer."""
    small.save_pretrained(tmp_path)
    return tmp_path


def read(folder, special_tokens=(EOT,)):
    return Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", list(special_tokens))


@pytest.mark.parametrize(
    "change",
    [
        lambda merges: merges,
        lambda merges: merges.removeprefix("#version: 0.2\n"),
        lambda merges: merges.replace("\n", "\r\n"),
        lambda merges: merges.removeprefix("#version: 0.2\n").replace("\n", "\r\n"),
        lambda merges: merges.rstrip("\n"),
        lambda merges: merges.replace("\n", "\n\n"),
        lambda merges: merges + "\n\r\n\n",
    ],
)
def test_line_ends_and_version_lines(small, folder, change):
    merges = (folder / "merges.txt").read_text("utf-8")
    assert merges.startswith("#version: 0.2\n")
    (folder / "merges.txt").write_bytes(change(merges).encode("utf-8"))
    assert read(folder) == small


def test_tokens_that_look_like_white_space_or_comments(tmp_path):
    """Tokens with the bytes of U+0085, U+00A0 and U+2028, and with the character that starts a version line."""
    texts = [
        "x\u0085\u0085",
        "\u00a0\u00a0",
        "\u2028\u2028",
        "##version",
        "\r\n\r\n",
        "\x1c\x1d\x1c\x1d",
        "\u00ad\u00ad",
    ]
    tokenizer = bpe.train_from_iterator(texts, 300, [])
    assert {b"##", b"\x1c\x1d", b"\xc2\x85", b"\xc2\xa0", b"\xe2\x80\xa8"} <= set(tokenizer.vocab.values())
    tokenizer.save_pretrained(tmp_path)
    assert read(tmp_path, ()) == tokenizer
    merges = (tmp_path / "merges.txt").read_text("utf-8").split("\n", 1)[1]
    first = next(line for line in merges.split("\n") if line.startswith("# "))
    others = [line for line in merges.split("\n") if line and line != first]
    (tmp_path / "merges.txt").write_text("\n".join([first, *others]), "utf-8")
    assert read(tmp_path, ()).merges[0] == (b"#", b"#")


def test_the_same_ids_in_the_tokenizers_library(small, folder):
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    theirs.add_special_tokens([EOT])
    assert theirs.encode(CORPUS + EOT).ids == small.encode(CORPUS + EOT)


def test_a_merge_that_comes_twice_counts_where_it_comes_last(folder):
    lines = (folder / "merges.txt").read_text("utf-8").rstrip("\n").split("\n")
    (folder / "merges.txt").write_text("\n".join([*lines, *lines[1:20]]), "utf-8")
    ours = read(folder)
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert ours.encode(CORPUS) == theirs.encode(CORPUS).ids
    assert ours.merges == [tuple(map(from_characters, line.split(" "))) for line in [*lines[20:], *lines[1:20]]]


def test_of_equal_merges_the_first_counts_here_and_is_written(small, folder):
    twice = Tokenizer(small.vocab, [*small.merges, *small.merges[:20]], [EOT])
    assert twice.encode(CORPUS) == small.encode(CORPUS)
    twice.save_pretrained(folder)
    assert read(folder) == small
    assert Tokenizer.from_pretrained(folder) == small


def test_gaps_between_ids(small, folder):
    vocab = {text: 2 * id_ + 7 for text, id_ in json.loads((folder / "vocab.json").read_text("utf-8")).items()}
    (folder / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    ours = read(folder)
    assert ours.encode(CORPUS + EOT) == [2 * id_ + 7 for id_ in small.encode(CORPUS + EOT)]
    assert ours.decode(ours.encode(CORPUS + EOT)) == CORPUS + EOT
    ours.save_pretrained(folder)
    assert Tokenizer.from_pretrained(folder) == read(folder) == ours
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert theirs.encode(CORPUS + EOT).ids == ours.encode(CORPUS + EOT)


def test_end_of_text_is_special_in_the_published_files():
    vocab, merges = data_file("vocabularies/gpt2_vocab.json"), data_file("vocabularies/gpt2_merges.txt")
    tokenizer = Tokenizer.from_files(vocab, merges)
    assert tokenizer.eot_id == 50256
    assert tokenizer.encode(f"Hello{EOT} world") == [15496, 50256, 995]
    assert tokenizer == Tokenizer.from_huggingface(data_file("vocabularies/gpt2_tokenizer.json"))
    plain = Tokenizer.from_files(vocab, merges, [])
    assert (plain.eot_id, plain.special_tokens) == (None, [])
    assert plain.encode(EOT) == [27, 91, 437, 1659, 5239, 91, 29]


def test_end_of_text_that_a_merge_makes_is_ordinary(tmp_path):
    tokenizer = bpe.train_from_iterator([EOT * 9], 300, [], pattern=f"{re.escape(EOT)}|.")
    plain = Tokenizer(tokenizer.vocab, tokenizer.merges)
    assert plain.token_to_id(EOT)
    plain.save_pretrained(tmp_path)
    assert Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt") == plain


def test_tokens_that_no_merge_makes_are_named(small, folder):
    """RoBERTa's files have <s>, <pad> and others; half a merges.txt leaves too many."""
    more = small.add_tokens(["<s>", "<pad>", "[MASK]", "<unk>", "</s>", "<mask>"])
    more.save_pretrained(folder)
    with pytest.warns(UserWarning, match=r"has 6 tokens that no merge makes.*'<s>', '<pad>'.*, \.\.\.\); name special"):
        read_all = Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt")
    assert read_all.special_tokens == [EOT]
    assert read(folder, more.special_tokens) == more
    lines = (folder / "merges.txt").read_text("utf-8").split("\n")
    (folder / "merges.txt").write_text("\n".join(lines[:50]), "utf-8")
    with pytest.raises(ValueError, match="makes 94 of the 143 tokens of several bytes in"):
        Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt")


def test_special_tokens_written_like_other_tokens(folder, small):
    """The vocabulary writes the byte E8 as è and " t" as Ġt; neither is the special token of the same text."""
    special = ["è", "Ġt", "ĠĠ", "<é>"]
    merges = gpt2.read_merges(folder / "merges.txt")
    ours = Tokenizer(gpt2.read_vocab(folder / "vocab.json", [EOT, *special], merges), merges, [EOT, *special])
    assert [ours.token_to_id(token) for token in special] == [400, 401, 402, 403]
    assert ours.vocab[0xE8] == b"\xe8"
    assert ours.encode(f"{CORPUS}èĠt") == [*small.encode(CORPUS), 400, 401]
    with pytest.raises(ValueError, match=r"ids 232 and 400 are both written 'è'"):
        ours.save_pretrained(folder / "again")
    kept = read(folder, [EOT, "<é>"])
    kept.save_pretrained(folder / "again")
    assert read(folder / "again", [EOT, "<é>"]) == Tokenizer.from_pretrained(folder / "again") == kept


def test_special_tokens_that_merges_use_are_refused(tmp_path):
    vocab = dict(enumerate([*(bytes([byte]) for byte in range(256)), b" a"]))
    with pytest.raises(ValueError, match=r"merge \(b' ', b'a'\) uses the bytes of the special token ' a'"):
        Tokenizer(vocab, [(b" ", b"a")], [" a"]).save_pretrained(tmp_path / "new")
    with pytest.raises(ValueError, match="'é' is the written form of other bytes"):
        Tokenizer({0: b"a"}, [], ["é"]).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # The same text, written the same way, does no harm.
    plain = Tokenizer({**vocab, 257: b"ab"}, [(b"a", b"b")], ["ab", "a"])
    plain.save_pretrained(tmp_path / "new")
    assert read(tmp_path / "new", ["ab", "a"]) == Tokenizer.from_pretrained(tmp_path / "new") == plain


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.9])
def test_merges_that_were_cut_off_are_refused(small, tmp_path, kept):
    """A12."""
    small.save_pretrained(tmp_path)
    lines = (tmp_path / "merges.txt").read_text("utf-8").splitlines(keepends=True)
    kept = kept if isinstance(kept, int) else int(kept * len(lines))
    (tmp_path / "merges.txt").write_text("".join(lines[:kept]), "utf-8")
    with pytest.raises(ValueError, match=r"no merge in '.*merges.txt' makes \d+ of the 143 tokens .* fetch the merges"):
        read(tmp_path, [EOT])


def test_published_vocabularies_with_tokens_that_no_merge_makes_are_read(gpt2, tmp_path):
    """RoBERTa's has madeupword0000 to 0002, others have reserved tokens in brackets; nobody names them all."""
    more = ["<s>", "[PAD]", "madeupword0000", *(f"<|reserved_{number}|>" for number in range(9000))]
    more += [f"unused{number}" for number in range(588)]
    vocab = gpt2.vocab | dict(enumerate(map(str.encode, more), start=gpt2.vocab_size))
    for merges, read_back in ((gpt2.merges, True), (gpt2.merges[:47_000], False)):
        Tokenizer(vocab, merges).save_pretrained(tmp_path)
        if read_back:
            assert read(tmp_path, []).encode("unused1 the cat") == gpt2.encode("unused1 the cat")
        else:
            with pytest.raises(ValueError, match="makes 3,589 of the 50,589 tokens of several bytes in"):
                read(tmp_path, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "is not UTF-8: invalid start byte at byte 0"),
        (b"", "is not JSON"),
        (b'{"a": 0, "b"', "is not JSON"),
        (b"[]", "has no vocabulary"),
        (b"{}", "has no vocabulary"),
        (b'{"a": 0, "b": 0}', "has the id 0 for 'b'"),
        (b'{"a": 0, "a": 1}', "has 'a' twice"),
        (b'{"a": "0"}', "has the id '0' for 'a'"),
        (b'{"a": -1}', "has the id -1"),
        (b'{"a": true}', "has the id True for 'a'"),
        (b'{"a b": 0}', "has ' ', which stands for no byte"),
        (b'{"": 0}', "non-empty"),
    ],
)
def test_wrong_vocabularies(folder, content, message):
    (folder / "vocab.json").write_bytes(content)
    (folder / "merges.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b\na b c\n", r"line 2 of .* is 'a b c', expected two tokens"),
        ("#version: 0.2\nab\n", r"line 2 of .* is 'ab', expected two tokens"),
        ("a \n", r"line 1 of .* is 'a ', expected two tokens"),
        ("a  b\n", r"line 1 of .* is 'a  b', expected two tokens"),
        ("a\tb\n", r"line 1 of .* is 'a\\tb', expected two tokens"),
        ("\ufeffa b\n", r"line 1 of .*'\\ufeff', which stands for no byte"),
        ("a ▁b\n", r"line 1 of .*'▁', which stands for no byte"),
        ("Q Q\n", r"merge \(b'Q', b'Q'\) needs token b'QQ', which is not in the vocabulary"),
    ],
)
def test_wrong_merges(folder, content, message):
    (folder / "merges.txt").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_characters_outside_of_latin_1_are_not_bytes():
    assert to_characters(b"\x00\xad\xff !") == "ĀŃÿĠ!"
