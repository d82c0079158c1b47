"""A small run that several tests make: a plain torch model with dropout, so that random states matter."""

import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TrainConfig, Trainer, read_metrics

VOCAB_SIZE = 40
CONFIG = {
    "steps": 60,
    "batch_size": 4,
    "context_length": 8,
    "grad_accumulation_steps": 2,
    "eval_interval": 20,
    "log_interval": 7,
    "checkpoint_interval": 6,
    "checkpoint_seconds": None,  # which no busy machine changes
    "device": "cpu",
    "dtype": "float32",
    "seed": 3,
}


SHORT = {"steps": 24, "eval_interval": 8, "checkpoint_interval": 3, "sample": lambda model, step: f"text of {step}"}
"""Settings of a run that is broken off at many places, and ends like the fixture `whole`."""
TRAINER_KEYWORDS = [
    name
    for name, parameter in inspect.signature(Trainer).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]


def make_tokens(count=3000, seed=0):
    """A walk around a circle of ids: its next step is worth learning."""
    steps = np.random.default_rng(seed).integers(1, 4, size=count)
    return (np.cumsum(steps) % VOCAB_SIZE).astype(np.uint16)


def make_model(seed=0, dropout=0.2):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(VOCAB_SIZE, 16), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, VOCAB_SIZE)
    )


def loss_fn(model, inputs, targets):
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def summed_loss(model, inputs, targets):
    """The same loss as a sum and the number of targets."""
    return loss_fn(model, inputs, targets) * targets.numel(), targets.numel()


def recording(batches, loss=loss_fn):
    """The loss, which keeps the inputs and targets of training passes."""

    def recorded(model, inputs, targets):
        if model.training:
            batches.append((inputs, targets))
        return loss(model, inputs, targets)

    return recorded


def schedule(step):
    return 1e-2 * (1 - step / 1000)


def make_trainer(run_dir, *, model=None, optimizer=None, loss=loss_fn, lr=schedule, loggers=(), **settings):
    """Return a trainer of the run; keywords of `Trainer` go there, all others change the configuration."""
    extra = {name: settings.pop(name) for name in TRAINER_KEYWORDS if name in settings}
    train = settings.pop("train", make_tokens())
    valid = settings.pop("valid", make_tokens(500, seed=1))
    model = make_model() if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0) if optimizer is None else optimizer
    config = TrainConfig(**{**CONFIG, **settings})
    return Trainer(model, optimizer, loss, train, valid, config, lr, run_dir, list(loggers), **extra)


def train_without_pictures(run_dir, **settings):
    """Make a run that several tests read, and return its directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        make_trainer(run_dir, **settings).fit()
    return run_dir


def make_short_trainer(run_dir, **settings):
    """Return a trainer of the run that the fixture `whole` makes."""
    return make_trainer(run_dir, **{**SHORT, **settings})


class Crash(BaseException):
    """An exception that nothing catches."""


def crash():
    raise Crash


def failing_loss(at, action):
    """The loss, preceded by an action in the training pass number `at`."""
    calls = []

    def loss(model, inputs, targets):
        calls.append(model.training)
        if model.training and sum(calls) == at:
            action()
        return loss_fn(model, inputs, targets)

    return loss


def forget_the_time(training):
    """Remove from the state of a run what depends on the clock."""
    del training["clock"]
    for state in training.values():
        if isinstance(state, dict):
            state.pop("seconds_training", None)


def load_states(checkpoint):
    """Read the states of the optimizer and of everything else from a checkpoint."""
    return torch.load(checkpoint / "optimizer.pt") | torch.load(checkpoint / "state.pt")


def assert_equal_runs(first, second, timeless):
    """Check that all but what depends on the clock agrees: weights, optimizer, random states, counts and records."""
    name = max(path.name for path in (first / "checkpoints").glob("step_*"))
    ours, theirs = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = [load_states(run / "checkpoints" / name) for run in (first, second)]
    for state in states:
        forget_the_time(state["training"])
    assert repr(states[0]) == repr(states[1])
    assert timeless(first) == timeless(second)
    seconds = [record["seconds_total"] for record in read_metrics(second)]
    assert seconds == sorted(seconds)


class Notices:
    """A logger that keeps the messages."""

    def __init__(self):
        self.messages = []

    def log(self, record):
        if record["event"] == "notice":
            self.messages.append(record["message"])

    def close(self):
        pass
