"""Runs of two processes, for tests."""

import gc
import json
import os
import signal
import time
import traceback

import numpy as np
import torch
import torch.distributed as dist
from compiling_optimizers import auto_compiles
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TrainConfig, Trainer, TrainingInterrupted, evaluate
from trainer.checkpoints import store
from trainer.distributed.processes import joined_processes
from trainer.distributed.rank import read_ranks
from trainer.training.compilation import CompilationError

VOCAB_SIZE, WIDTH, CONTEXT = 40, 16, 8
STEPS, STOPPED_AT = 8, 6
CONFIG = {
    "steps": STEPS,
    "batch_size": 4,
    "context_length": CONTEXT,
    "grad_accumulation_steps": 3,
    "eval_interval": STEPS // 2,
    "eval_batch_size": 7,
    "log_interval": 1,
    "checkpoint_interval": STEPS // 2,
    "device": "cpu",
    "dtype": "float32",
    "seed": 3,
}


class Blocks(nn.Module):
    """Residual blocks in a `ModuleList`, tied embeddings, and a loss that is no `forward`; all of it smooth.

    The first dimensions of its parameters are not even, and one has a single row, of which a process has nothing.
    """

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 33), nn.GELU(), nn.Linear(33, WIDTH)) for _ in range(3)
        )
        self.head = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        self.head.weight = self.embedding.weight
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("scale", torch.tensor(0.5))

    def logits(self, inputs):
        x = self.embedding(inputs)
        for block in self.blocks:
            x = x + self.gain * block(x)
        return self.head(x) * self.scale

    def loss(self, inputs, targets):
        return cross_entropy(self.logits(inputs).flatten(0, 1), targets.flatten())


def loss_fn(model, inputs, targets):
    return model.loss(inputs, targets)


def make_tokens(count, seed):
    return (np.cumsum(np.random.default_rng(seed).integers(1, 4, size=count)) % VOCAB_SIZE).astype(np.uint16)


def sample(model, step):
    """Text that depends on the random states, so all processes must draw alike."""
    return str(torch.multinomial(model.logits(torch.tensor([[1, 2]]))[0, -1].softmax(0), 5).tolist())


def make_trainer(run_dir, *, loss=loss_fn, model=None, optimizer=None, callbacks=(), **settings):
    model = Blocks() if model is None else model
    optimizer = optimizer or torch.optim.AdamW(
        [{"params": [*model.blocks.parameters()]}, {"params": others(model), "lr_scale": 0.5}]
    )
    data = make_tokens(3000, 0), make_tokens(500, 1)
    config = TrainConfig(**{**CONFIG, **settings})
    schedule, options = lambda step: 5e-3 * (1 - step / 100), {"sample": sample, "callbacks": callbacks}
    return Trainer(model, optimizer, loss, *data, config, schedule, run_dir, [], **options)


def others(model):
    inside = {id(parameter) for parameter in model.blocks.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in inside]


def acting(action, at=STOPPED_AT, rank=1):
    """The loss, preceded by an action of one process in the last forward pass of the step `at`."""
    calls = []

    def loss(model, inputs, targets):
        calls.append(model.training)
        if model.training and sum(calls) == 3 * at and read_ranks().rank == rank:
            action()
        return loss_fn(model, inputs, targets)

    return loss


def sums(model):
    return [parameter.detach().double().sum().item() for parameter in model.parameters()]


