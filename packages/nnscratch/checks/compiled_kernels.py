"""Compile the Triton kernels for GPUs that need not be present, and print the resources of each.

    python checks/compiled_kernels.py [--capabilities 80 90] [--dtypes bf16] [--head-sizes 64 128]
                                        [--groups 1 4] [--first-keys] [--all] [--feed-forward]

The tiles are those that long and short contexts try first. The command fails if a kernel does not compile, or if its
tiles need more on-chip memory than an H100 has. The last column is how many programs fit a multiprocessor. Registers
and spilled bytes are those that NVIDIA's assembler reports. Matrix instructions are counted in the program: wgmma
(Hopper) or mma (earlier GPUs). Requires Triton 3.3 or later.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # An interpreted kernel cannot be compiled.

import torch
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nnscratch.attention_kernels import triton_backward, triton_forward, triton_operator
from nnscratch.attention_kernels.triton_operator import Tiles
from nnscratch.feed_forward_kernels import triton_operator as feed_forward_operator
from nnscratch.feed_forward_kernels.triton_kernels import product_kernel
from nnscratch.rotary_embedding import triton_kernels as rotary_kernels
from nnscratch.rotary_embedding import triton_operator as rotary_operator

# From NVIDIA's table of compute capabilities.
SHARED_MEMORY = 227 * 1024  # bytes per program on an H100
SHARED_MEMORY_OF_MULTIPROCESSOR = {80: 164 * 1024, 90: 228 * 1024}
REGISTERS_OF_MULTIPROCESSOR = 64 * 1024
WARPS_OF_MULTIPROCESSOR = 64
ROTATIONS = {size: [Tiles(rotary_operator.POSITIONS, 1, rotary_operator.WARPS, 3)] for size in (32, 64, 128)}
KERNELS = {
    "forward": (triton_forward.forward_kernel, triton_operator.FORWARD_TILES),
    "key and value gradients": (triton_backward.key_value_gradient_kernel, triton_operator.KEY_VALUE_GRADIENT_TILES),
    "query gradients": (triton_backward.query_gradient_kernel, triton_operator.QUERY_GRADIENT_TILES),
    "norm and rotation": (rotary_kernels.forward_kernel, ROTATIONS),
    "gradients of both": (rotary_kernels.backward_kernel, ROTATIONS),
}
BACKWARD_PRODUCT = "product and derivative"
PRODUCTS = ("product and squared ReLU", BACKWARD_PRODUCT)
KEY_VALUE_HEADS = 4
WIDE = ("normalizer", "sums", "q_gain", "k_gain", "gain_grad", "cos", "sin")

POINTERS = {
    "first_key_pointer": "*i32",
    "query_end_pointer": "*i32",
}


def compile_kernel(
    kernel: Any, dtype: str, head_size: int, tiles: Tiles, capability: int, group: int, *, first_keys: bool
) -> Any:
    """Return the program for tensors with 16-byte alignment, as `flash_attention` launches it."""
    constants: dict[str, Any] = {"group": 1} if group == 1 else {}  # Triton compiles an argument of 1 as a constant.
    if not first_keys:
        constants |= {"first_key_pointer": None, "query_end_pointer": None}
    if kernel is rotary_kernels.backward_kernel:  # Attention has written them where it replaces them.
        constants |= {"q_grad_pointer": None, "k_grad_pointer": None, "v_grad_pointer": None}
    constants |= {
        "HEAD_SIZE": head_size,
        "FEATURES": max(16, 1 << (head_size - 1).bit_length()),
        "PRECISION": "ieee" if dtype == "fp32" else "tf32",
        "QUERY_BLOCK": tiles.queries,
        "KEY_BLOCK": tiles.keys,
        "POSITIONS": tiles.queries,
        "Q_HEADS": group * KEY_VALUE_HEADS,
        "KV_HEADS": KEY_VALUE_HEADS,
    }
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature, aligned, unaligned = {}, {}, {*constants, *kernel.do_not_specialize}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_pointer"):
            signature[name] = POINTERS.get(name, "*fp32" if name.startswith(WIDE) else f"*{dtype}")
        else:
            signature[name] = "fp32" if name in ("scale_for_exp2", "eps") else "i32"
        if name.endswith(("_pointer", "_batch", "_head", "_row")) and name not in unaligned:
            aligned[index,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": tiles.warps, "num_stages": tiles.stages}
    )


def compile_product(dtype: str, tiles: feed_forward_operator.Tiles, capability: int, *, backward: bool) -> Any:
    """Return the program of a product with squared ReLU, or with its derivative, for widths that tiles divide."""
    constants: dict[str, Any] = {"BACKWARD": backward, "EVEN": True}
    constants |= {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "INNER": tiles.inner}
    # The weights are (d_ff, d_model) and (d_model, d_ff). Triton compiles a stride of 1 as a constant.
    constants |= {"weight_column": 1} if backward else {"weight_inner": 1, "hidden_pointer": None}
    signature, aligned = {}, {}
    for index, name in enumerate(product_kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        signature[name] = f"*{dtype}" if name.endswith("_pointer") else "i32"
        if name not in product_kernel.do_not_specialize:
            aligned[index,] = [["tt.divisibility", 16]]
    source = ASTSource(product_kernel, signature, constants, aligned)
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": tiles.warps, "num_stages": tiles.stages}
    )


def registers_and_spills(assembly: str) -> tuple[int, int]:
    """Return the registers per thread and the bytes spilled from them."""
    assembler = next(Path(triton.backends.nvidia.__file__).parent.rglob("ptxas"))
    architecture = re.search(r"\.target (\w+)", assembly)
    assert architecture is not None
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(assembly)
        file.flush()
        command = [str(assembler), "-v", f"--gpu-name={architecture[1]}", file.name, "-o", os.devnull]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    numbers = re.search(r"(\d+) bytes spill stores.*Used (\d+) registers", report, re.DOTALL)
    assert numbers is not None, report
    return int(numbers[2]), int(numbers[1])


def programs_at_once(registers: int, shared: int, warps: int, capability: int) -> int:
    """Return how many programs fit a multiprocessor.

    Registers are given out to a warp by 256, and 1 KiB of shared memory per program is the system's.
    """
    registers_per_warp = -(-registers * 32 // 256) * 256
    memory = SHARED_MEMORY_OF_MULTIPROCESSOR[capability] // (shared + 1024)
    return min(WARPS_OF_MULTIPROCESSOR // warps, REGISTERS_OF_MULTIPROCESSOR // (registers_per_warp * warps), memory)


def row(
    name: str, dtype: str, head_size: int, tiles: Tiles, capability: int, group: int, *, first_keys: bool
) -> tuple[str, int]:
    """Return the table row of a program, and its bytes of shared memory."""
    if dtype == "fp32" and KERNELS[name][1] is not ROTATIONS:
        tiles = tiles.for_dtype(torch.float32)
    program = compile_kernel(KERNELS[name][0], dtype, head_size, tiles, capability, group, first_keys=first_keys)
    return (
        f"| sm_{capability} | {dtype} | {head_size} | {group} | {name} | {tiles.queries} x {tiles.keys}, "
        f"{tiles.warps}, {tiles.stages} | {resources(program, tiles.warps, capability)} |"
    ), program.metadata.shared


def product_row(name: str, dtype: str, tiles: feed_forward_operator.Tiles, capability: int) -> tuple[str, int]:
    """Return the table row of a product of feed-forward networks, and its bytes of shared memory."""
    program = compile_product(dtype, tiles, capability, backward=name == BACKWARD_PRODUCT)
    return (
        f"| sm_{capability} | {dtype} | - | - | {name} | {tiles.rows} x {tiles.columns} x {tiles.inner}, "
        f"{tiles.warps}, {tiles.stages} | {resources(program, tiles.warps, capability)} |"
    ), program.metadata.shared


def resources(program: Any, warps: int, capability: int) -> str:
    """Return the cells of a row that tell what a program needs."""
    assembly = program.asm["ptx"]
    registers, spilled = registers_and_spills(assembly)
    at_once = programs_at_once(registers, program.metadata.shared, warps, capability)
    return (
        f"{registers} | {spilled} | {program.metadata.shared / 1024:.0f} | "
        f"{assembly.count('wgmma.mma_async')} | {assembly.count('mma.sync')} | {at_once}"
    )


def main() -> None:
    """Compile the kernels and print one row per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--capabilities", nargs="+", type=int, choices=(80, 90), default=[80, 90], help="80: A100, 90: H100"
    )
    parser.add_argument("--dtypes", nargs="+", choices=("fp16", "bf16", "fp32"), default=["bf16"])
    parser.add_argument("--head-sizes", nargs="+", type=int, default=[32, 64, 128])
    parser.add_argument("--groups", nargs="+", type=int, default=[1, 2], help="query heads that share keys and values")
    parser.add_argument("--first-keys", action="store_true", help="as for sliding windows and packed texts")
    parser.add_argument("--all", action="store_true", help="all tiles, not only those that are tried first")
    parser.add_argument(
        "--feed-forward", action="store_true", help="only the products with squared ReLU, rows x columns x inner"
    )
    options = parser.parse_args()
    print(
        "| GPU | dtype | head | group | kernel | queries x keys, warps, stages | registers | spilled | KiB | wgmma "
        "| mma | at once |"
    )
    print("|---|---|---:|---:|:---|:---|---:|---:|---:|---:|---:|---:|")
    too_large = []
    if options.feed_forward:
        for capability, dtype, name in product(options.capabilities, options.dtypes, PRODUCTS):
            tiles = feed_forward_operator.LARGE_TILES if capability == 90 else feed_forward_operator.SMALL_TILES
            line, shared = product_row(name, dtype, tiles, capability)
            print(line, flush=True)
            if shared > SHARED_MEMORY:
                too_large.append(f"{name}: {shared:,} bytes")
        options.head_sizes = []
    for capability, dtype, head_size, group in product(
        options.capabilities, options.dtypes, options.head_sizes, options.groups
    ):
        features = max(32, 1 << (head_size - 1).bit_length())
        for name, (_, table) in KERNELS.items():
            begin, end = 1 if options.first_keys else 0, None if options.all else 2
            for tiles in table[features][begin:end] or table[features]:
                line, shared = row(name, dtype, head_size, tiles, capability, group, first_keys=options.first_keys)
                print(line, flush=True)
                if shared > SHARED_MEMORY:
                    too_large.append(f"{name} with heads of {head_size}: {shared:,} bytes")
    if too_large:
        sys.exit(f"an H100 has {SHARED_MEMORY:,} bytes per program; choose smaller tiles for " + "; ".join(too_large))


if __name__ == "__main__":
    main()
