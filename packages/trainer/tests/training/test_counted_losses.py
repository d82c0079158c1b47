"""Losses that leave out targets (R6, R7), and what a loss function may return (A3)."""

import math
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from bigram_run import loss_fn, make_model, make_tokens, make_trainer, recording, summed_loss
from torch.nn.functional import cross_entropy

from trainer import evaluate, read_metrics

pytestmark = pytest.mark.usefixtures("no_pictures")
IGNORED = -100


def masked(targets):
    """Targets of which some do not count: very different numbers of them in different windows."""
    return torch.where(targets < 25 - targets[:, :1] // 2, IGNORED, targets)


def counted_loss(model, inputs, targets):
    """The sum of the losses, and the number of targets that count."""
    targets = masked(targets)
    logits = model(inputs).flatten(0, 1)
    return cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum"), (targets != IGNORED).sum()


@pytest.mark.parametrize(
    "division",
    [
        {"batch_size": 8, "grad_accumulation_steps": 1},
        {"batch_size": 2, "grad_accumulation_steps": 4},
        {"batch_size": 1, "grad_accumulation_steps": 8},
    ],
    ids=str,
)
def test_the_gradient_is_that_of_the_whole_batch(tmp_path, division):
    """However the eight windows are divided, their targets weigh the same (R6)."""
    seen, gradients, model = [], [], make_model(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.register_step_pre_hook(lambda *_: gradients.append([p.grad.clone() for p in model.parameters()]))
    settings = {"loss": recording(seen, counted_loss), "steps": 1, "max_grad_norm": None, **division}
    make_trainer(tmp_path / "run", model=model, optimizer=optimizer, **settings).fit()
    same = make_model(dropout=0.0)
    inputs, targets = (torch.cat(parts) for parts in zip(*seen, strict=True))
    total, count = counted_loss(same, inputs, targets)
    (total / count).backward()
    for ours, parameter in zip(gradients[0], same.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=0, atol=1e-6)
    record = next(record for record in read_metrics(tmp_path / "run") if record["event"] == "train")
    assert record["loss"] == pytest.approx((total / count).item(), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_an_evaluation_weighs_targets_and_not_windows(batch_size):
    """Also where no target of a window counts (R7)."""
    tokens, model = make_tokens(403, seed=2), make_model(dropout=0.0).eval()
    tokens[40:80] = 1
    ids = torch.from_numpy(tokens.astype(np.int64))
    inputs, targets = ids[:400].view(50, 8), ids[1:401].view(50, 8)
    with torch.no_grad():
        total, count = counted_loss(model, inputs, targets)
        rest = counted_loss(model, ids[None, 400:402], ids[None, 401:403])
    found = evaluate(model, tokens, 8, batch_size=batch_size, loss_fn=counted_loss, num_bytes=1000)
    assert found.loss == pytest.approx(((total + rest[0]) / (count + rest[1])).item(), abs=1e-6)
    assert found.tokens == count + rest[1] < 402
    assert found.bits_per_byte is None  # the bytes of the other targets are not known


def test_a_number_of_targets_may_be_a_number():
    model, tokens = make_model().eval(), make_tokens(200)
    plain = evaluate(model, tokens, 8, loss_fn=loss_fn, num_bytes=300)
    counted = evaluate(model, tokens, 8, loss_fn=summed_loss, num_bytes=300)
    assert counted.loss == pytest.approx(plain.loss)
    assert counted.bits_per_byte == pytest.approx(plain.bits_per_byte)
    assert counted.tokens == plain.tokens == 199


def test_a_split_without_any_target_is_refused():
    with pytest.raises(ValueError, match="loss_fn counts no target of the split to evaluate: expected at least one"):
        evaluate(make_model(), make_tokens(50), 8, loss_fn=lambda model, x, y: (model(x).sum() * 0, 0))


def test_a_step_without_any_target_changes_nothing_by_its_gradient(tmp_path):
    def loss(model, inputs, targets):
        total, count = counted_loss(model, inputs, targets)
        return (total * 0, count * 0) if model.training else (total, count)

    model = make_model(dropout=0.0)
    before = [parameter.clone() for parameter in model.parameters()]
    make_trainer(
        tmp_path / "run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), loss=loss, steps=2
    ).fit()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda loss: (loss, 1, 2), "returned a tuple of 3: expected a scalar tensor"),
        (lambda loss: loss.item(), "returned a float: expected a scalar tensor"),
        (lambda loss: loss[None], r"returned the shape \(1,\) and the type torch.float32"),
        (lambda loss: loss.long(), r"returned the shape \(\) and the type torch.int64"),
        (lambda loss: None, "returned a NoneType"),
        (lambda loss: SimpleNamespace(loss=loss), "returned a SimpleNamespace: .*; return its .loss"),
        (lambda loss: (loss, "many"), "returned 'many' as the number of losses"),
        (lambda loss: (loss, True), "returned True as the number of losses"),
        (lambda loss: (loss, -1), "returned -1 as the number of losses"),
        (lambda loss: (loss, math.inf), "returned inf as the number of losses"),
        (lambda loss: (loss, torch.tensor(True)), r"returned a tensor of the shape \(\) and the type torch.bool as"),
        (
            lambda loss: (loss, torch.ones(2)),
            r"returned a tensor of the shape \(2,\) and the type torch.float32 as the number of losses",
        ),
        (lambda loss: [loss, 1], "returned a list"),
    ],
)
def test_anything_else_is_refused_in_words(tmp_path, wrong, message):
    """A3: both by the trainer, whose first call of the function is an evaluation, and by `evaluate`."""

    def loss(model, inputs, targets):
        return wrong(loss_fn(model, inputs, targets))

    with pytest.raises(ValueError, match=f"loss_fn {message}"):
        make_trainer(tmp_path / "run", loss=loss).fit()
    with pytest.raises(ValueError, match=f"loss_fn {message}"):
        evaluate(make_model(), make_tokens(100), 8, loss_fn=loss)


