"""The kernels as such: where they are kept, and that threads do not change anything."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import CORPUS, EOT, run_python

from bpe import Tokenizer
from bpe.kernels.machine import compiling
from bpe.threads import map_in_order
from bpe.training.word_table import WordTable

SCRIPT = """
import bpe
tokenizer = bpe.train_from_iterator(["low lower lowest"], 260, [])
tokenizer._encoder.load_kernels()
print(tokenizer.encode("slower"))
"""


def test_kernels_run_where_no_cache_can_be_written(tmp_path):
    # A cache locator finds no folder when the source folder and the user's cache folder cannot be written to.
    code = (
        "from numba.core import caching\n"
        "def no_folder(*args, **kwargs): raise RuntimeError('cannot cache function: no locator available')\n"
        "caching.FunctionCache.__init__ = no_folder\n" + SCRIPT
    )
    result = run_python("-c", code)
    assert result.stderr == ""
    assert result.stdout.startswith("[")


@pytest.mark.skipif(not compiling.COMPILED, reason="kernels run in Python")
def test_the_cache_is_renewed_with_any_kernel():
    dispatcher = compiling.kernel(lambda x: x)
    cache_file = dispatcher._cache._cache_file if hasattr(dispatcher._cache, "_cache_file") else None
    assert cache_file is None or cache_file._source_stamp[1] == compiling._kernels_digest()


@pytest.fixture
def run_small_kernel(tmp_path):
    """Run a kernel of its own, which is compiled in a moment, in a process of its own."""
    script = tmp_path / "small_kernel.py"
    script.write_text(
        "from bpe.kernels.machine.compiling import kernel\n@kernel\ndef add(a, b): return a + b\nprint(add(2, 3))\n"
    )

    def run(before=""):
        code = f"{before}\nimport sys; sys.path.insert(0, {str(tmp_path)!r}); import small_kernel"
        result = run_python("-c", code, environment={"NUMBA_CACHE_DIR": str(tmp_path / "cache")})
        assert (result.stdout, result.stderr) == ("5\n", "")
        return {file: file.read_bytes() for file in (tmp_path / "cache").rglob("*.nb?")}

    return run


@pytest.mark.skipif(not compiling.COMPILED, reason="kernels run in Python")
@pytest.mark.parametrize(("suffix", "left"), [(".nbi", b""), (".nbc", b"\x80\x04\x95")])
def test_a_damaged_cache_is_renewed(run_small_kernel, suffix, left):
    files = run_small_kernel()
    damaged = [file for file in files if file.suffix == suffix]
    assert len(damaged) == 1
    damaged[0].write_bytes(left)
    run_small_kernel()  # compiles, and renews or empties what was damaged
    assert left not in run_small_kernel().values()


@pytest.mark.skipif(not compiling.COMPILED, reason="kernels run in Python")
def test_a_full_disk_keeps_no_cache(run_small_kernel):
    code = (
        "import errno\n"
        "from numba.core import caching\n"
        "def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "caching.IndexDataCacheFile._dump = full\n"
    )
    assert run_small_kernel(code) == {}


def test_threads_do_not_change_ids(small, tmp_path):
    text = (CORPUS + EOT) * 200
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    expected = np.array(small.encode(text), dtype=np.uint16)
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT])
    tokenizer._encoder.load_kernels()
    from bpe.text.files import TextFile

    blocks = list(TextFile(tmp_path / "text.txt").blocks(tokenizer._encoder.cutter, 1000))
    assert len(blocks) > 50
    for threads in (1, 4):
        parts = [encoded.ids for encoded in map_in_order(tokenizer._encoder.block, blocks, threads)]
        assert np.array_equal(np.concatenate(parts), expected)


def test_errors_in_threads_come_out():
    def fail(number):
        if number == 5:
            raise ValueError("five")
        return number

    for threads in (1, 2):
        with pytest.raises(ValueError, match="five"):
            list(map_in_order(fail, range(100), threads))


def test_a_table_grows(small):
    table = WordTable(capacity=4, arena_bytes=1)
    words = [b"a", b"bb", b"exactly8", b"longer than eight bytes", b"a", b"another quite long word"]
    text = np.frombuffer(b"".join(words), dtype=np.uint8).copy()
    offsets = np.cumsum([0, *map(len, words)])
    table.add(text, offsets, np.array([1, 2, 3, 2**40, 5, 6]))
    data, bounds, counts = table.words()
    found = {data[s:e].tobytes(): int(c) for s, e, c in zip(bounds, bounds[1:], counts, strict=False)}
    expected = {b"a": 6, b"bb": 2, b"exactly8": 3, b"longer than eight bytes": 2**40, b"another quite long word": 6}
    assert found == expected


def test_more_distinct_bytes_than_offsets_reach_are_refused(monkeypatch):
    monkeypatch.setattr("bpe.training.word_table.MAX_ARENA", 100)
    words = [b"%02d is longer than sixteen bytes" % index for index in range(10)]
    table = WordTable(capacity=4, arena_bytes=1)
    for word in words[:3]:  # up to the last byte
        table.add(np.frombuffer(word, np.uint8).copy(), np.array([0, len(word)]), np.array([1]))
    data, bounds, _ = table.words()
    assert {data[s:e].tobytes() for s, e in pairwise(bounds)} == set(words[:3])
    with pytest.raises(ValueError, match="the distinct pre-tokens have more than 100 bytes"):
        table.add(np.frombuffer(words[3], np.uint8).copy(), np.array([0, len(words[3])]), np.array([1]))
    assert len(table.arena) == 100
