"""Measures what the trainer costs, against hand-written code in the same run."""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TokenDataset, TrainConfig, Trainer, get_batch, read_metrics, save_checkpoint
from trainer.batches import BatchSource
from trainer.checkpoints import CheckpointStore
from trainer.data import batch_generator
from trainer.token_split import TokenSplit

VOCAB_SIZE, WIDTH, BATCH_SIZE, CONTEXT_LENGTH = 500, 128, 16, 64
STEPS, ROUNDS = 150, 5
FILE_TOKENS, BATCHES = 500_000_000, 20_000


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(VOCAB_SIZE, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, VOCAB_SIZE)
    )


def loss_fn(model, inputs, targets):
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def bare_loop(tokens):
    """Seconds per step of the loop that one would write by hand, with clipping."""
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    for step in range(STEPS):
        generator = batch_generator(0, step, 0)
        inputs, targets = get_batch(tokens, BATCH_SIZE, CONTEXT_LENGTH, "cpu", generator)
        loss = loss_fn(model, inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - began) / STEPS


def trainer_loop(tokens, directory):
    """Seconds per step of the trainer, reports every 10 steps included, evaluations and checkpoints not."""
    model = make_model()
    config = TrainConfig(
        steps=STEPS,
        batch_size=BATCH_SIZE,
        context_length=CONTEXT_LENGTH,
        eval_interval=10**6,
        checkpoint_interval=None,
        device="cpu",
        dtype="float32",  # as the bare loop computes
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    run_dir = directory / f"run{time.perf_counter_ns()}"
    Trainer(model, optimizer, loss_fn, tokens, tokens[:1000], config, lambda step: 1e-3, run_dir, []).fit()
    first, *_, last = [record for record in read_metrics(run_dir) if record["event"] == "train"]
    # Between two records, so that the loggers' work counts.
    return (last["seconds_total"] - first["seconds_total"]) / (last["step"] - first["step"])


def measure_overhead(directory):
    tokens = np.random.default_rng(0).integers(VOCAB_SIZE, size=100_000).astype(np.uint16)
    bare_loop(tokens)
    pairs = [(bare_loop(tokens), trainer_loop(tokens, directory)) for _ in range(ROUNDS)]
    bare = statistics.median(pair[0] for pair in pairs)
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    print(f"loop: {ratio:.3f} times a bare loop of {bare * 1e3:.2f} ms steps (median of {ROUNDS} pairs)")


def resident_megabytes():
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measure_loader(directory):
    path = directory / "tokens.npy"
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(FILE_TOKENS,))
    for begin in range(0, FILE_TOKENS, 1 << 24):
        mapped[begin : begin + (1 << 24)] = 7
    mapped.flush()
    del mapped
    dataset, size = TokenDataset(path), FILE_TOKENS * 2 / 1e9
    began = time.perf_counter()
    dataset.check_ids(8)
    print(f"loader: {time.perf_counter() - began:.2f} s to check all ids of a {size:.0f} GB file")
    for context_length, name in itertools.product((256, 1024), ("random", "shuffled")):
        config = TrainConfig(steps=1, batch_size=32, context_length=context_length, sampling=name)
        source = BatchSource(TokenSplit(dataset, "the file"), config)
        what = f"{name} windows of {context_length}"
        report_loader(what, context_length, functools.partial(source.batch, micro_step=0))
    report_loader(
        "get_batch with windows of 256 of its memory map",
        256,
        lambda step: get_batch(dataset.tokens, 32, 256, "cpu", batch_generator(0, step, 0)),
    )
    path.unlink()


def report_loader(what, context_length, read):
    before, began = resident_megabytes(), time.perf_counter()
    for step in range(BATCHES):
        read(step)
    seconds = time.perf_counter() - began
    rate, growth = BATCHES * 32 * context_length / seconds / 1e6, resident_megabytes() - before
    print(
        f"loader: {rate:.0f} million tokens/s, {seconds / BATCHES * 1e6:.0f} us per batch of 32 {what}, "
        f"{growth:+.1f} MB of resident memory over {BATCHES:,} batches"
    )


def measure_checkpoint(directory):
    model = nn.Linear(2900, 2900, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2900)).sum().backward()
    optimizer.step()
    store = CheckpointStore(directory / "checkpoints", keep=1)
    size = 3 * model.weight.nbytes / 1e6
    for name, action in {
        "run checkpoint, checksums included": lambda: store.save(1, model, optimizer, {}, None),
        "its verification and loading": store.load_latest,
        "save_checkpoint": lambda: save_checkpoint(model, optimizer, 1, directory / "one.pt"),
    }.items():
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - began)
        print(f"checkpoint: {statistics.median(seconds):.2f} s for {name} ({size:.0f} MB)")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        measure_overhead(Path(directory))
        measure_loader(Path(directory))
        measure_checkpoint(Path(directory))
