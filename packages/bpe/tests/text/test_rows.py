"""Documents out of rows: batches and rows of an iterator, JSON lines, Parquet."""

import array
import gzip
import json
import sys
import tracemalloc

import pytest
from helpers import CORPUS, EOT, WORDS
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import reference
from bpe.text import BlockCutter, SpecialTokenFinder, TextFile, find_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXTS = [CORPUS, "", "a cat", f"the end{EOT}cats", "naïve \ud83d\ude42 日本語", WORDS]


def counts_of(texts):
    """Return the counts of separate documents by the reference."""
    total = reference.Counter()
    for text in texts:
        total += reference.count_words(text.encode("utf-16", "surrogatepass").decode("utf-16"), [EOT])
    return total


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_parquet(path, columns, **options):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    ("items", "column"),
    [
        (TEXTS, None),
        ([TEXTS[:2], (), tuple(TEXTS[2:])], None),
        ([TEXTS[0], TEXTS[1:]], None),
        ((iter(TEXTS[start : start + 2]) for start in (0, 2, 4)), None),
        ([{"text": text, "id": 1} for text in TEXTS], "text"),
        ([{"id": [1, 1], "text": TEXTS[:2]}, {"text": TEXTS[2:]}], "text"),
    ],
)
def test_strings_batches_and_rows_of_an_iterator_are_documents(items, column):
    """R39 and R52: batches of texts, as in the course of Hugging Face, and rows of a data set."""
    assert bpe.train_from_iterator(iter(items), 400, column=column) == bpe.train_from_counts(counts_of(TEXTS), 400)


class Frame:
    columns = ("text",)

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    ("items", "column", "message"),
    [
        (["a", 3], None, "item 1 of texts is a int, expected a str or a list of str"),
        (["a", None], None, "item 1 of texts is a NoneType"),
        ([b"a"], None, "item 0 of texts is a bytes, expected a str or a list of str"),
        ([["a", 3.5]], None, "item 0 of texts has a float, expected str"),
        ([["a"], [["b"]]], None, "item 1 of texts has a list, expected str"),
        ([[b"a"]], None, "item 0 of texts has a bytes, expected str"),
        ([array.array("b", b"abc")], None, "item 0 of texts has a int, expected str"),
        ([{"text": "a", "id": 3}], None, "item 0 of texts has the columns 'text', 'id', expected a str; name one"),
        (["a"], "text", "item 0 of texts is a str, expected a row with the column 'text'; omit column"),
        ([{"text": 3}], "text", "item 0 of texts is a int, expected a str"),
        ({"train": ["a"]}, None, "texts is a dict, expected an iterable of str; pass one of its"),
        (Frame(), None, "texts is a Frame, expected an iterable of str; pass one of its columns"),
        (5, None, "texts is a int, expected an iterable of str; `train` reads files"),
        ("abc", None, r"texts is one str, expected an iterable of str; write \[text\]"),
    ],
)
def test_other_items_are_refused_by_type_and_position(items, column, message):
    with pytest.raises(TypeError, match=message):
        bpe.train_from_iterator(items, 300, column=column)


def test_a_row_without_the_column_is_refused():
    with pytest.raises(ValueError, match="item 1 of texts has no column 'text', but 'content', 'url'; name one of"):
        bpe.train_from_iterator([{"text": "a"}, {"content": "b", "url": "c"}], 300, column="text")


@pytest.mark.parametrize("python_bytes", [0, 1 << 20])
@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl", bytes), ("a.NDJSON", bytes), ("a.jsonl.gz", gzip.compress), ("a.json.zst", zstd.compress)],
)
def test_json_lines_give_the_counts_of_separate_documents(tmp_path, monkeypatch, name, pack, python_bytes):
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", python_bytes)
    lines = [json.dumps({"id": 1, "text": text}, ensure_ascii=len(text) % 2 == 0) for text in TEXTS[:4]]
    lines += ["", "  ", json.dumps({"text": TEXTS[4], "id": None}), json.dumps({"text": TEXTS[5]})]
    (tmp_path / name).write_bytes(pack(b"\xef\xbb\xbf" + "\r\n".join(lines).encode()))
    expected = counts_of(TEXTS)
    assert bpe.count_pretokens(tmp_path / name, column="text") == expected
    assert bpe.count_pretokens(tmp_path, column="text") == expected
    assert bpe.train(tmp_path, 350, column="text") == bpe.train_from_counts(expected, 350)


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=6), size=st.integers(1, 60))
def test_blocks_of_a_table_hold_its_documents(texts, size, tmp_path_factory):
    if not any(texts):
        return
    path = write_lines(tmp_path_factory.mktemp("rows") / "a.jsonl", [{"t": text} for text in texts])
    finder = SpecialTokenFinder([])
    found = []
    for block in TextFile(path, "t").blocks(BlockCutter(finder, bpe.GPT2_PATTERN), size):
        parts, _, _ = block.texts(finder)
        found += [text for text, _ in parts[:-1]]
        assert parts[-1] == ("", -1)
    assert found == [text for text in texts if text]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "line 2 of '.*jsonl' is not JSON: .* at character 12; expected one object per line"),
        (b"not json", "line 2 of '.*jsonl' is not JSON: Expecting value at character 0; expected one object"),
        (b"[" * 100_000, "line 2 of '.*jsonl' is not JSON: "),
        (b'{"n": ' + b"9" * 5000 + b"}", "line 2 of '.*jsonl' is not JSON: Exceeds the limit"),
        (b'{"text": "\xff"}', "line 2 of '.*jsonl' is not UTF-8: invalid start byte at byte 10"),
        (b'[{"text": "a"}]', "line 2 of '.*jsonl' is a JSON list, expected an object with the column 'text'"),
        (b'"text"', "line 2 of '.*jsonl' is a JSON str, expected an object"),
        (b"{}", "line 2 of '.*jsonl' has no column 'text', but none at all"),
        (b'{"content": "a", "url": "b"}', "line 2 of '.*jsonl' has no column 'text', but 'content', 'url'; name one"),
        (b'{"text": null}', "line 2 of '.*jsonl' has no value in column 'text', expected a string"),
        (b'{"text": ["a"]}', "line 2 of '.*jsonl' has a list in column 'text', expected a string"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "first"}\n' + line + b'\n{"text": "last"}\n')
    for column, error in (("text", message), (None, "a.jsonl' has rows, expected text; name the column of its texts")):
        with pytest.raises(ValueError, match=error):
            bpe.train(tmp_path / "a.jsonl", 300, column=column)


