"""The Triton kernels compiled for GPUs that need not be present, which the interpreter of the other tests cannot do."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton.backends.nvidia")

from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from nnscratch.attention_kernels import triton_backward, triton_forward
from nnscratch.attention_kernels.triton_operator import SHORT_CONTEXT, flash_attention

if tuple(int(part) for part in version("triton").split(".")[:2]) < (3, 3):
    pytest.skip("the check describes kernels to the compiler as Triton 3.3 does", allow_module_level=True)

WITHOUT_PRODUCTS = ("norm and rotation", "gradients of both")
CHECK = Path(__file__).parents[2] / "checks/compiled_kernels.py"


def programs(cache, *flags):
    """The rows of the table, each as kernel, bytes spilled, and matrix instructions of Hopper and before.

    The last number is how many programs fit a multiprocessor.
    """
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, str(CHECK), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    return [(row[4], int(row[7]), int(row[9]), int(row[10]), int(row[11])) for row in rows]


FIRST_KEYS = ("--first-keys",)
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("flags", "head_size"),
    [
        pytest.param((), "64", marks=slow),
        ((), "128"),
        pytest.param(FIRST_KEYS, "64", marks=slow),
        pytest.param(FIRST_KEYS, "128", marks=slow),
    ],
)
def test_on_an_h100_products_use_tensor_cores_and_nothing_is_spilled(flags, head_size, tmp_path):
    kernels = programs(tmp_path, "--capabilities", "90", "--head-sizes", head_size, "--groups", "1", *flags)
    names = [
        "forward",
        "key and value gradients",
        "query gradients",
        "norm and rotation",
        "gradients of both",
    ]
    # The tiles for short contexts come after those for long ones, and first keys always use them.
    expected = names if flags else [name for name in names for _ in range(1 if name in WITHOUT_PRODUCTS else 2)]
    assert [kernel for kernel, *_ in kernels] == expected
    for kernel, spilled, hopper, _, _ in kernels:
        assert spilled == 0, kernel
        assert (hopper > 0) == (kernel not in WITHOUT_PRODUCTS), kernel
    for name in names:
        assert [row[-1] for row in kernels if row[0] == name][-1] >= 2, name


@pytest.mark.parametrize("flags", [pytest.param((), marks=slow), FIRST_KEYS])
def test_on_an_a100_heads_of_any_size_compile_and_may_share_keys_and_values(flags, tmp_path):
    flags = ("--capabilities", "80", "--head-sizes", "40", "--groups", "2", *flags)
    for kernel, _, _, before, _ in programs(tmp_path, *flags):
        assert (before > 0) == (kernel not in WITHOUT_PRODUCTS), kernel


def test_products_of_feed_forward_networks(tmp_path):
    rows = programs(tmp_path, "--feed-forward")
    assert len(rows) == 4
    for number, (kernel, spilled, hopper, before, _) in enumerate(rows):
        assert spilled == 0, kernel
        assert (hopper > 0, before > 0) == (number >= 2, number < 2), kernel


@pytest.fixture
def programs_for(monkeypatch):
    """The different programs of each kernel that Triton would compile for the inputs that kernels get in a test."""
    target = GPUTarget("cuda", 90, 32)
    monkeypatch.setattr(driver, "_active", SimpleNamespace(get_current_target=lambda: target))
    found = {}

    class Recording:
        def __init__(self, name, kernel):
            compiled = kernel if isinstance(kernel, JITFunction) else JITFunction(kernel.fn, **kernel.kwargs)
            self.programs = found.setdefault(name, set())
            self.bind = compiled.create_binder()[-1]

        def __getitem__(self, grid):
            def launch(*arguments, **options):
                _, specialization, options = self.bind(*arguments, **options)
                self.programs.add(str((specialization, options)))

            return launch

    for module in (triton_forward, triton_backward):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Recording(name, getattr(module, name)))
    return found


def layouts(length):
    """Queries, keys and values as training, and as generation with a cache has them."""
    packed = torch.zeros(2, length, 4 * 3, 16, dtype=torch.bfloat16, requires_grad=True)
    yield [tensor.transpose(1, 2) for tensor in packed.split((8, 2, 2), dim=2)]
    cache = torch.zeros(2, 2, 2, 2000, 16, dtype=torch.bfloat16)
    yield torch.zeros(2, 2, 8, 16, dtype=torch.bfloat16), *cache[:, :, :, :length]


def run(lengths, first_keys=None):
    for length in lengths:
        for q, k, v in layouts(length):
            output = flash_attention(
                q, k, v, None if first_keys is None else first_keys[:, length - q.shape[2] : length]
            )
            if output.requires_grad:
                output.backward(torch.ones_like(output))


def test_another_length_needs_no_other_program(programs_for):
    lengths = (8, 9, 16, 33, 100, SHORT_CONTEXT)
    run(lengths[:1])
    once = {name: len(programs) for name, programs in programs_for.items()}
    assert all(once.values())
    assert len(once) == 3
    run(lengths)
    assert {name: len(programs) for name, programs in programs_for.items()} == once
    run((SHORT_CONTEXT + 1, 2000))
    for name, programs in programs_for.items():
        assert len(programs) == 2 * once[name], name


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("sequences", [1, 2])
def test_first_keys_of_another_length_need_no_other_program(sequences, dtype, programs_for):
    first_keys = (torch.arange(2000, dtype=dtype) - 5).repeat(sequences, 1)
    run((8,), first_keys)
    once = {name: len(programs) for name, programs in programs_for.items()}
    run((9, 16, 33, 100, SHORT_CONTEXT, SHORT_CONTEXT + 1, 2000), first_keys)
    assert {name: len(programs) for name, programs in programs_for.items()} == once
