"""Compile the Triton kernels of attention for GPUs that need not be there, and print what each takes of the chip.

    python checks/compiled_kernels.py [--capabilities 80 90] [--dtypes bf16] [--head-sizes 64 128] [--all]

It ends with an error if a kernel does not compile, or if the first blocks of a table want more memory than an H100 has.
Registers and what was spilled from them are those that NVIDIA's assembler reports; matrix instructions are counted in
the program, wgmma (Hopper) or mma (before). It takes Triton 3.3 or later.
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

os.environ.pop("TRITON_INTERPRET", None)  # kernels to interpret cannot be compiled

import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nnscratch.attention_kernels import triton_backward as flash_backward_kernels
from nnscratch.attention_kernels import triton_forward as flash_forward_kernels
from nnscratch.attention_kernels import triton_operator as flash_attention

SHARED_MEMORY = 227 * 1024  # bytes for a program on an H100, by NVIDIA's table of compute capabilities
KERNELS = {
    "forward": (flash_forward_kernels.forward_kernel, flash_attention._FORWARD),
    "row sums": (flash_backward_kernels.row_sums_kernel, {size: [(64, 64, 4, 3)] for size in (32, 64, 128)}),
    "key and value gradients": (
        flash_backward_kernels.key_value_gradient_kernel,
        flash_attention._KEY_VALUE_GRADIENT,
    ),
    "query gradients": (flash_backward_kernels.query_gradient_kernel, flash_attention._QUERY_GRADIENT),
}


def compile_kernel(kernel: Any, dtype: str, head_size: int, blocks: tuple[int, int, int, int], capability: int) -> Any:
    """Return the program for tensors of 16-byte alignment, as `flash_attention` asks for it."""
    query_block, key_block, warps, stages = blocks
    constants = {
        "HEAD_SIZE": head_size,
        "FEATURES": max(16, 1 << (head_size - 1).bit_length()),
        "PRECISION": "ieee" if dtype == "fp32" else "tf32",
        "QUERY_BLOCK": query_block,
        "KEY_BLOCK": key_block,
    }
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature, aligned = {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_pointer"):
            signature[name] = "*fp32" if name.startswith(("normalizer", "sums")) else f"*{dtype}"
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
        if name.endswith(("_pointer", "_batch", "_head", "_row")):
            aligned[index,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps, "num_stages": stages}
    )


def registers_and_spills(assembly: str) -> tuple[int, int]:
    """Return the registers of a thread and the bytes that it stores because they are too few."""
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


def row(name: str, dtype: str, head_size: int, blocks: tuple[int, int, int, int], capability: int) -> tuple[str, int]:
    """Return a program's row of the table, and its bytes of shared memory."""
    query_block, key_block, warps, stages = blocks
    if dtype == "fp32" and name != "row sums":
        query_block, key_block = query_block // 2, key_block // 2
    program = compile_kernel(KERNELS[name][0], dtype, head_size, (query_block, key_block, warps, stages), capability)
    assembly = program.asm["ptx"]
    registers, spilled = registers_and_spills(assembly)
    return (
        f"| sm_{capability} | {dtype} | {head_size} | {name} | {query_block} x {key_block}, {warps}, {stages} | "
        f"{registers} | {spilled} | {program.metadata.shared / 1024:.0f} | {assembly.count('wgmma.mma_async')} | "
        f"{assembly.count('mma.sync')} |"
    ), program.metadata.shared


def main() -> None:
    """Compile and print a row for each program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capabilities", nargs="+", type=int, default=[80, 90], help="80: A100, 90: H100")
    parser.add_argument("--dtypes", nargs="+", choices=("fp16", "bf16", "fp32"), default=["bf16"])
    parser.add_argument("--head-sizes", nargs="+", type=int, default=[32, 64, 128])
    parser.add_argument("--all", action="store_true", help="not only the first blocks of each table")
    options = parser.parse_args()
    print("| GPU | dtype | head | kernel | queries x keys, warps, stages | registers | spilled | KiB | wgmma | mma |")
    print("|---|---|---:|:---|:---|---:|---:|---:|---:|---:|")
    too_large = []
    for capability, dtype, head_size in product(options.capabilities, options.dtypes, options.head_sizes):
        features = max(32, 1 << (head_size - 1).bit_length())
        for name, (_, table) in KERNELS.items():
            for blocks in table[features] if options.all else table[features][:1]:
                line, shared = row(name, dtype, head_size, blocks, capability)
                print(line, flush=True)
                if blocks == table[features][0] and shared > SHARED_MEMORY:
                    too_large.append(f"{name} of heads of {head_size}: {shared:,} bytes")
    if too_large:
        sys.exit(
            f"an H100 has {SHARED_MEMORY:,} bytes for a program; choose smaller blocks for " + "; ".join(too_large)
        )


if __name__ == "__main__":
    main()
