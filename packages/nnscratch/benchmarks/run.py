"""Time nnscratch beside torch.nn, torch.nn.functional and torch.optim in one run, and print the ratios.

    python benchmarks/run.py [--rounds 7] [--device auto] [--quick] [--batch-size 8] [--d-model 512] …

The first table has the whole training step of the assignment's base model beside the same model built from torch.nn
(joint products, scaled_dot_product_attention, cross_entropy, fused AdamW), the second has each primitive; both eager
and compiled, in float32 and under bfloat16 autocast. The two sides alternate. Times are medians; memory is the peak of
a step in a separate process.
"""

import argparse
import json
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from primitives import differentiated, primitives
from steps import make_step
from timing import print_row, side_by_side

from nnscratch import TransformerConfig, flops_per_token

BASE = {
    "batch_size": 8,
    "vocab_size": 10_000,
    "context_length": 256,
    "d_model": 512,
    "num_layers": 4,
    "num_heads": 16,
    "d_ff": 1344,
}
QUICK = BASE | {"vocab_size": 500, "context_length": 64, "d_model": 64, "num_layers": 1, "num_heads": 2, "d_ff": 128}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def peak_memory(which: str, mode: str, dtype: str, device: str, sizes: dict[str, Any]) -> float | None:
    """Return the peak memory of a step in MB, or None if it cannot be measured."""
    if device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), which, mode, dtype, device]
    done = subprocess.run([*command, json.dumps(sizes)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"measuring memory failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def matrix_peak(device: str) -> float:
    """Return the FLOP/s of a large bfloat16 matrix product, the best of five."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds, _ = min(side_by_side(lambda: a @ b, lambda: None, 3, device) for _ in range(5))
    return 2 * 8192**3 / seconds


def whole_steps(sizes: dict[str, Any], rounds: int, device: str, modes: list[str]) -> None:
    """Print the table of whole training steps."""
    config = TransformerConfig(**{name: value for name, value in sizes.items() if name != "batch_size"})
    tokens = sizes["batch_size"] * config.context_length
    peak = matrix_peak(device) if device == "cuda" else None
    for mode in modes:
        for name, dtype in DTYPES.items():
            torch.compiler.reset()
            steps = [make_step(which, mode == "compiled", dtype, device, sizes) for which in ("ours", "torch")]
            ours, theirs = side_by_side(*steps, rounds, device)
            note = f"{tokens / ours:,.0f} tokens/s"
            memory = [peak_memory(which, mode, name, device, sizes) for which in ("ours", "torch")]
            if memory[0] is not None and memory[1] is not None:
                note += f", {memory[0]:,.0f} MB of {memory[1]:,.0f} MB ({memory[0] / memory[1]:.2f})"
            if peak is not None and name == "bfloat16":
                share = flops_per_token(config, backward=True) * tokens / ours / peak
                note += f", {share:.1%} of {peak / 1e12:.0f} TFLOP/s"
            print_row(f"training step, {mode}, {name}", ours, theirs, note)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="a tiny model, to check that everything runs")
    parser.add_argument("--only", choices=("steps", "primitives"))
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    for name, value in BASE.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default {value}")
    options = vars(parser.parse_args())
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options["device"] == "auto" else options["device"]
    sizes = QUICK if options["quick"] else BASE
    sizes = {name: value if options[name] is None else options[name] for name, value in sizes.items()}
    warnings.filterwarnings("ignore")
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {device}, {where}, {platform.machine()}; {sizes}; {options['rounds']} rounds")
    print(f"{'':36}{'nnscratch':>13}{'torch':>13}{'ratio':>8}")
    if options["only"] != "primitives":
        whole_steps(sizes, options["rounds"], device, options["modes"])
    if options["only"] != "steps":
        config = TransformerConfig(**{name: value for name, value in sizes.items() if name != "batch_size"})
        for mode in options["modes"]:
            for dtype_name, dtype in DTYPES.items():
                for name, (ours, theirs, inputs) in primitives(config, sizes["batch_size"], device).items():
                    torch.compiler.reset()
                    calls = [differentiated(f, inputs, mode == "compiled", dtype, device) for f in (ours, theirs)]
                    seconds = side_by_side(*calls, options["rounds"], device)
                    print_row(f"{name}, {mode}, {dtype_name}", *seconds)


if __name__ == "__main__":
    main()
