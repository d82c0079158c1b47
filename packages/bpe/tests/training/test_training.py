"""Training on files, iterators and counts: results equal the reference, wrong input is refused."""

import gzip
import io
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from helpers import CORPUS, EOT

import bpe
from bpe import GPT2_PATTERN, PretokenCounts, Tokenizer, reference
from bpe.text import Block, SpecialTokenFinder, scanner_of
from bpe.threads import call_aside
from bpe.training.counting import KernelCounter
from bpe.training.learning import learn_merges_with_kernels

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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


@pytest.mark.parametrize("texts", [[], iter(()), ["", ""], [EOT, EOT * 2], [[], [""]]])
def test_nothing_to_train_on_is_an_error(texts, tmp_path):
    """F10: an exhausted generator used to give a tokenizer of 257 tokens."""
    with pytest.raises(ValueError, match="there is nothing to train on, expected text beside special tokens; check"):
        bpe.train_from_iterator(texts, 257)
    with pytest.raises(ValueError, match="there is nothing to train on"):
        bpe.train_from_counts({}, 257)
    (tmp_path / "text.txt").write_text(EOT)
    with pytest.raises(ValueError, match="there is nothing to train on"):
        bpe.train(tmp_path / "text.txt", 257)


def test_too_few_merges_are_a_warning(tmp_path):
    """R19: a vocabulary that is smaller than asked for used to come without a word."""
    (tmp_path / "text.txt").write_text("abab")
    counts = bpe.count_pretokens(tmp_path / "text.txt")
    message = (
        "vocab_size is 10,000, but the vocabulary has only 259 tokens, because no pair of tokens is left to merge;"
    )
    for train in (
        lambda **limits: bpe.train(tmp_path / "text.txt", 10_000, **limits),
        lambda **limits: bpe.train_from_iterator(["abab"], 10_000, **limits),
        lambda **limits: bpe.train_from_counts(counts, 10_000, **limits),
    ):
        with pytest.warns(bpe.VocabularySizeWarning, match=message) as warned:
            assert train().vocab_size == 259
        assert len(warned) == 1
        assert warned[0].filename == __file__
        with pytest.warns(bpe.VocabularySizeWarning, match="merge within min_frequency 2 and max_token_length 9;"):
            assert train(min_frequency=2, max_token_length=9).merges == [(b"a", b"b")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bpe.train_from_iterator(["abab"], 259)


def test_limits_of_merges_in_all_ways_of_training(tmp_path):
    (tmp_path / "text.txt").write_text(CORPUS, "utf-8", newline="")
    counts = bpe.count_pretokens(tmp_path / "text.txt")
    expected = reference.learn_merges(counts, 200, min_frequency=4, max_token_length=3)
    assert expected != reference.learn_merges(counts, 200, max_token_length=3)
    assert expected != reference.learn_merges(counts, 200, min_frequency=4)
    limits = {"min_frequency": np.int64(4), "max_token_length": np.int64(3)}
    for trained in (
        bpe.train(tmp_path / "text.txt", 457, **limits),
        bpe.train_from_iterator([CORPUS], 457, **limits),
        bpe.train_from_counts(counts, 457, **limits),
    ):
        assert trained.merges == expected
    assert bpe.train_from_iterator([CORPUS], 400, min_frequency=0) == bpe.train_from_iterator([CORPUS], 400)


def test_min_frequency_is_that_of_tokenizers():
    words = {"we": 9, "my": 6, "it": 4, "is": 3, "ox": 2, "up": 1}  # without ties, which they break in other ways
    text = "".join(f"{word} " * count for word, count in words.items())
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    theirs.train_from_iterator([text], tokenizers.trainers.BpeTrainer(min_frequency=3, show_progress=False))
    ours = bpe.train_from_iterator([text], 300, [], pattern=r"\w+", min_frequency=3)
    assert {"we", "my", "it", "is"} == {token for token in theirs.get_vocab() if len(token) > 1}
    assert ours.merges == [(b"w", b"e"), (b"m", b"y"), (b"i", b"t"), (b"i", b"s")]


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
    (tmp_path / "text.zst").write_bytes(zstd.compress(CORPUS.encode()))
    assert bpe.train(tmp_path / "text.zst", 350) == bpe.train_from_iterator([CORPUS], 350)


def test_large_documents_of_an_iterator(monkeypatch):
    monkeypatch.setattr("bpe.training.counting.BLOCK_BYTES", 1000)
    assert bpe.train_from_iterator([CORPUS * 3, CORPUS], 350) == bpe.train_from_iterator(
        [CORPUS * 3 + EOT + CORPUS], 350
    )


def test_other_patterns_train_and_encode():
    tokenizer = bpe.train_from_iterator([CORPUS], 350, [], pattern=r"[a-z]+")
    counts = reference.count_words(CORPUS, [], r"[a-z]+|[^a-z]+")
    assert tokenizer.merges == reference.learn_merges(counts, 94)
    assert tokenizer.decode(tokenizer.encode(CORPUS)) == CORPUS


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bpe.train("absent.txt", 300), FileNotFoundError, "no file 'absent.txt'"),
        (lambda: bpe.train([], 300), ValueError, "paths is empty"),
        (lambda: bpe.train_from_iterator(["a"], 256), ValueError, "vocab_size is 256, expected .* at least 257"),
        (lambda: bpe.train_from_iterator(["a"], 300.0), ValueError, "vocab_size is 300.0"),
        (lambda: bpe.train_from_iterator("abc", 300), TypeError, "texts is one str"),
        (lambda: bpe.train_from_iterator(["a"], 300, min_frequency=-1), ValueError, "min_frequency is -1, expected"),
        (lambda: bpe.train_from_iterator(["a"], 300, min_frequency=2.0), ValueError, "min_frequency is 2.0, expected"),
        (
            lambda: bpe.train_from_iterator(["a"], 300, min_frequency=None),
            ValueError,
            "min_frequency is None, expected",
        ),
        (lambda: bpe.train("absent", 300, max_token_length=0), ValueError, "max_token_length is 0, expected a whole"),
        (
            lambda: bpe.train_from_counts({}, 300, max_token_length=True),
            ValueError,
            "max_token_length is True, expected",
        ),
        (lambda: bpe.train_from_iterator(["a"], 300, [""]), ValueError, "special token '' is not"),
        (lambda: bpe.train_from_iterator(["a"], 300, ["x", "x"]), ValueError, "'x' is given 2 times"),
        (lambda: bpe.train_from_iterator(["a"], 300, "<s>"), TypeError, "special_tokens is the string '<s>'"),
        (lambda: bpe.train_from_iterator(["a"], 300, ["\ud800"]), ValueError, "lone surrogate"),
        (lambda: bpe.train_from_iterator(["a"], 300, threads=0), ValueError, "threads is 0"),
        (lambda: bpe.train_from_iterator(["a"], 300, pattern="("), ValueError, "not a regular expression"),
        (lambda: bpe.train_from_counts({"a": 1}, 300), ValueError, "pre-token 'a' is not non-empty bytes"),
        (lambda: bpe.train_from_counts({b"a": 0}, 300), ValueError, "is 0, expected a whole number"),
        (lambda: PretokenCounts.load("absent.npz"), FileNotFoundError, "no file 'absent.npz'"),
        (lambda: bpe.train("", 300), ValueError, "paths has an empty string, expected a file or a folder"),
        (lambda: bpe.Tokenizer.from_pretrained(""), ValueError, "directory is an empty string, expected a folder"),
        (lambda: bpe.Tokenizer({}, []).save_pretrained(""), ValueError, "directory is an empty string"),
        (lambda: bpe.hold_out_documents(__file__, ""), ValueError, "directory is an empty string"),
        (
            lambda: bpe.train_from_iterator(["a"], 300.0),
            ValueError,
            r"at least 257 \(256 bytes and 1 special tokens\)$",
        ),
        (lambda: bpe.train([__file__, ""], 300), ValueError, "paths has an empty string, expected a file"),
        (lambda: bpe.train([b"a.txt"], 300), TypeError, "paths has b'a.txt', expected a str or a Path"),
        (lambda: bpe.train([io.StringIO("a")], 300), TypeError, "paths has an open file, expected its name"),
        (lambda: bpe.train(None, 300), TypeError, "paths is a NoneType, expected a str or a Path"),
        (lambda: bpe.train([5], 300), TypeError, "paths has a int, expected a str or a Path"),
        (lambda: bpe.train(["absent.txt", ""], 300), FileNotFoundError, "no file 'absent.txt'"),
        (lambda: bpe.train(b"a.txt", 300), TypeError, "paths is b'a.txt', expected a str or a Path"),
        (lambda: bpe.train(io.StringIO("a"), 300), TypeError, "paths is an open file, expected its name"),
        (lambda: bpe.train_from_iterator(["a"], True), ValueError, "vocab_size is True"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_empty_file_among_others_is_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat", "utf-8")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.gz").write_bytes(gzip.compress(b""))
    with pytest.warns(UserWarning, match="is empty, and was skipped") as warned:
        counts = bpe.count_pretokens(tmp_path)
    assert [Path(str(warning.message).split("'")[1]).name for warning in warned] == ["b.txt", "c.gz"]
    assert counts == bpe.count_pretokens(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"all 3 files are empty, expected text; the first is '.*a\.txt'"):
        bpe.train(tmp_path, 300)