def train_equally(directory):
    """Train and resume in all ways, and leave what was seen in DIRECTORY/rank{R}.json.

    The test compares the run directories with those of one process.
    """
    seen = {}
    for name in ("ddp", "fsdp"):
        model = Blocks(read_ranks().rank)  # the first one's weights count
        summary = make_trainer(directory / name, model=model, parallel=name).fit()
        seen[name] = {"loss": summary.final_valid_loss, "sums": sums(model), "type": type(model).__name__}
        # From a checkpoint of one process, which the test has left here.
        make_trainer(directory / f"one-{name}", model=Blocks(7), parallel=name).fit()
        # A signal to the second process.
        interrupt = acting(lambda: signal.raise_signal(signal.SIGTERM))
        try:
            make_trainer(directory / f"{name}-one", loss=interrupt, parallel=name).fit()
        except TrainingInterrupted as error:
            seen[f"{name} interrupted"] = [error.step, str(error)]
        # One way goes on from the other's checkpoint.
        other = "fsdp" if name == "ddp" else "ddp"
        make_trainer(directory / f"{name}-one", model=Blocks(8), parallel=other).fit()
        seen[f"{name} ramp"] = rise_and_average(directory / f"ramp-{name}", name)
    seen["ends"] = [end_early(directory / "diverged"), end_in_time(directory / "in time")]
    seen["compiled"] = [
        compile_badly(directory / "raises", "ddp", fail),
        compile_badly(directory / "is wrong", "fsdp", lambda *arguments: 2 * loss_fn(*arguments)),
    ]
    seen["full"] = fill_a_disk(directory / "full")
    # By the type alone: weak proxies of other tests may be there, which nobody may look into.
    wrappers = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.parallel.DistributedDataParallel)]
    seen["reducers"] = sum(wrapper.reducer is not None for wrapper in wrappers)
    seen["errors"] = [catch(directory / "ddp", seed=4), catch(directory / "ddp" / "config.json")]
    seen["pieces"] = compile_in_pieces(directory / "pieces")  # which leaves weak proxies that nobody may look into
    seen["evaluations"] = evaluations(directory)
    (directory / f"rank{read_ranks().rank}.json").write_text(json.dumps(seen))


RAMP = {"steps": 20, "grad_accumulation_steps": 1, "batch_ramp": ((0.0, 1), (0.3, 3)), "average_from": 0.6}
RAMP |= {"sampling": "shuffled", "eval_interval": 10, "checkpoint_interval": 10}
TAIL_PASS = 6 + 3 * 9  # the last forward pass of step 15, when the mean has begun


def rise_and_average(run_dir, name):
    """Begin in one of the two ways, and after a signal, when there is a mean, finish in the other one."""
    interrupt = acting(lambda: signal.raise_signal(signal.SIGTERM), at=TAIL_PASS / 3)
    try:
        make_trainer(run_dir, loss=interrupt, parallel=name, **RAMP).fit()
    except TrainingInterrupted as error:
        stopped_at = error.step
    other, model = "fsdp" if name == "ddp" else "ddp", Blocks(8)
    summary = make_trainer(run_dir, model=model, parallel=other, **RAMP).fit()
    return [stopped_at, summary.final_valid_loss, summary.tokens, sums(model)]


def catch(run_dir, **settings):
    """Return the error of a run, which is that of rank 0 everywhere."""
    try:
        make_trainer(run_dir, **settings).fit()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def end_early(run_dir):
    """The loss of one of the processes is not finite in the third step."""
    poison = torch.ones(())
    loss = acting(lambda: poison.fill_(float("nan")), at=3)
    summary = make_trainer(run_dir, loss=lambda *arguments: loss(*arguments) * poison).fit()
    return [summary.status, summary.divergence]


def fail(*arguments):
    raise RuntimeError("no compiler")


def compile_badly(run_dir, parallel, compiled):
    """Train with a compiler that fails in one of the processes; return the error of a run that must not go on."""
    compile_well, torch.compile = torch.compile, lambda loss, **_: compiled if read_ranks().rank == 1 else loss
    try:
        with auto_compiles():
            make_trainer(run_dir, parallel=parallel, compile="auto", steps=6).fit()
        make_trainer(run_dir.with_name(f"{run_dir.name} on"), parallel=parallel, compile="on", steps=6).fit()
    except CompilationError as error:
        return str(error)
    finally:
        torch.compile = compile_well