def test_short_texts_can_be_evaluated():
    """A12: a text shorter than the context."""
    model, tokens = make_model().eval(), make_tokens(5)
    ids = torch.from_numpy(tokens.astype(np.int64))
    expected = loss_fn(model, ids[None, :-1], ids[None, 1:]).item()
    assert evaluate(model, tokens, 64, loss_fn=loss_fn).loss == pytest.approx(expected)
    with pytest.raises(ValueError, match="has 1 tokens: expected at least 2, because the first one is not predicted"):
        evaluate(model, tokens[:1], 64, loss_fn=loss_fn)


def test_perplexity_of_a_counted_loss():
    found = evaluate(make_model(), make_tokens(60), 8, loss_fn=counted_loss)
    assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_weights_of_targets_may_be_small(tmp_path):
    """R6: targets may count for less than one; their sum in a step was taken to be at least one."""

    def records(name, scale):
        def loss(model, inputs, targets):
            losses = cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
            shares = torch.where(targets.flatten() < 20, scale, 2 * scale)
            return (losses * shares).sum(), shares.sum()

        make_trainer(tmp_path / name, loss=loss, steps=10, log_interval=1).fit()
        return [record["loss"] for record in read_metrics(tmp_path / name)]

    assert records("small", 2.0**-12) == records("one", 1.0)


def test_a_step_without_any_target_has_no_loss_in_the_records(tmp_path):
    """R6: it would count as a loss of zero."""
    trained = []

    def loss(model, inputs, targets):
        total, count = counted_loss(model, inputs, targets)
        trained.append(model.training)
        counts = not model.training or sum(trained) % 2 == 0
        return total * counts, count * counts

    settings = {"steps": 8, "log_interval": 2, "grad_accumulation_steps": 1, "eval_interval": 100}
    make_trainer(tmp_path / "run", loss=loss, lr=lambda step: 0.0, **settings).fit()
    losses = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert len(losses) == 4
    assert min(losses) > 3


@pytest.mark.parametrize("count", [np.int64(32), np.float32(32), 32.0, torch.tensor(32, dtype=torch.int32)])
def test_numbers_of_targets_of_any_type(count):
    def loss(model, inputs, targets):
        return loss_fn(model, inputs, targets) * 32, count

    found = evaluate(make_model(), make_tokens(33), 8, batch_size=4, loss_fn=loss)
    assert found.tokens == 32


class Counted(NamedTuple):
    total: torch.Tensor
    count: int


def test_a_named_tuple_is_a_tuple():
    def loss(model, inputs, targets):
        return Counted(loss_fn(model, inputs, targets) * targets.numel(), targets.numel())

    assert evaluate(make_model(), make_tokens(33), 8, loss_fn=loss).tokens == 32


def test_a_loss_without_a_gradient_is_refused(tmp_path):
    """A3: torch alone says that element 0 of tensors does not require grad."""

    def loss(model, inputs, targets):
        return loss_fn(model, inputs, targets).detach()

    with pytest.raises(ValueError, match="the loss has no gradient: expected loss_fn to compute it from"):
        make_trainer(tmp_path / "run", loss=loss).fit()


@pytest.mark.parametrize("wrong", [3, torch.nn.CrossEntropyLoss])
def test_a_loss_that_is_no_function_is_refused(tmp_path, wrong):
    """A3."""
    with pytest.raises(TypeError, match=r"loss_fn is .*: expected a function of the model, the inputs and the targets"):
        make_trainer(tmp_path / "run", loss=wrong).fit()
    assert not (tmp_path / "run").exists()
