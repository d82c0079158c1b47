"""The speed of a device, measured with a model that a package of models makes."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainer.experiments import speed_trial
from trainer.experiments.speed_trial import expected_flops, flops_per_second_of, measure_flops_per_second

VOCAB_SIZE, OPERATIONS = 30, 1000.0
WHERE = torch.device("cpu"), torch.float32


@dataclass(frozen=True)
class Recipe:
    """Settings of a recipe that a trial reads."""

    batches = SimpleNamespace(batch_size=20, sampled_tokens=5)
    model = SimpleNamespace(context_length=16)

    def flops_per_token(self, vocab_size):
        assert vocab_size == VOCAB_SIZE
        return OPERATIONS


class Bigrams(nn.Module):
    """Keeps the number of windows of each pass; more than `most` do not fit into its memory."""

    def __init__(self, most=100):
        super().__init__()
        self.rows = nn.Embedding(VOCAB_SIZE, VOCAB_SIZE)
        self.most, self.windows = most, []

    def loss(self, inputs, targets, num_sampled):
        assert num_sampled == 5
        assert 0 <= inputs.min() <= inputs.max() < VOCAB_SIZE
        self.windows.append(len(inputs))
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nn.functional.cross_entropy(self.rows(inputs).flatten(0, 1), targets.flatten())


def package(model=None):
    def make_model(recipe, vocab_size, device):
        torch.rand(1)  # draws weights
        return model or Bigrams()

    def make_optimizer(model, recipe, dtype):
        assert dtype == torch.float32
        return torch.optim.SGD(model.parameters(), lr=0.1)

    def learn_ngrams(model, token_ids):
        assert token_ids.max() < VOCAB_SIZE

    return SimpleNamespace(make_model=make_model, make_optimizer=make_optimizer, learn_ngrams=learn_ngrams)


def test_measured_speed_is_that_of_the_trial(monkeypatch):
    before, clock = torch.get_rng_state(), iter(range(1_000))
    monkeypatch.setattr(speed_trial, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    speed = measure_flops_per_second(package(), Recipe(), VOCAB_SIZE, *WHERE, 0.05)
    # Every look at the clock is a second later: passes of 1 s with 8 of 20 windows, and updates of 1 s.
    assert speed == pytest.approx(20 * 16 / (20 / 8 + 1) * OPERATIONS)
    assert torch.equal(before, torch.get_rng_state())


def test_a_budget_follows_from_the_peak_or_from_a_few_products(monkeypatch):
    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "Tesla T4")
    device = torch.device("cpu")
    assert expected_flops(device, 10.0, processes=2, dtype="float16") == pytest.approx(2 * 65e12 * 0.4 * 10)
    clock = iter([1.0, 3.0])
    monkeypatch.setattr(speed_trial, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(speed_trial, "_PRODUCT_SIZE", 8)
    # 10 products of 2 · 8³ operations in 2 s; nobody has noted a peak in float32.
    assert expected_flops(device, 10.0, dtype="float32") == pytest.approx(10 * 1024 / 2 * 0.4 * 10)


def test_a_step_in_which_the_process_was_stopped_changes_no_speed():
    """Of three steps, one was stopped for a minute in its pass, another in its update."""
    even = flops_per_second_of(Recipe(), VOCAB_SIZE, 8, [(1.0, 0.5)] * 3)
    assert flops_per_second_of(Recipe(), VOCAB_SIZE, 8, [(61.0, 0.5), (1.0, 60.5), (1.0, 0.5)]) == even


def test_a_trial_of_too_many_windows_is_made_with_fewer(monkeypatch):
    model = Bigrams(most=2)
    monkeypatch.setattr(speed_trial, "flops_per_second_of", lambda recipe, vocab_size, windows, timed: windows)
    assert measure_flops_per_second(package(model), Recipe(), VOCAB_SIZE, *WHERE, 0.0) == 2
    assert model.windows == [8, 4, 2, 2, 2, 2]
