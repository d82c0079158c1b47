"""Training: merges equal the slow reference, by every way through the code."""

import gzip
import json
import random
import zlib

import numpy as np
import pytest
from conftest import CORPUS, EOT, SLOWER, data_file
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe
from bpe import PretokenCounts, reference
from bpe.text.blocks import Block, BlockCutter
from bpe.text.compression import open_text_file
from bpe.text.patterns import GPT2_PATTERN
from bpe.text.special_tokens import SpecialTokenFinder
from bpe.training.counting import count_blocks
from bpe.training.train import learn_merges

ENGINES = ["python", "kernels"]


def block_of(text, special_tokens):
    data = text.encode()
    return Block(data, SpecialTokenFinder(special_tokens).spans(data))


words = st.dictionaries(
    st.text(alphabet="aab", min_size=1, max_size=12).map(str.encode), st.integers(1, 3), min_size=1, max_size=8
)


@pytest.mark.parametrize("engine", ENGINES)
@given(counts=words, number=st.integers(0, 30))
def test_merges_of_runs_and_ties_equal_the_reference(engine, counts, number):
    assert learn_merges(PretokenCounts(counts), number, engine) == reference.learn_merges(counts, number)


@pytest.mark.parametrize("engine", ENGINES)
@given(counts=st.dictionaries(st.binary(min_size=1, max_size=10), st.integers(1, 2**40), max_size=10))
def test_merges_of_any_bytes_equal_the_reference(engine, counts):
    assert learn_merges(PretokenCounts(counts), 50, engine) == reference.learn_merges(counts, 50)


@pytest.mark.parametrize("engine", ENGINES)
def test_merges_of_random_corpora_equal_the_reference(engine):
    generator = random.Random(20)
    for _ in range(60):
        alphabet = "ab" if generator.random() < 0.5 else "abcdé "
        special = generator.choice([[], [EOT], ["ab", "aba"], ["<a", "<a b>"]])
        text = "".join(generator.choices([*alphabet, *special, "aaaa"], k=300))
        counts = reference.count_words(text, special)
        assert count_blocks([block_of(text, special)], GPT2_PATTERN, 1, engine) == counts
        assert learn_merges(PretokenCounts(counts), 60, engine) == reference.learn_merges(counts, 60)


def test_the_kernels_grow_as_needed():
    generator = random.Random(3)
    counts = {generator.randbytes(generator.randint(1, 12)): generator.randint(1, 5) for _ in range(9000)}
    assert learn_merges(PretokenCounts(counts), 700, "kernels") == learn_merges(PretokenCounts(counts), 700, "python")


def test_counts_above_32_bits_are_right():
    counts = {b"ab": 2**33, b"cd": 2**33 + 1}
    for engine in ENGINES:
        assert learn_merges(PretokenCounts(counts), 2, engine) == [(b"c", b"d"), (b"a", b"b")]


def test_counts_whose_sums_pass_64_bits_are_exact():
    most = 2**63 - 1
    counts = {b"abx": most, b"aby": most, b"cd": 5, b"cde": 7}
    loaded = PretokenCounts.from_arrays(*PretokenCounts(counts).arrays())
    assert (loaded.total, loaded.total_bytes) == (2 * most + 12, 6 * most + 31)
    for engine in ("auto", "kernels"):
        for made in (PretokenCounts(counts), loaded):
            assert learn_merges(made, 3, engine) == reference.learn_merges(counts, 3)
    for one in (PretokenCounts({b"ab": most}), PretokenCounts.from_arrays(*PretokenCounts({b"ab": most}).arrays())):
        assert one + {} == {b"ab": most}
        with pytest.raises(ValueError, match="counts of 9,223,372,036,854,775,807 and 1 pre-tokens cannot"):
            one + {b"ab": 1}


def test_the_example_of_the_course():
    text = "low low low low low lower lower widest widest widest newest newest newest newest newest newest"
    tokenizer = bpe.train_from_iterator([text], 256 + 6 + 1, [EOT], pattern=r"\S+")
    expected = [(b"s", b"t"), (b"e", b"st"), (b"o", b"w"), (b"l", b"ow"), (b"w", b"est"), (b"n", b"e")]
    assert tokenizer.merges == expected
    assert [tokenizer.decode([id_]) for id_ in tokenizer.encode("newest")] == ["ne", "west"]


