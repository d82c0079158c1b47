"""Tables and folders as one text: every document once, in order, with a separator after it."""

import gzip
import json
import sys

import pytest

from bpe.text import documents, join_documents

MARK = "<|endoftext|>"
TEXTS = ["one\nline", "", "zwei ü\n", "\nthree", "four"]


def write_table(path, texts, column="text"):
    if path.name.endswith(".parquet"):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({column: texts, "id": range(len(texts))}), path, row_group_size=2)
        return path
    content = "".join(json.dumps({"id": number, column: text}) + "\n" for number, text in enumerate(texts)).encode()
    if path.suffix == ".zst":
        from backports import zstd

        content = zstd.compress(content)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson.gz", "parquet", "json"])
def test_each_row_of_a_table_is_a_document(tmp_path, suffix):
    path = write_table(tmp_path / f"rows.{suffix}", TEXTS, "content")
    joined = join_documents(path, tmp_path / "data", column="content")
    assert joined.read_text("utf-8") == "".join(text + MARK for text in TEXTS)
    made = joined.stat().st_mtime_ns
    assert join_documents(path, tmp_path / "data", column="content") == joined
    assert joined.stat().st_mtime_ns == made
    other = join_documents(path, tmp_path / "data", column="content", separator="%")
    assert other.read_text("utf-8") == "".join(f"{text}%" for text in TEXTS)


def test_a_table_compressed_with_zstandard(tmp_path):
    if sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd")
    path = write_table(tmp_path / "rows.jsonl.zst", TEXTS)
    assert join_documents(path, tmp_path, column="text").read_text("utf-8") == "".join(text + MARK for text in TEXTS)


def test_the_files_of_a_folder_are_joined_in_the_order_of_their_names(tmp_path):
    books = tmp_path / "books"
    (books / "more").mkdir(parents=True)
    (books / "b.txt").write_text("second\n")
    (books / "a.txt").write_text(f"first{MARK}\nhalf{MARK}\n\n")
    (books / "empty.txt").touch()
    (books / "more" / "c.txt.gz").write_bytes(gzip.compress(b"third"))
    (books / "notes.md").write_text("no text")
    joined = join_documents(books, tmp_path / "data")
    assert joined.read_text() == f"first{MARK}\nhalf{MARK}\n\nsecond\n{MARK}third{MARK}"
    write_table(books / "b.jsonl", ["x"])
    write_table(books / "a.parquet", ["y"])
    assert join_documents(books, tmp_path / "data", column="text").read_text() == f"y{MARK}x{MARK}"
    (books / "b.txt").write_text("changed\n")
    assert "changed" in join_documents(books, tmp_path / "data").read_text()


def test_a_text_file_is_a_text_already(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("text")
    assert join_documents(str(path), tmp_path / "data") == path
    assert not (tmp_path / "data").exists()


def test_a_table_is_divided_like_a_text(tmp_path):
    texts, lines = [f"document {number}" for number in range(40)], []
    path = write_table(tmp_path / "rows.jsonl", texts)
    train, valid = documents.divide(path, None, tmp_path / "data", column="text", valid_bytes=30, notify=lines.append)
    assert train.read_text() == "".join(text + MARK for text in texts[:38])
    assert valid.read_text() == f"document 38{MARK}"
    assert lines[0].startswith(f"text: all documents of {path}, joined in ")
    assert len(lines) == 3
    other = write_table(tmp_path / "other.parquet", ["another"])
    assert documents.divide(path, other, tmp_path / "data", column="text")[1].read_text() == f"another{MARK}"


@pytest.mark.parametrize(
    ("name", "texts", "column", "message"),
    [
        ("rows.jsonl", TEXTS, None, r"has rows, expected text; name the column of its texts, .* --column text"),
        ("rows.jsonl", TEXTS, "body", r"line 1 of '.*rows.jsonl' has no column 'body', but 'id', 'text'"),
        ("rows.parquet", TEXTS, "body", r"has no column 'body', but 'text', 'id'"),
        ("rows.jsonl", ["one", None], "text", r"line 2 of '.*rows.jsonl' has no value in column 'text'"),
        ("rows.jsonl", [], "text", "has no documents, expected at least one"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_is_left(tmp_path, name, texts, column, message):
    path = write_table(tmp_path / name, texts)
    with pytest.raises(ValueError, match=message):
        join_documents(path, tmp_path / "data", column=column)
    assert not list((tmp_path / "data").glob("*"))


def test_a_folder_without_texts_advises_to_name_a_column(tmp_path):
    write_table(tmp_path / "rows.jsonl", TEXTS)
    with pytest.raises(ValueError, match=r"name a file, or a column if it has \.jsonl or \.parquet"):
        documents.divide(tmp_path, None, tmp_path / "data")


def test_parquet_without_pyarrow_is_refused_in_words(tmp_path, monkeypatch):
    path = write_table(tmp_path / "rows.parquet", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="needs pyarrow, which is not installed; run: pip install pyarrow"):
        join_documents(path, tmp_path / "data", column="text")
