"""Ready machine code of the kernels: which file is mapped, what is refused, and what it does."""

import json
import re
import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
from helpers import run_python

from bpe.building.linking import link
from bpe.kernels.machine import compiling, machine_code
from bpe.kernels.machine.machine_code import FOLDER, HEADER_BYTES, TARGETS, MachineCode, runnable_targets
from bpe.kernels.scanning import unicode_classes
from bpe.kernels.scanning.unicode_classes import class_table, class_table_by_regex, classes_version
from bpe.kernels.scanning.utf8 import is_well_formed

ready = pytest.mark.skipif(
    compiling.NUMBA or not compiling.COMPILED, reason="Numba or the interpreter runs the kernels in these tests"
)

TRAIN_AND_ENCODE = """
import sys, bpe
from bpe import CL100K_PATTERN, GPT2_PATTERN
for pattern in (GPT2_PATTERN, CL100K_PATTERN):
    text = " ".join(f"word{number} {number**3}'s" for number in range(100_000))
    tokenizer = bpe.train_from_iterator([text], 500, pattern=pattern)
    assert tokenizer.decode(tokenizer.encode_to_numpy(text)) == text
print({name for name in sys.modules if name in ("numba", "llvmlite")})
"""


@ready
def test_training_and_encoding_need_no_numba():
    result = run_python("-W", "error", "-c", TRAIN_AND_ENCODE.replace("from bpe import", "from bpe.text import"))
    assert (result.stdout, result.stderr) == ("set()\n", "")


@ready
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_file_of_these_kernels(target):
    path = FOLDER / f"{target}.bin"
    header = machine_code.checked_header(path, path.read_bytes())
    assert header["target"] == target
    assert header["functions"].keys() >= compiling.ENTRY_POINTS.keys()
    assert path.stat().st_size < 200_000


def damaged(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def of_other_kernels(content):
    header = json.loads(content[:HEADER_BYTES]) | {"kernels": "0" * 64}
    return json.dumps(header).encode().ljust(HEADER_BYTES) + content[HEADER_BYTES:]


@ready
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damaged, "is damaged"),
        (lambda content: content[: HEADER_BYTES // 2], "is damaged"),
        (of_other_kernels, "was made from other kernels than those beside it"),
    ],
)
def test_a_file_that_is_not_of_these_kernels_is_refused(tmp_path, change, reason):
    path = tmp_path / "x.bin"
    path.write_bytes(change((FOLDER / f"{runnable_targets()[-1]}.bin").read_bytes()))
    with pytest.raises(ValueError, match=reason):
        MachineCode(path)
    code = "import numba; numba.njit = lambda **_: lambda function: function\nimport bpe.kernels.machine.compiling"
    result = run_python("-c", code, environment={"BPE_KERNELS": str(path)})
    assert result.returncode == 0
    assert result.stderr.count("RuntimeWarning") == 1
    assert reason in result.stderr
    assert "so Numba compiles them" in result.stderr


@ready
def test_a_missing_file_is_told(tmp_path):
    result = run_python("-c", "import bpe.kernels.machine.compiling", environment={"BPE_KERNELS": str(tmp_path / "no")})
    assert "No such file" in result.stderr