class Doubled(torch.autograd.Function):
    """A function with a backward pass of its own."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Wide(Blocks):
    """A model with more parameters than DDP reduces in one bucket."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 20_000), nn.Linear(20_000, WIDTH)

    def loss(self, inputs, targets):
        x = Doubled.apply(self.embedding(inputs))
        logits = self.head(x + self.down(self.up(x).relu())) + self.logits(inputs)
        return cross_entropy(logits.flatten(0, 1), targets.flatten())


def compile_in_pieces(run_dir):
    """Return the number of graphs of a compiled loss under DDP, each time that it is compiled."""
    calls, compile_well = [], torch.compile

    def compile_for_real(function, **_):
        def backend(graph, inputs):
            calls[-1] += 1
            return graph

        compiled = compile_well(function, backend=backend, dynamic=False)

        def call(*arguments):
            calls.append(0)
            return compiled(*arguments)

        return call

    torch.compile = compile_for_real
    try:
        make_trainer(run_dir, model=Wide(), compile="on", steps=2).fit()
    finally:
        torch.compile = compile_well
    return [graphs for graphs in calls if graphs]


def fill_a_disk(run_dir):
    """The writer has no room for the second checkpoint."""

    def write_or_fail(directory, state):
        if state.step == 4:
            (directory / "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return write(directory, state)

    settings = {"parallel": "fsdp", "steps": 6, "checkpoint_interval": 2, "save_in_background": False}
    write, store.write_tensors = store.write_tensors, write_or_fail
    try:
        make_trainer(run_dir, **settings).fit()
    except OSError as error:
        message = str(error)
    finally:
        store.write_tensors = write
    kept = [path.name for path in (run_dir / "checkpoints").iterdir()]
    return [message, kept, make_trainer(run_dir, **settings).fit().status]


def end_in_time(run_dir):
    """Train by the clock; both processes must make the same number of steps, though the second clock is fast."""
    passes, real = [], time.perf_counter

    def loss(model, inputs, targets):
        passes.append(model.training)
        return loss_fn(model, inputs, targets)

    settings = {"clock": "time", "time_limit_seconds": 30.0, "checkpoint_seconds": 2.0, "eval_seconds": 3.0}
    time.perf_counter = lambda: len(passes) * (0.3 if read_ranks().rank == 0 else 1.5)
    try:
        summary = make_trainer(run_dir, loss=loss, **settings).fit()
    finally:
        time.perf_counter = real
    return [summary.status, summary.steps, sum(passes) // 3]


def evaluations(directory):
    """Evaluate splits of 1, 2 and 9 batches alone and together."""
    results = []
    dist.init_process_group("gloo")  # which is used, and stays
    make_trainer(directory / "ddp", model=(model := Blocks(9))).fit()  # is only read
    with joined_processes(read_ranks(), torch.device("cpu"), 60) as processes:
        for count in (CONTEXT + 1, 2 * CONTEXT + 4, 500):
            arguments = Blocks(), make_tokens(count, 1), CONTEXT
            alone = evaluate(*arguments, batch_size=7, loss_fn=loss_fn)
            together = evaluate(*arguments, batch_size=7, loss_fn=loss_fn, processes=processes)
            results.append([alone.loss, together.loss])
        numbers = [None, None]
        dist.all_gather_object(numbers, read_ranks().rank)
        results.append(numbers)
    dist.destroy_process_group()
    return [*results, sums(model)]


def die(directory):
    """The second process is killed, as if out of memory."""
    kill = acting(lambda: os.kill(os.getpid(), signal.SIGKILL))
    make_trainer(directory / "run", loss=kill, checkpoint_interval=2, save_in_background=False).fit()


def wait_for_a_signal(directory):
    """Train slowly enough for a signal to `torchrun`, which keeps the errors of a function from the standard error."""

    def loss(model, inputs, targets):
        time.sleep(0.01)
        return loss_fn(model, inputs, targets)

    try:
        make_trainer(directory / "run", loss=loss, parallel="fsdp", steps=10**6, eval_interval=10**6).fit()
    except BaseException:
        traceback.print_exc()
        raise
