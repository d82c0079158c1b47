"""Measures the gain from keeping freed memory: training steps in processes that keep it and that do not.

    python benchmarks/kept_memory.py [--rounds 5]

A small language model of torch.nn, in the dtype of `resolve_dtype("auto")`; figures are medians over the rounds, whose
processes take turns.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import resolve_dtype
from trainer.devices import autocast, keep_freed_memory

VOCAB_SIZE, WIDTH, LAYERS, WINDOWS, CONTEXT_LENGTH = 4096, 128, 4, 16, 256
STEPS, NOT_COUNTED = 60, 20


def train():
    """Make steps; print seconds and page faults per step, and the peak memory of the process in megabytes."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.Embedding(VOCAB_SIZE, WIDTH),
        nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False),
        nn.Linear(WIDTH, VOCAB_SIZE),
    )
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    device = torch.device("cpu")
    seconds, faults = [], []
    for _ in range(STEPS):
        tokens = torch.randint(VOCAB_SIZE, (WINDOWS, CONTEXT_LENGTH))
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with autocast(device, resolve_dtype("auto", device)):
            loss = cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(statistics.median(seconds[NOT_COUNTED:]), statistics.median(faults[NOT_COUNTED:]), most)


def measure(rounds):
    """Print the comparison."""
    found = {"kept": [], "given back": []}
    for _ in range(rounds):
        for name, rows in found.items():
            command = [sys.executable, __file__, "--process", name]
            rows.append([float(word) for word in subprocess.check_output(command, text=True).split()])
    columns = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (seconds, faults, most) in columns.items():
        print(
            f"memory {name}: steps of {seconds * 1e3:.0f} ms, {faults:,.0f} page faults in each, {most:,.0f} MB at most"
        )
    print(f"memory kept: {columns['kept'][0] / columns['given back'][0]:.3f} times the seconds of a step")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--process", choices=("kept", "given back"), help="be one of the processes")
    options = parser.parse_args()
    if options.process is None:
        measure(options.rounds)
    else:
        if options.process == "kept":
            keep_freed_memory()
        train()
