"""Measures what the trainer costs, against hand-written code in the same run."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import kept_memory
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TokenDataset, TrainConfig, Trainer, get_batch, save_checkpoint
from trainer.callbacks import Callback
from trainer.checkpoints import CheckpointStore
from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.state_dicts import get_model_state
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.splits import TokenSplit
from trainer.data.windows import batch_generator
from trainer.devices import keep_freed_memory
from trainer.experiments.comparison import CONFIDENCE, spread, student_quantile

VOCAB_SIZE, WIDTH, CONTEXT_LENGTH = 500, 128, 64
PAIRS, WINDOWS, LOG_INTERVAL, LEAST_SECONDS = 20, 10, 10, 0.02
BIG_WIDTH, SAVE_EVERY, SAVES = 2450, 40, 5
FILE_TOKENS, BATCHES = 500_000_000, 20_000


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(VOCAB_SIZE, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, VOCAB_SIZE)
    )


def loss_fn(model, inputs, targets):
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


class BareLoop(Callback):
    """The loop that one would write by hand, with clipping; it makes a step whenever the trainer has made one.

    So both meet the same disturbances, on a machine whose speed changes from second to second.
    """

    def __init__(self, tokens, batch_size) -> None:
        self.tokens, self.batch_size = tokens, batch_size
        self.model = make_model()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.times = []
        """Before and after each step here, by both clocks; between two of them the trainer works."""

    def step(self, number):
        """Make one step."""
        inputs, targets = get_batch(self.tokens, self.batch_size, CONTEXT_LENGTH, "cpu", batch_generator(0, number, 0))
        loss = loss_fn(self.model, inputs, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def on_step(self, run):
        """Make a step, and note the times."""
        self.times.append(read_clocks())
        self.step(run.step)
        self.times.append(read_clocks())


def read_clocks():
    """Return seconds of wall time, and of CPU time, which other processes change less."""
    return time.perf_counter(), time.process_time()


def find_batch_size(tokens):
    """Return the batch size whose bare steps take at least `LEAST_SECONDS` when nothing disturbs them."""
    batch_size, seconds = 4, [0.0]
    while min(seconds) < LEAST_SECONDS:
        batch_size += 4
        loop, seconds = BareLoop(tokens, batch_size), []
        for number in range(30):
            began = time.perf_counter()
            loop.step(number)
            seconds.append(time.perf_counter() - began)
    return batch_size


def measure_overhead(directory):
    """Compare `Trainer.fit` with the bare loop; logs count, evaluations and checkpoints do not."""
    tokens = np.random.default_rng(0).integers(VOCAB_SIZE, size=100_000).astype(np.uint16)
    keep_freed_memory()  # as the trainer does, for both
    bare = BareLoop(tokens, find_batch_size(tokens))
    model, steps = make_model(), LOG_INTERVAL * WINDOWS * (PAIRS + 1)
    config = TrainConfig(
        steps=steps,
        batch_size=bare.batch_size,
        context_length=CONTEXT_LENGTH,
        eval_interval=10**6,
        checkpoint_interval=None,
        checkpoint_seconds=None,
        log_interval=LOG_INTERVAL,
        device="cpu",
        dtype="float32",  # as the bare loop computes
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    arguments = loss_fn, tokens, tokens[:1000], config, lambda step: 1e-3, directory / "overhead", []
    Trainer(model, optimizer, *arguments, callbacks=[bare]).fit()
    # From the end of one bare step to that of the next: the trainer's step, and the bare one. The first pair warms up.
    seconds = np.diff(np.array(bare.times)[-2 * LOG_INTERVAL * WINDOWS * PAIRS - 1 :], axis=0)
    # A window has one record; the medians leave out what disturbs single ones.
    medians = np.median(seconds.reshape(PAIRS, WINDOWS, LOG_INTERVAL, 2, 2).sum(2), axis=1)
    step = np.median(seconds[1::2], axis=0) * 1e3
    for clock, name in enumerate(("wall", "CPU")):
        ratios = spread((medians[:, 0, clock] / medians[:, 1, clock]).tolist())
        half = student_quantile((1 + CONFIDENCE) / 2, PAIRS - 1) * ratios.deviation / PAIRS**0.5
        print(
            f"loop: {ratios.mean:.4f} ± {half:.4f} times the {name} time of a bare loop, whose steps take "
            f"{step[clock]:.1f} ms (mean of {PAIRS} pairs, {ratios.low:.3f} to {ratios.high:.3f}, and its "
            f"{CONFIDENCE:.0%} interval; {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f})"
        )


def resident_megabytes():
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def read_batch(source, step):
    return source.batch(StepBatches(step, 1), 0)


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
        report_loader(what, context_length, functools.partial(read_batch, source))
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
        "run checkpoint, checksums included": lambda: store.write(
            CheckpointState(1, get_model_state(model), optimizer.state_dict(), {})
        ),
        "its verification and loading": store.load_latest,
        "save_checkpoint": lambda: save_checkpoint(model, optimizer, 1, directory / "one.pt"),
    }.items():
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - began)
        print(f"checkpoint: {statistics.median(seconds):.2f} s for {name} ({size:.0f} MB)")


class Stopped(Exception):  # noqa: N818 - it is how the benchmark ends a run early
    """Leaves a run behind that can be resumed."""


def train_big_model(run_dir, steps, *, stop_after=None, in_background=True):
    """Train a model whose checkpoints have 100 MB; return the seconds at which each forward pass of training began."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(VOCAB_SIZE, BIG_WIDTH),
        nn.Linear(BIG_WIDTH, BIG_WIDTH),
        nn.ReLU(),
        nn.Linear(BIG_WIDTH, VOCAB_SIZE),
    )
    moments = []

    def timed_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if model.training:
            moments.append(time.perf_counter())
            if len(moments) == stop_after:
                raise Stopped
        return loss_fn(model, inputs, targets)

    config = TrainConfig(
        steps=steps,
        batch_size=4,
        context_length=16,
        eval_interval=10**6,
        checkpoint_interval=SAVE_EVERY,
        device="cpu",
        save_in_background=in_background,
    )
    tokens = np.random.default_rng(0).integers(VOCAB_SIZE, size=100_000).astype(np.uint16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    trainer = Trainer(model, optimizer, timed_loss, tokens, tokens[:100], config, lambda step: 1e-3, run_dir, [])
    with contextlib.suppress(Stopped):
        trainer.fit()
    return moments


def measure_stall(directory):
    """Measure the extra time of a step with a save, and of the steps while the checkpoint is being written."""
    for name, in_background in {"background": True, "foreground": False}.items():
        run_dir = directory / name
        moments = np.array(train_big_model(run_dir, SAVE_EVERY * (SAVES + 1), in_background=in_background))
        shutil.rmtree(run_dir)
        seconds = np.diff(moments)
        saving = np.arange(SAVE_EVERY - 1, len(seconds), SAVE_EVERY)[:SAVES]
        # Nothing is being written in the second half of each interval.
        step = np.median([seconds[end - SAVE_EVERY // 2 : end] for end in saving])
        stalls = (seconds[saving] - step) * 1e3
        between = [seconds[begin : begin + SAVE_EVERY].sum() for begin in saving]
        lost = (statistics.median(between) - SAVE_EVERY * step) * 1e3
        print(
            f"checkpoint of 100 MB in the {name}: stalls the loop {np.median(stalls):.0f} ms (the first one "
            f"{stalls[0]:.0f} ms, the longest {stalls.max():.0f} ms), costs {lost:.0f} ms in all, at "
            f"{step * 1e3:.0f} ms steps ({torch.get_num_threads()} threads)"
        )


def measure_resume(directory):
    run_dir, seconds = directory / "resumed", []
    train_big_model(run_dir, 10**6, stop_after=2 * SAVE_EVERY)
    for _ in range(3):
        began = time.perf_counter()
        seconds.append(train_big_model(run_dir, 10**6, stop_after=1)[0] - began)
    print(
        f"resume: {statistics.median(seconds):.2f} s from the construction of the model to the first step "
        "(100 MB, checksums verified)"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        measure_overhead(Path(directory))
        measure_loader(Path(directory))
        measure_checkpoint(Path(directory))
        measure_stall(Path(directory))
        measure_resume(Path(directory))
        kept_memory.measure(rounds=5)
