"""Examples such as prompts with answers, padded to windows, of whose targets only some count."""

import numpy as np
import pytest
import torch
from bigram_run import VOCAB_SIZE, make_model, make_trainer
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from trainer import Examples, TrainConfig, evaluate, read_metrics
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.splits import TokenSplit

pytestmark = pytest.mark.usefixtures("no_pictures")

ROWS = st.lists(st.lists(st.tuples(st.integers(0, 39), st.booleans()), min_size=2, max_size=9), min_size=1, max_size=8)


def make_examples(count=40, seed=0):
    """Examples of different lengths, in which the first ids are a prompt."""
    generator = np.random.default_rng(seed)
    ids = [generator.integers(VOCAB_SIZE, size=size) for size in generator.integers(4, 10, size=count)]
    return ids, [np.arange(len(row)) >= 2 for row in ids]


def counting_loss(model, inputs, targets):
    losses = cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")
    return losses, (targets != -100).sum()


def loss_of(model, ids, counted):
    """The mean loss, one example after the other and without padding."""
    total, count = 0.0, 0
    for row, marks in zip(ids, counted, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor(row[None, :-1]))[0]
        losses = cross_entropy(logits, torch.tensor(row[1:]), reduction="none")[torch.tensor(marks[1:])]
        total, count = total + losses.double().sum().item(), count + len(losses)
    return total / count, count


@given(ROWS, st.integers(0, 3), st.sampled_from(["shuffled", "documents"]))
def test_each_epoch_has_every_example_once(rows, extra, sampling):
    ids = [[number for number, _ in row] for row in rows]
    counted = [[counts for _, counts in row] for row in rows]
    length = max(map(len, ids)) - 1 + extra
    split = TokenSplit(Examples(ids, counted), "the data")
    split.check_length(length)
    config = TrainConfig(steps=1, batch_size=len(rows), context_length=length, sampling=sampling)
    source = BatchSource(split, config)
    expected = []
    for row in rows:
        padding = [0] * (length - len(row) + 1), [-100] * (length - len(row) + 1)
        targets = [number if counts else -100 for number, counts in row[1:]]
        expected.append(([number for number, _ in row[:-1]] + padding[0], targets + padding[1]))
    for epoch in range(2):
        inputs, targets = source.batch(StepBatches(epoch, 1), 0)
        assert sorted(zip(inputs.tolist(), targets.tolist(), strict=True)) == sorted(expected)


def test_random_examples_are_drawn_uniformly():
    split = TokenSplit(Examples([[number, number] for number in range(10)]), "the data")
    source = BatchSource(split, TrainConfig(steps=1, batch_size=2000, context_length=1))
    counts = np.bincount(source.batch(StepBatches(0, 1), 0)[0].flatten().numpy(), minlength=10)
    assert abs(counts - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_an_evaluation_weighs_targets_that_count(batch_size):
    model, (ids, counted) = make_model().eval(), make_examples()
    expected, count = loss_of(model, ids, counted)
    for loss in (None, counting_loss):
        result = evaluate(model, Examples(ids, counted), 12, batch_size=batch_size, loss_fn=loss)
        assert result.loss == pytest.approx(expected, abs=1e-6)
        assert (result.tokens, result.bits_per_byte) == (count, None)
    everything = [np.ones(len(row), bool) for row in ids]
    assert evaluate(model, Examples(ids), 12).loss == pytest.approx(loss_of(model, ids, everything)[0], abs=1e-6)


def test_a_run_learns_answers_and_resumes(tmp_path):
    (ids, counted), options = make_examples(), {"steps": 60, "context_length": 12, "sampling": "shuffled"}
    data = {"train": Examples(ids, counted), "valid": Examples(ids, counted), "loss": counting_loss}
    model = make_model()
    summary = make_trainer(tmp_path / "run", model=model, eval_tokens=100, **options, **data).fit()
    assert summary.final_valid_loss == pytest.approx(loss_of(model.eval(), ids, counted)[0], abs=1e-5)
    first, *_, last = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert last < first
    others = [Examples(ids, [~mark for mark in counted]), Examples(ids[::-1], counted[::-1])]
    for other in others:
        with pytest.raises(ValueError, match=r"another configuration: data\.train\.sha256_of_"):
            make_trainer(tmp_path / "run", **options, **{**data, "train": other}).fit()


def test_a_loss_that_counts_padding_is_refused(tmp_path):
    ids, counted = make_examples()
    examples = Examples(ids, counted)
    with pytest.raises(ValueError, match=r"returned a mean, but not all targets .* expected the sum of the losses and"):
        make_trainer(tmp_path / "run", train=examples, valid=examples, context_length=12).fit()
    with pytest.raises(ValueError, match="returned a mean, but not all targets"):
        make_trainer(tmp_path / "other", train=examples, context_length=12).fit()


@pytest.mark.parametrize(
    ("ids", "counted", "message"),
    [
        ([], None, "ids is empty: expected at least one example"),
        ([[1, 2], [3]], None, r"example 1 has the shape \(1,\): expected one row of at least 2 ids"),
        ([[[1, 2]]], None, r"example 0 has the shape \(1, 2\): expected one row"),
        ([[1.0, 2.0]], None, "example 0 holds float64: expected integers; save it with"),
        ([[1, 2]], [], "counted has 0 rows: expected one for each of the 1 examples"),
        ([[1, 2]], [[1]], r"counted\[0\] is not 2 times True or False: expected one for each id of the example"),
        ([[1, 2]], [[1, 5]], r"counted\[0\] is not 2 times True or False"),
    ],
)
def test_refuses(ids, counted, message):
    with pytest.raises(ValueError, match=message):
        Examples(ids, counted)


def test_examples_that_are_too_long_or_have_strange_ids_are_refused(tmp_path):
    long = Examples([[1, 2], [1, 2, 3, 4, 5]])
    with pytest.raises(
        ValueError, match=r"example 1 of the training split has 5 ids: expected at most 4, context_leng"
    ):
        make_trainer(tmp_path / "run", train=long, context_length=3)
    with pytest.raises(ValueError, match="the split to evaluate has 5 ids"):
        evaluate(make_model(), long, 3)
    strange = Examples([[1, 2], [1, VOCAB_SIZE]])
    with pytest.raises(ValueError, match=f"the training split holds the token id {VOCAB_SIZE}: expected ids from 0 to"):
        make_trainer(tmp_path / "run", train=strange).fit()