def test_texts_and_tables_are_not_confused(tmp_path):
    (tmp_path / "a.txt").write_text(CORPUS, "utf-8")
    write_lines(tmp_path / "b.jsonl", [{"text": "a"}])
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    (tmp_path / "d.json").write_text("{}")
    assert find_files(tmp_path) == [tmp_path / "a.txt"]
    assert find_files(tmp_path, "text") == [tmp_path / "b.jsonl", tmp_path / "c.parquet"]
    with pytest.raises(ValueError, match=r"line 1 of '.*a.txt' is not JSON"):
        bpe.count_pretokens([tmp_path / "b.jsonl", tmp_path / "a.txt"], column="text")
    for name in ("b.jsonl", "c.parquet"):
        with pytest.raises(
            ValueError, match="has rows, expected text; name the column of its texts, as in column='text'"
        ):
            bpe.count_pretokens([tmp_path / "a.txt", tmp_path / name])
        with pytest.raises(ValueError, match="has rows, expected text"):
            bpe.divide(tmp_path / name, None, tmp_path / "made")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"has no file ending in .txt, .gz, .zst; name a file, or a column if it has"):
        bpe.train(tmp_path / "folder", 300)
    with pytest.raises(ValueError, match=r"has no file ending in .parquet, .jsonl, .*; name a file, or no column"):
        bpe.train(tmp_path / "folder", 300, column="text")


def test_a_table_without_text_is_empty(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": ""}, {"text": ""}])
    with pytest.raises(ValueError, match=r"a.jsonl' is empty, expected text"):
        bpe.train(tmp_path, 300, column="text")
    write_lines(tmp_path / "b.jsonl", [{"text": "abab"}])
    with pytest.warns(UserWarning, match=r"a.jsonl' is empty, and was skipped"):
        assert bpe.train(tmp_path, 300, column="text").merges == [(b"a", b"b"), (b"ab", b"ab")]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_parquet_gives_the_counts_of_separate_documents(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    texts = [*TEXTS[:4], *TEXTS[5:]]
    strings = pyarrow.array(texts, pyarrow.large_string() if kind == "large_string" else pyarrow.string())
    column = strings.dictionary_encode() if kind == "dictionary" else strings
    path = write_parquet(tmp_path / "a.parquet", {"id": range(len(texts)), "text": column}, row_group_size=2)
    expected = counts_of(texts)
    assert bpe.count_pretokens(path, column="text") == expected
    assert bpe.train(tmp_path, 350, column="text") == bpe.train_from_counts(expected, 350)


def test_wrong_columns_of_parquet_are_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"id": [1, 2], "text": ["a", None], "blob": [b"a", b"b"]})
    for column, message in (
        ("content", "a.parquet' has no column 'content', but 'id', 'text', 'blob'; name one of them"),
        ("id", "row 1 of '.*a.parquet' has a int in column 'id', expected a string"),
        ("blob", "row 1 of '.*a.parquet' has a bytes in column 'blob', expected a string"),
        ("text", "row 2 of '.*a.parquet' has no value in column 'text', expected a string; leave the row out"),
    ):
        with pytest.raises(ValueError, match=message):
            bpe.train(path, 300, column=column)


@pytest.mark.parametrize("damage", ["cut", "no end", "middle", "malformed"])
def test_damaged_parquet_is_refused(tmp_path, damage):
    pyarrow = pytest.importorskip("pyarrow")
    texts = pyarrow.array([b"text %d \xff" % number for number in range(5000)], pyarrow.binary())
    if damage != "malformed":
        texts = pyarrow.array([f"text {number**5}" for number in range(5000)])
    else:
        texts = texts.view(pyarrow.string())
    path = write_parquet(tmp_path / "a.parquet", {"text": texts}, row_group_size=1000, compression="gzip")
    data = path.read_bytes()
    damaged = {"cut": data[: len(data) // 2], "no end": data[:-8], "malformed": data}
    middle = len(data) // 2
    path.write_bytes(damaged.get(damage, data[:middle] + bytes(200) + data[middle + 200 :]))
    with pytest.raises(
        ValueError, match=r"a.parquet' cannot be read as Parquet after row \d+: (?s:.)*; make or fetch it"
    ):
        bpe.train(path, 300, column="text")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="needs pyarrow, which is not installed; run: pip install pyarrow"):
        bpe.train(tmp_path / "a.parquet", 300, column="text")


def test_tables_are_read_in_bounded_memory(tmp_path):
    """The strings of one batch are in memory, not those of the file."""
    rows = ({"text": f"{number} " * 200} for number in range(20_000))
    write_lines(tmp_path / "a.jsonl", rows)
    tracemalloc.start()
    try:
        cutter = BlockCutter(SpecialTokenFinder([]), bpe.GPT2_PATTERN)
        total = sum(len(block.data) for block in TextFile(tmp_path / "a.jsonl", "text").blocks(cutter))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > 20_000_000
    assert peak < 12_000_000