@pytest.mark.parametrize("special", [[], [EOT], ["cat", "cat's", " "]])
def test_train_equals_the_reference_and_lays_out_ids(tmp_path, special):
    path = tmp_path / "text.txt"
    path.write_text(CORPUS + EOT + CORPUS, encoding="utf-8", newline="")
    tokenizer = bpe.train(path, 330, special)
    expected = reference.learn_merges(reference.count_words(CORPUS + EOT + CORPUS, special), 330 - 256 - len(special))
    assert tokenizer.merges == expected
    tokens = [bytes([i]) for i in range(256)] + [a + b for a, b in expected] + [s.encode() for s in special]
    assert tokenizer.vocab == dict(enumerate(tokens))
    assert tokenizer.special_tokens == special
    assert tokenizer.vocab_size == 330


def test_training_stops_when_no_pair_is_left():
    tokenizer = bpe.train_from_iterator(["abab", "abab"], 10_000, [EOT])
    assert tokenizer.merges == [(b"a", b"b"), (b"ab", b"ab")]
    assert tokenizer.eot_id == 258
    assert bpe.train_from_iterator([], 300).merges == []


def test_special_tokens_never_merge_nor_are_merged_across():
    tokenizer = bpe.train_from_iterator([f"ab{EOT}cd{EOT}" * 50], 300, [EOT])
    assert tokenizer.merges == [(b"c", b"d"), (b"a", b"b")]


def test_each_text_of_an_iterator_is_a_document():
    assert bpe.train_from_iterator(["a", "b"] * 9, 300).merges == []
    assert bpe.train_from_iterator(["ab"] * 9, 300).merges == [(b"a", b"b")]


def test_files_folders_and_compression_give_the_same(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "one.txt").write_text(CORPUS, encoding="utf-8", newline="")
    with gzip.open(tmp_path / "plain" / "two.txt.gz", "wt", encoding="utf-8", newline="") as file:
        file.write(CORPUS[::-1])
    whole = bpe.train_from_iterator([CORPUS, CORPUS[::-1]], 350)
    assert bpe.train(tmp_path, 350) == whole
    assert bpe.train([tmp_path / "plain" / "two.txt.gz", tmp_path / "plain" / "one.txt"], 350) == whole


def test_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "text.zst").write_bytes(zstandard.compress(CORPUS.encode()))
    assert bpe.train(tmp_path / "text.zst", 350) == bpe.train_from_iterator([CORPUS], 350)


@pytest.mark.parametrize("chunk", [7, 1000, 100_000])
def test_frames_of_zstandard_are_read_one_after_another(tmp_path, chunk):
    zstandard = pytest.importorskip("zstandard")
    path, texts = tmp_path / "text.zst", [CORPUS.encode(), b"", b"x" * 1_000_000, b"end"]
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"  # RFC 8878, section 3.1.2: to be passed over
    path.write_bytes(skippable.join(zstandard.compress(text) for text in texts))
    chunks = list(open_text_file(path, chunk))
    assert b"".join(chunks) == b"".join(texts)
    assert {len(one) for one in chunks[:-1]} == {chunk}


@pytest.mark.parametrize("missing", [1, 2, 100, 5_000])
def test_a_file_of_zstandard_that_ends_too_early_is_no_shorter_text(tmp_path, missing):
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.compress(random.Random(0).randbytes(20_000)) + zstandard.compress(CORPUS.encode())
    path = tmp_path / "text.zst"
    path.write_bytes(packed[:-missing])
    with pytest.raises(ValueError, match=r"cannot be unpacked: .*; make or fetch it again"):
        list(open_text_file(path, 1 << 20))


@pytest.mark.parametrize("special", [[], [EOT]])
def test_counts_do_not_depend_on_blocks_and_threads(special):
    text = (CORPUS + EOT + "a" * 5000 + "日本語" * 400) * 2
    expected = reference.count_words(text, special)
    data = text.encode()
    for size in (7, 100, 4096):
        chunks = [chunk.encode() for chunk in (text[i : i + size] for i in range(0, len(text), size))]
        blocks = list(BlockCutter(SpecialTokenFinder(special), GPT2_PATTERN).blocks(chunks))
        assert b"".join(block.data for block in blocks) == data
        assert len(blocks) >= 3
        for threads in (1, 3):
            assert count_blocks(blocks, GPT2_PATTERN, threads, "kernels", SpecialTokenFinder(special)) == expected


def test_large_documents_of_an_iterator(monkeypatch):
    monkeypatch.setattr("bpe.training.train.BLOCK_BYTES", 1000)
    assert bpe.train_from_iterator([CORPUS * 3, CORPUS], 350) == bpe.train_from_iterator(
        [CORPUS * 3 + EOT + CORPUS], 350
    )


def test_other_patterns_train_and_encode():
    tokenizer = bpe.train_from_iterator([CORPUS], 350, [], pattern=r"[a-z]+")
    counts = reference.count_words(CORPUS, [], r"[a-z]+|[^a-z]+")
    assert tokenizer.merges == reference.learn_merges(counts, 94)
    assert tokenizer.decode(tokenizer.encode(CORPUS)) == CORPUS


