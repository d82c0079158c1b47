"""Text files: decompression, damaged files, malformed UTF-8."""

import random
import sys

import pytest
from helpers import CORPUS, EOT
from hypothesis import given
from hypothesis import strategies as st

from bpe import GPT2_PATTERN
from bpe.text import BlockCutter, SpecialTokenFinder, TextFile, open_text_file

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
