"""Windows, losses and rates of one small seeded run, as text: a change that moves them must be meant."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import TrainConfig, Trainer, get_batch, read_metrics

VOCAB_SIZE = 40
WINDOWS = {"random": "d9d82bd8876e4333", "shuffled": "26423701fd91e5ce"}
"""The beginning of the SHA-256 of the inputs and targets of all 120 micro-batches."""
EVALUATIONS = {
    "random": {0: 3.738836, 20: 2.991443, 40: 2.14223, 60: 1.989184},
    "shuffled": {0: 3.738836, 20: 2.98206, 40: 2.111734, 60: 1.953459},
}
"""Validation losses by step; the last one is that of the averaged weights."""
TRAINING = {
    "random": {20: (3.40327, 0.0081, 0.573047), 40: (2.589279, 0.0061, 0.717205), 60: (1.961996, 0.0041, 0.773588)},
    "shuffled": {20: (3.442492, 0.0081, 0.510772), 40: (2.607412, 0.0061, 0.790579), 60: (1.965626, 0.0041, 0.81416)},
}
"""Training loss, learning rate and gradient norm by step."""


def walk(count, seed):
    """Ids that walk around a circle; the formula, not NumPy's generator, decides them."""
    steps = np.arange(count) * (seed + 7) % 11 % 3 + 1
    return (np.cumsum(steps) % VOCAB_SIZE).astype(np.uint16)


def fit(run_dir, sampling):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(VOCAB_SIZE, 16), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, VOCAB_SIZE)
    )
    digest = hashlib.sha256()

    def loss_fn(model, inputs, targets):
        if model.training:
            digest.update(inputs.numpy().tobytes() + targets.numpy().tobytes())
        return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    config = TrainConfig(
        steps=60,
        batch_size=4,
        context_length=8,
        grad_accumulation_steps=2,
        average_from=0.5,
        sampling=sampling,
        eval_interval=20,
        log_interval=20,
        device="cpu",
        dtype="float32",
        seed=3,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    train = [walk(3000, seed=0), walk(301, seed=5)]
    Trainer(
        model, optimizer, loss_fn, train, walk(500, seed=1), config, lambda step: 1e-2 * (1 - step / 100), run_dir, []
    ).fit()
    return digest.hexdigest()[:16], read_metrics(run_dir)


@pytest.mark.parametrize("sampling", ["random", "shuffled"])
def test_windows_losses_and_rates(sampling, tmp_path):
    digest, records = fit(tmp_path / "run", sampling)
    assert digest == WINDOWS[sampling]
    evaluations = {record["step"]: record["loss"] for record in records if record["event"] == "eval"}
    assert evaluations == pytest.approx(EVALUATIONS[sampling], abs=1e-4)
    training = {
        record["step"]: (record["loss"], record["lr"], record["grad_norm"])
        for record in records
        if record["event"] == "train"
    }
    assert training.keys() == TRAINING[sampling].keys()
    for step, values in TRAINING[sampling].items():
        assert training[step] == pytest.approx(values, abs=1e-4)


def test_batches_of_the_assignment():
    inputs, targets = get_batch(walk(300, 2), 3, 5, "cpu", generator=torch.Generator().manual_seed(9))
    assert inputs.tolist() == [[36, 37, 39, 2, 3], [25, 28, 29, 31, 33], [3, 6, 7, 8, 10]]
    assert targets.tolist() == [[37, 39, 2, 3, 5], [28, 29, 31, 33, 36], [6, 7, 8, 10, 13]]