def test_counts_add_up_and_are_kept(tmp_path):
    one, two = PretokenCounts({b"a": 1, b" longer than eight": 2}), PretokenCounts({b"a": 3, b"c": 4})
    both = one + two
    assert both == {b"a": 4, b" longer than eight": 2, b"c": 4}
    assert one + {b"a": 3, b"c": 4} == both
    assert (both.total, both.total_bytes) == (10, 4 + 36 + 4)
    assert both.most_common(2) == [(b"c", 4), (b"a", 4)]
    both.save(tmp_path / "counts.npz")
    assert PretokenCounts.load(tmp_path / "counts.npz") == both
    first = (tmp_path / "counts.npz").read_bytes()
    (two + one).save(tmp_path / "counts.npz")
    assert (tmp_path / "counts.npz").read_bytes() == first
    assert bpe.train_from_counts(both, 260) == bpe.train_from_counts(dict(both), 260)


@settings(max_examples=40)
@given(counts=st.dictionaries(st.binary(min_size=1, max_size=12), st.integers(1, 2**40), max_size=20))
def test_counts_survive_saving(counts, tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "counts.npz"
    PretokenCounts(counts).save(path)
    assert PretokenCounts.load(path) == counts


@pytest.mark.parametrize("engine", ENGINES)
def test_counts_know_their_special_tokens(tmp_path, monkeypatch, engine):
    monkeypatch.setattr("bpe.training.counting.PYTHON_BYTES", 0 if engine == "kernels" else 1 << 20)
    (tmp_path / "text.txt").write_text(f"a cat<a>a hat{EOT}a cat")
    one = bpe.count_pretokens(tmp_path / "text.txt", ["<a>", EOT])
    one.save(tmp_path / "counts")
    assert one.special_tokens == PretokenCounts.load(tmp_path / "counts").special_tokens == ("<a>", EOT)
    assert (one + PretokenCounts(dict(one), special_tokens=[EOT, "<a>"])).special_tokens == ("<a>", EOT)
    assert bpe.train_from_counts(one, 270, [EOT, "<a>"]).special_tokens == [EOT, "<a>"]
    with pytest.warns(UserWarning, match=r"special_tokens is \['<\|endoftext\|>'\], but the counts were made with"):
        bpe.train_from_counts(one, 270)
    other = bpe.count_pretokens(tmp_path / "text.txt", [])
    assert other.special_tokens == ()
    with pytest.raises(ValueError, match=r"counts without the special tokens \(\) cannot be added to counts without"):
        one + other
    # Counts that do not know theirs, as those in files of earlier versions, go with all others.
    old = PretokenCounts.load(counts_file(tmp_path / "old", [1, 2], [3, 4], b"abc"))
    assert old.special_tokens is None
    same = PretokenCounts(dict(one), pattern=old.pattern, special_tokens=["<a>"])
    assert (old + same).special_tokens == (same + old).special_tokens == ("<a>",)
    bpe.train_from_counts(old, 270, ["<b>"])


def counts_file(path, lengths, counts, words, **changes):
    parts = [np.array(lengths, "<i8").tobytes(), np.array(counts, "<i8").tobytes(), words]
    packed = [zlib.compress(part) for part in parts]
    facts = {"pretokens": len(counts), "pattern": "x", "crc32": [zlib.crc32(part) for part in parts]}
    facts |= {"packed": [len(part) for part in packed]} | changes
    path.write_bytes(f"bpe-counts 1\n{json.dumps(facts)}\n".encode() + b"".join(packed))
    return path


def test_a_counts_file_made_by_hand_is_read(tmp_path):
    path = counts_file(tmp_path / "counts", [1, 2], [3, 4], b"abc")
    assert PretokenCounts.load(path) == {b"a": 3, b"bc": 4}
    assert PretokenCounts.load(counts_file(path, [], [], b"")) == {}


@pytest.mark.parametrize(
    ("lengths", "changes"),
    [
        ([2**62, 2**62, 2**62, 2**62, 4], {}),
        ([2**63 - 1, 2**63 - 1, 1, 1, 4], {}),
        ([1, 1, 1], {}),
        ([0, 1, 3], {}),
        ([5, -2, 1], {}),
        ([1, 1, 1, 1, 1], {}),
        ([1, 2], {"packed": []}),
        ([1, 2], {"packed": [9]}),
        ([1, 2], {"packed": [9, 9, 10**15]}),
        ([1, 2], {"packed": [10**30, 0, 0]}),
        ([1, 2], {"packed": [-1, 1, 1]}),
        ([1, 2], {"packed": {"a": 1}}),
        ([1, 2], {"packed": 3}),
        ([1, 2], {"pretokens": "2"}),
        ([1, 2], {"pattern": ["x"]}),
        ([1, 2], {"crc32": None}),
        ([1, 2], {"special_tokens": "<a>"}),
        ([1, 2], {"special_tokens": [1]}),
    ],
)
def test_a_hostile_counts_file_is_refused(tmp_path, lengths, changes):
    path = counts_file(tmp_path / "counts", lengths, [1] * len(lengths), b"abc" if changes else b"abcd", **changes)
    with pytest.raises(ValueError, match="has no pre-token counts, or is damaged"):
        PretokenCounts.load(path)


def test_a_counts_file_whose_header_is_no_object_is_refused(tmp_path):
    for header in ("[]", "3", "[" * 100_000, "{}", ""):
        (tmp_path / "counts").write_text(f"bpe-counts 1\n{header}\n")
        with pytest.raises(ValueError, match="has no pre-token counts, or is damaged"):
            PretokenCounts.load(tmp_path / "counts")


def test_training_on_tinystories_is_the_same_by_both_engines():
    text = data_file("tinystories_valid.txt").read_bytes()[: 1_200_000 // SLOWER].decode("utf-8", "ignore")
    block = block_of(text, [EOT])
    counts = count_blocks([block], GPT2_PATTERN, 1, "kernels")
    assert counts == count_blocks([block], GPT2_PATTERN, 1, "python") == reference.count_words(text, [EOT])
    assert learn_merges(counts, 3000, "kernels") == learn_merges(counts, 3000, "python")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bpe.train("absent.txt", 300), FileNotFoundError, "no file 'absent.txt'"),
        (lambda: bpe.train([], 300), ValueError, "paths is empty"),
        (lambda: bpe.train_from_iterator(["a"], 256), ValueError, "vocab_size is 256, expected .* at least 257"),
        (lambda: bpe.train_from_iterator(["a"], 300.0), ValueError, "vocab_size is 300.0"),
        (lambda: bpe.train_from_iterator("abc", 300), TypeError, "texts is one str"),
        (lambda: bpe.train_from_iterator([b"abc"], 300), TypeError, "text is a bytes"),
        (lambda: bpe.train_from_iterator(["a"], 300, [""]), ValueError, "special token '' is not"),
        (lambda: bpe.train_from_iterator(["a"], 300, ["x", "x"]), ValueError, "'x' is given 2 times"),
        (lambda: bpe.train_from_iterator(["a"], 300, "<s>"), TypeError, "special_tokens is the string '<s>'"),
        (lambda: bpe.train_from_iterator(["a"], 300, ["\ud800"]), ValueError, "lone surrogate"),
        (lambda: bpe.train_from_iterator(["a"], 300, threads=0), ValueError, "threads is 0"),
        (lambda: bpe.train_from_iterator(["a"], 300, pattern="("), ValueError, "not a regular expression"),
        (lambda: bpe.train_from_counts({"a": 1}, 300), ValueError, "pre-token 'a' is not non-empty bytes"),
        (lambda: bpe.train_from_counts({b"a": 0}, 300), ValueError, "is 0, expected a whole number"),
        (lambda: PretokenCounts.load("absent.npz"), FileNotFoundError, "no file 'absent.npz'"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_wrong_files(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        bpe.train(tmp_path / "empty.txt", 300)
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"text" * 1000)[:-20])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        bpe.train(tmp_path / "broken.gz", 300)
    (tmp_path / "not.gz").write_bytes(b"text")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        bpe.train(tmp_path / "not.gz", 300)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="has no file ending in"):
        bpe.train(tmp_path / "folder", 300)
    (tmp_path / "counts.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="has no pre-token counts"):
        PretokenCounts.load(tmp_path / "counts.npz")


def test_malformed_utf8_is_replaced_with_a_warning(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"ab \xff ab \xe2\x82 ab \xef\xbf\xbd ab\xf0\x9f")
    with pytest.warns(
        bpe.InvalidUTF8Warning, match=r"3 places of malformed UTF-8 in .*text.txt' were replaced by U\+FFFD"
    ):
        counts = bpe.count_pretokens(path)
    assert counts == reference.count_words(path.read_bytes().decode("utf-8", "replace"))


def test_progress_is_reported(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("abab")
    bpe.train(tmp_path / "text.txt", 300, progress=True)
    captured = capsys.readouterr()
    assert "counting:  100%  4 B" in captured.err
    assert "merging:   50%  2 merges" in captured.err
    assert captured.out == ""
