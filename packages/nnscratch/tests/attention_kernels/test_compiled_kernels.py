"""The Triton kernels compiled for GPUs that need not be present, which the interpreter of the other tests cannot do."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("triton.backends.nvidia")

if tuple(int(part) for part in version("triton").split(".")[:2]) < (3, 3):
    pytest.skip("the check describes kernels to the compiler as Triton 3.3 does", allow_module_level=True)

CHECK = Path(__file__).parents[2] / "checks/compiled_kernels.py"


def programs(cache, *flags):
    """The rows of the table, each as kernel, bytes spilled, and matrix instructions of Hopper and before."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, str(CHECK), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    return [(row[4], int(row[7]), int(row[9]), int(row[10])) for row in rows]


@pytest.mark.parametrize("flags", [(), ("--first-keys",)])
def test_on_an_h100_products_use_tensor_cores_and_nothing_is_spilled(flags, tmp_path):
    kernels = programs(tmp_path, "--capabilities", "90", "--head-sizes", "128", "--groups", "1", *flags)
    assert [kernel for kernel, *_ in kernels] == [
        "forward",
        "row sums",
        "key and value gradients",
        "query gradients",
    ]
    for kernel, spilled, hopper, _ in kernels:
        assert spilled == 0, kernel
        assert (hopper > 0) == (kernel != "row sums"), kernel


@pytest.mark.parametrize("flags", [(), ("--first-keys",)])
def test_on_an_a100_heads_of_any_size_compile_and_may_share_keys_and_values(flags, tmp_path):
    flags = ("--capabilities", "80", "--head-sizes", "40", "--groups", "2", *flags)
    for kernel, _, _, before in programs(tmp_path, *flags):
        assert (before > 0) == (kernel != "row sums"), kernel
