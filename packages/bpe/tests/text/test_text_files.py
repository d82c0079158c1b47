"""Text files: decompression, damaged files, malformed UTF-8."""

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from helpers import CORPUS, EOT
from hypothesis import given
from hypothesis import strategies as st

from bpe import GPT2_PATTERN, count_pretokens
from bpe.text import BlockCutter, SpecialTokenFinder, TextFile, find_files, open_text_file

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.mark.parametrize("chunk", [7, 1000, 100_000])
def test_frames_of_zstandard_are_read_one_after_another(tmp_path, chunk):
    path, texts = tmp_path / "text.zst", [CORPUS.encode(), b"", b"x" * 1_000_000, b"end"]
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"  # RFC 8878, section 3.1.2: readers skip it
    path.write_bytes(skippable.join(zstd.compress(text) for text in texts))
    chunks = list(open_text_file(path, chunk))
    assert b"".join(chunks) == b"".join(texts)
    assert {len(one) for one in chunks[:-1]} == {chunk}


@pytest.mark.parametrize("missing", [1, 2, 100, 5_000])
def test_a_truncated_zstandard_file_is_refused(tmp_path, missing):
    packed = zstd.compress(random.Random(0).randbytes(20_000)) + zstd.compress(CORPUS.encode())
    path = tmp_path / "text.zst"
    path.write_bytes(packed[:-missing])
    with pytest.raises(ValueError, match=r"cannot be decompressed: .*; make or fetch it again"):
        list(open_text_file(path, 1 << 20))


def test_without_zstandard_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "text.zst").write_bytes(zstd.compress(b"text"))
    monkeypatch.setitem(sys.modules, "backports", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(ValueError, match="needs Zstandard, which is not installed; run: pip install"):
        list(open_text_file(tmp_path / "text.zst", 100))


@pytest.mark.filterwarnings("ignore::bpe.errors.InvalidUTF8Warning")
@given(
    data=st.lists(
        st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode), st.just(b"\xef\xbf\xbd")), min_size=1
    ).map(b"".join),
    size=st.integers(1, 9),
    pattern=st.sampled_from([GPT2_PATTERN, r"\w+"]),
)
def test_files_are_read_as_python_decodes_them(tmp_path_factory, data, size, pattern):
    if not data:
        return
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_bytes(data)
    file, finder = TextFile(path), SpecialTokenFinder([EOT])
    text = ""
    for block in file.blocks(BlockCutter(finder, pattern), size):
        texts, length, replaced = block.texts(finder)
        assert len(texts) == 1
        text += texts[0][0]
        file.record(length, replaced)
    expected = data.decode("utf-8", "replace")
    assert text == expected
    assert file.bytes == len(expected.encode())
    assert file.invalid_utf8 == expected.count("\ufffd") - data.decode("utf-8", "ignore").count("\ufffd")


def archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.txt", CORPUS)
    return content.getvalue()


def tape(mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as file:
        info = tarfile.TarInfo("a.txt")
        info.size = len(CORPUS.encode())
        file.addfile(info, io.BytesIO(CORPUS.encode()))
    return content.getvalue()


def array():
    content = io.BytesIO()
    np.save(content, np.arange(9))
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            gzip.compress(CORPUS.encode()),
            "compressed with gzip, expected text; give it a name",
        ),
        ("a.txt", zstd.compress(CORPUS.encode()), "compressed with Zstandard"),
        ("a.bz2", bz2.compress(CORPUS.encode()), "compressed with bzip2, expected text; decompress it"),
        ("a.xz", lzma.compress(CORPUS.encode()), "compressed with xz"),
        ("a.zip", archive(), "a zip archive"),
        ("a.txt", b"PAR1\x15\x04\x15\x10", "a Parquet file"),
        ("a.npy", array(), "a NumPy array"),
        ("a.lz4", b"\x04\x22\x4d\x18" + b"x" * 20, "compressed with LZ4"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 20, "a 7z archive"),
        ("a.tar", tape("w"), "a tar archive, expected text; unpack it"),
        ("a.gz", tape("w:gz"), "a tar archive, expected text; unpack it"),
        ("a.gz", gzip.compress(array()), "a NumPy array"),
        ("a.zst", zstd.compress(gzip.compress(b"a")), "compressed with gzip"),
        ("a.arrow", b"ARROW1\x00\x00" + b"x" * 20, "an Arrow file, expected text; write it as Parquet, or pass its"),
        ("a.tar.gz", gzip.compress(b"a"), "an archive, expected text; unpack it"),
        ("a.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF file, expected text; extract its text"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "an image"),
        ("a.txt", b"\xff\xd8\xff\xe0\0\x10JFIF", "an image"),
        ("a.db", b"SQLite format 3\0\x10", "a SQLite database"),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        ("a.txt", b"\x7fELF\x02\x01", "a program"),
        ("a.counts", b'bpe-counts 1\n{"pretokens": 0}', "counts of pre-tokens, expected text; pass it to"),
    ],
    ids=range(22),  # the contents of some differ from process to process
)
def test_files_that_are_no_text_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        count_pretokens(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        list(open_text_file(tmp_path / name, 1000))


@pytest.mark.parametrize("text", [257 * "a" + "ustar", "BZh", "BZhou", "PAR1", "PK", "BZh91AX"])
def test_texts_that_begin_like_them_are_read(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, "utf-8")
    assert b"".join(open_text_file(tmp_path / "a.txt", 100)) == text.encode()


def test_suffixes_in_capitals_mean_the_same(tmp_path):
    (tmp_path / "A.TXT").write_text(CORPUS, "utf-8")
    (tmp_path / "B.GZ").write_bytes(gzip.compress(CORPUS.encode()))
    (tmp_path / "C.ZST").write_bytes(zstd.compress(CORPUS.encode()))
    assert [path.name for path in find_files(tmp_path)] == ["A.TXT", "B.GZ", "C.ZST"]
    assert count_pretokens(tmp_path).total == 3 * count_pretokens(tmp_path / "A.TXT").total


def test_a_folder_is_searched_without_hidden_files_and_each_file_counts_once(tmp_path):
    for name in ("a.txt", ".b.txt", ".hidden/c.txt", "deep/.ipynb_checkpoints/d.txt", "deep/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, "utf-8")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "second name.txt").hardlink_to(tmp_path / "a.txt")
    assert find_files(tmp_path) == [tmp_path / "a.txt", tmp_path / "deep" / "e.txt"]
    assert find_files([tmp_path / ".b.txt", tmp_path / "link.txt"]) == [tmp_path / ".b.txt", tmp_path / "link.txt"]
    (tmp_path / ".hidden" / "nested").mkdir()
    assert find_files(tmp_path / ".hidden") == [tmp_path / ".hidden" / "c.txt"], "a folder that is named is searched"