@pytest.mark.parametrize(
    ("system", "machine", "missing", "targets"),
    [
        ("linux", "x86_64", set(), ["x86-64-v4", "x86-64-v3", "x86-64-v2"]),
        ("linux", "x86_64", {"avx512dq"}, ["x86-64-v3", "x86-64-v2"]),
        ("linux", "x86_64", {"avx"}, ["x86-64-v2"]),
        ("linux", "x86_64", {"sse4_2"}, []),
        ("linux", "aarch64", set(), ["aarch64"]),
        ("linux", "riscv64", set(), []),
        ("darwin", "x86_64", set(), []),
        ("win32", "AMD64", set(), []),
    ],
)
def test_the_best_target_that_the_processor_can_run_comes_first(monkeypatch, system, machine, missing, targets):
    features = {feature for _, needed in TARGETS.values() for feature in needed} - missing
    monkeypatch.setattr(machine_code, "_linux_features", lambda: features)
    monkeypatch.setattr(machine_code.platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", system)
    assert runnable_targets() == targets


@ready
@pytest.mark.parametrize(
    "array",
    [np.zeros(8, np.int64), np.zeros((2, 2), np.uint8), np.zeros(8, np.uint8)[::2]],
    ids=["dtype", "dimensions", "layout"],
)
def test_an_array_of_another_form_is_refused(array):
    with pytest.raises(TypeError, match=r"expected a contiguous one of uint8 with 1 dimensions"):
        is_well_formed(array)


def test_the_stored_classes_are_those_of_regex():
    assert np.array_equal(class_table(), class_table_by_regex())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("This module supports Unicode 18.0.0. Full", "Unicode 18.0.0"),
        ("It supports Unicode.", "regex-1.2"),
        (None, "regex-1.2"),
    ],
)
def test_the_classes_have_the_version_of_unicode(tmp_path, monkeypatch, metadata, expected):
    """Releases of `regex` are frequent, and the one with which a wheel is built is seldom the one it is used with."""
    (tmp_path / "regex").mkdir()
    (tmp_path / "regex" / "__init__.py").touch()
    (tmp_path / "regex-1.2.dist-info").mkdir()
    if metadata:
        (tmp_path / "regex-1.2.dist-info" / "METADATA").write_text(f"Name: regex\n\n{metadata}\n")
    monkeypatch.setattr(unicode_classes, "find_spec", PathFinder.find_spec)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert classes_version() == expected
    (tmp_path / "regex-1.3.dist-info").mkdir()
    assert classes_version() == ""


def test_the_stored_classes_have_the_version_of_the_installed_regex():
    assert re.fullmatch(r"Unicode \d+\.\d+\.\d+", classes_version())


def compiled(text, triple="x86_64-unknown-linux-gnu"):
    """Return the object file of a module of LLVM's intermediate language."""
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=3, reloc="pic", codemodel="small")
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = triple, str(machine.target_data)
    return machine.emit_object(module)


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_code_that_needs_more_than_itself_is_refused(triple):
    outside = "declare i64 @far(i64)\ndefine i64 @near(i64 %x) {\n%y = call i64 @far(i64 %x)\nret i64 %y\n}"
    with pytest.raises(ValueError, match="the kernels need 'far' from another library"):
        link(compiled(outside, triple))
    llvmlite = pytest.importorskip("llvmlite")
    pointer = "i64*" if tuple(map(int, llvmlite.__version__.split(".")[:2])) < (0, 45) else "ptr"  # of LLVM 15 and 20
    writes = f"@count = internal global i64 1\ndefine i64 @f() {{\n%y = load volatile i64, {pointer} @count\n"
    writes += f"store volatile i64 2, {pointer} @count\nret i64 %y\n}}"
    with pytest.raises(ValueError, match="the kernels write to data of their own"):
        link(compiled(writes, triple))


def test_a_copy_of_the_package_without_machine_code_runs_with_numba(tmp_path):
    source = Path(machine_code.__file__).parents[3]
    shutil.copytree(source / "bpe", tmp_path / "bpe", ignore=shutil.ignore_patterns("compiled", "__pycache__"))
    code = "from bpe.kernels.machine.compiling import NUMBA, COMPILED; print(NUMBA, COMPILED)"
    environment = {"PYTHONPATH": str(tmp_path), "BPE_KERNELS": "", "NUMBA_BOUNDSCHECK": "0", "NUMBA_DISABLE_JIT": "0"}
    result = run_python("-c", code, environment=environment)
    assert result.stdout == "True True\n"
    assert "there is no ready machine code for the kernels of bpe" in result.stderr
