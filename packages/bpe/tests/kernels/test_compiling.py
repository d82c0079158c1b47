"""Compilation of kernels, and the disk cache of their machine code."""

import shutil
from pathlib import Path

import pytest
from helpers import run_python

import bpe
from bpe.kernels.machine.compiling import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="the interpreter runs the kernels")

SMALL_KERNEL = """
import sys
from bpe.kernels.machine.compiling import kernel
from bpe.kernels.scanning.unicode_classes import LETTER
@kernel
def add(a): return a + LETTER
print(add(2))
"""


@pytest.fixture
def run_small_kernel(tmp_path):
    """Run a kernel that compiles quickly in a separate process; return its output and the files of the cache."""
    script = tmp_path / "small_kernel.py"
    script.write_text(SMALL_KERNEL)

    def run(before="", source=Path(bpe.__file__).parents[1]):
        code = f"{before}\nimport sys; sys.path.insert(0, {str(tmp_path)!r}); import small_kernel"
        environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(source), "BPE_KERNELS": "numba"}
        result = run_python("-c", code, environment=environment)
        return result, {file: file.read_bytes() for file in (tmp_path / "cache").rglob("*.nb?")}

    return run


def test_kernels_run_where_no_cache_can_be_written(run_small_kernel):
    # Numba finds no folder for the cache when neither the source folder nor the user's cache folder is writable.
    code = (
        "from numba.core import caching\n"
        "def no_folder(*args, **kwargs): raise RuntimeError('cannot cache function: no locator available')\n"
        "caching.FunctionCache.__init__ = no_folder\n"
    )
    result, files = run_small_kernel(code)
    assert (result.stdout, files) == ("3\n", {})
    assert result.stderr.count("no folder for the cache of Numba is writable") == 1
    assert "set NUMBA_CACHE_DIR" in result.stderr


def test_a_change_of_any_kernel_file_renews_the_cache(run_small_kernel, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(Path(bpe.__file__).parent, source / "bpe", ignore=shutil.ignore_patterns("__pycache__"))
    assert run_small_kernel(source=source)[0].stdout == "3\n"
    # Constants of this file are compiled into kernels of other files.
    classes = source / "bpe" / "kernels" / "scanning" / "unicode_classes.py"
    text = classes.read_text("utf-8")
    assert "OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3" in text
    classes.write_text(text.replace("= 0, 1, 2, 3", "= 0, 7, 2, 3"), "utf-8")
    assert run_small_kernel(source=source)[0].stdout == "9\n"


def test_a_cache_that_cannot_be_renewed_is_not_used(run_small_kernel):
    code = (
        "from numba.core import caching\n"
        "make = caching.FunctionCache.__init__\n"
        "class Renamed:\n"  # another version of Numba, which names its private field differently
        "    def __init__(self, file): self.file = file\n"
        "def renamed(self, function):\n"
        "    make(self, function)\n"
        "    self._cache_file = Renamed(self._cache_file)\n"
        "caching.FunctionCache.__init__ = renamed\n"
    )
    result, files = run_small_kernel(code)
    assert (result.stdout, files) == ("3\n", {})
    assert "RuntimeWarning: the cache of this version of Numba cannot be tied to the source" in result.stderr


@pytest.mark.parametrize(("suffix", "left"), [(".nbi", b""), (".nbc", b"\x80\x04\x95")])
def test_a_damaged_cache_is_renewed(run_small_kernel, suffix, left):
    _, files = run_small_kernel()
    damaged = [file for file in files if file.suffix == suffix]
    assert len(damaged) == 1
    damaged[0].write_bytes(left)
    assert run_small_kernel()[0].stdout == "3\n"  # compiles, and renews or empties the damaged file
    result, files = run_small_kernel()
    assert (result.stdout, result.stderr) == ("3\n", "")
    assert left not in files.values()


def test_a_full_disk_keeps_no_cache(run_small_kernel):
    code = (
        "import errno\n"
        "from numba.core import caching\n"
        "def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "caching.IndexDataCacheFile._dump = full\n"
    )
    result, files = run_small_kernel(code)
    assert (result.stdout, result.stderr, files) == ("3\n", "", {})