def test_integers_of_numpy_are_integers():
    number = np.int64(300)
    tokenizer = bpe.train_from_iterator([CORPUS], number, threads=np.int32(1))
    assert tokenizer == bpe.train_from_iterator([CORPUS], 300)
    vocab = {np.uint16(id_): token for id_, token in tokenizer.vocab.items()}
    again = Tokenizer(vocab, tokenizer.merges, {"<|endoftext|>": np.int64(299)})
    assert again == tokenizer
    assert {type(id_) for id_ in again.vocab} == {int}
    assert PretokenCounts({b"a": np.int64(3)}) == {b"a": 3}


@pytest.mark.parametrize("ready", [False, True])
def test_without_ready_machine_code_no_kernel_runs_in_the_main_thread_where_ctrl_c_can_arrive(monkeypatch, ready):
    from bpe.kernels.tables.pretokens import PretokenTable

    monkeypatch.setattr("bpe.kernels.are_ready", lambda: ready)
    threads = set()

    def noting(method):
        def call(*arguments):
            threads.add(threading.current_thread())
            return method(*arguments)

        return call

    for name in ("count", "add", "arrays"):
        monkeypatch.setattr(PretokenTable, name, noting(getattr(PretokenTable, name)))
    counters = [KernelCounter(SpecialTokenFinder([]), GPT2_PATTERN, scanner_of(GPT2_PATTERN)) for _ in range(2)]
    for counter in counters:
        call_aside(lambda counter=counter: counter.count(Block(CORPUS.encode())))
    counters[0]._tables += counters[1]._tables
    counts = counters[0].counts()
    assert sum((counts + counts).values()) == 4 * sum(reference.count_words(CORPUS, []).values())
    assert threads
    assert (threading.main_thread() in threads) == ready


