"""Time optimizer steps beside those of torch.optim on the assignment's base model, and print the ratios.

    OMP_NUM_THREADS=2 python benchmarks/optimizers.py [--rounds 30] [--device cpu]

The optimizers alternate, so that other load on the machine affects all alike; figures are medians.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from nnscratch import AdamW, Muon, TransformerConfig, TransformerLM

BASE = TransformerConfig(vocab_size=10_000, context_length=256, d_model=512, num_layers=4, num_heads=16, d_ff=1344)


def parameters(device: str) -> list[nn.Parameter]:
    """Return freshly initialized parameters of the base model, with gradients."""
    params = list(TransformerLM(BASE, device=device).parameters())
    for param in params:
        param.grad = torch.randn_like(param) * 1e-3
    return params


def in_turns(functions: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Return the median seconds of each function, alternating after two rounds of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            if index >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="for AdamW, and a tenth as many for Muon (default 30)")
    parser.add_argument("--compile", action="store_true", help="also AdamW under torch.compile, which takes a minute")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    def matrices() -> list[nn.Parameter]:
        # Only those of the blocks: the two tables of 10,000 rows belong to AdamW.
        return [
            param for param in parameters(options.device) if param.dim() == 2 and BASE.vocab_size not in param.shape
        ]

    adamw: dict[str, Callable[[], object]] = {
        "AdamW": AdamW(parameters(options.device), weight_decay=0.1).step,
        "torch.optim.AdamW fused": torch.optim.AdamW(parameters(options.device), weight_decay=0.1, fused=True).step,
        "torch.optim.AdamW foreach": torch.optim.AdamW(parameters(options.device), weight_decay=0.1, foreach=True).step,
    }
    if options.compile:
        adamw["AdamW compiled"] = torch.compile(AdamW(parameters(options.device), weight_decay=0.1).step)
    muon: dict[str, Callable[[], object]] = {
        "Muon": Muon(matrices()).step,
        "Muon polar-express": Muon(matrices(), coefficients="polar-express").step,
        "Muon normuon, cautious": Muon(matrices(), normuon=True, cautious_weight_decay=True).step,
    }
    if hasattr(torch.optim, "Muon"):
        # Always in bfloat16, which is slow on a CPU without such instructions.
        muon["Muon bfloat16"] = Muon(matrices(), newton_schulz_dtype=torch.bfloat16).step
        muon["torch.optim.Muon"] = torch.optim.Muon(matrices()).step
    count = sum(param.numel() for param in parameters(options.device))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, {options.device}")
    print(f"{count:,} float32 parameters, {options.rounds} rounds")
    for functions, first, rounds in ((adamw, "AdamW", options.rounds), (muon, "Muon", max(1, options.rounds // 10))):
        seconds = in_turns(functions, rounds, options.device)
        for name, value in seconds.items():
            print(f"{name:28}{1e3 * value:9.2f} ms  {first} takes {seconds[first] / value:.2f} times that", flush=True)


if __name__ == "__main__":
    main()