def test_wrong_files(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        bpe.train(tmp_path / "empty.txt", 300)
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"text" * 1000)[:-20])
    with pytest.raises(ValueError, match="cannot be decompressed"):
        bpe.train(tmp_path / "broken.gz", 300)
    (tmp_path / "not.gz").write_bytes(b"text")
    with pytest.raises(ValueError, match="cannot be decompressed"):
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
    with pytest.warns(bpe.InvalidUTF8Warning, match=r"3 malformed UTF-8 sequences in .*text.txt' replaced by U\+FFFD"):
        counts = bpe.count_pretokens(path)
    assert counts == reference.count_words(path.read_bytes().decode("utf-8", "replace"))


def test_progress_is_reported(tmp_path, capsys):
    """F13: counting of an iterator is reported, and the last line is never that of half the work."""
    (tmp_path / "text.txt").write_text("abab")
    for train in (bpe.train, lambda path, *size, **options: bpe.train_from_iterator(["ab", "ab"], *size, **options)):
        train(tmp_path / "text.txt", 300, progress=True)
        captured = capsys.readouterr()
        counting = [line for line in captured.err.splitlines() if line.startswith("counting:")]
        assert "4.00" in counting[-1]
        assert captured.out == ""


def test_the_last_report_of_merging_is_of_all(capsys):
    """F13."""
    assert len(learn_merges_with_kernels(PretokenCounts({b"abab": 1}), 44, progress=True)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("merging: 100%")
    assert "2.00/2.00" in lines[-1]
    assert learn_merges_with_kernels(PretokenCounts({b"a": 1}), 44, progress=True) == []
    assert "%" not in capsys.readouterr().err.splitlines()[-1]
