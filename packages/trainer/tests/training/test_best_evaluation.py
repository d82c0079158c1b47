"""The best evaluation is on the disk, whatever the intervals are (R5)."""

import json
import shutil

import numpy as np
import pytest
import torch
from bigram_run import loss_fn, make_model, make_tokens, make_trainer
from safetensors.torch import save_file

from trainer import TrainConfig, evaluate, load_weights, read_metrics

pytestmark = pytest.mark.usefixtures("no_pictures")


def overfitting(run, **settings):
    """A run whose validation loss is the lowest long before its end."""
    settings = {"eval_interval": 5, "checkpoint_interval": 1000, "checkpoint_seconds": None, **settings}
    train = make_tokens(200, seed=5)
    return make_trainer(run, train=train, lr=lambda step: 2e-2, steps=60, **settings).fit()


@pytest.mark.parametrize(("evaluations", "checkpoints"), [(5, 1000), (5, 12), (7, 5), (20, 1000)])
def test_load_weights_gives_the_model_of_the_best_evaluation(tmp_path, evaluations, checkpoints):
    run = tmp_path / "run"
    summary = overfitting(run, eval_interval=evaluations, checkpoint_interval=checkpoints)
    losses = {record["step"]: record["loss"] for record in read_metrics(run) if record["event"] == "eval"}
    best = min((step for step in losses if step), key=losses.get)
    assert summary.best_valid_loss == losses[best] < summary.final_valid_loss
    model = make_model(9)
    loaded = load_weights(model, run)
    assert loaded == best
    assert loaded.path == run / "checkpoints" / f"step_{best:07}"
    assert loaded.valid_loss == losses[best]
    assert repr(loaded) == f"<step {best}, validation loss {losses[best]:.4f}, from {loaded.path}>"
    found = evaluate(model, make_tokens(500, seed=1), 8, batch_size=4, loss_fn=loss_fn).loss
    assert found == pytest.approx(losses[best])


def test_an_evaluation_of_a_part_saves_nothing(tmp_path):
    """Losses on a part of the split do not count for the best loss."""
    overfitting(tmp_path / "run", eval_tokens=20)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_0000060"]


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """The directory of a run, which tests copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        overfitting(run := tmp_path_factory.mktemp("overfitted") / "run")
    return run


def test_a_best_evaluation_that_is_not_on_the_disk_is_said(tmp_path, overfitted):
    run = shutil.copytree(overfitted, tmp_path / "run")
    final = json.loads((run / "summary.json").read_text())["final_valid_loss"]
    best = load_weights(make_model(), run)
    for path in (run / "checkpoints").iterdir():
        if path != run / "checkpoints" / "step_0000060":
            shutil.rmtree(path)
    expected = rf"the best evaluation of .*run, a loss of {best.valid_loss:.4f}, is not on the disk; loaded <step 60, "
    with pytest.warns(RuntimeWarning, match=expected):
        loaded = load_weights(make_model(), run)
    assert (loaded, loaded.valid_loss) == (60, final)


def test_weights_of_other_programs_have_no_step(tmp_path):
    model = make_model(3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = make_model(4)
    loaded = load_weights(other, tmp_path)
    assert (loaded, loaded.valid_loss) == (0, None)
    assert "not evaluated" in repr(loaded)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_tied_weights_may_be_saved_once(tmp_path):
    tied, other = (torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)) for _ in range(2))
    for model in (tied, other):
        model[1].weight = model[0].weight
    save_file({"0.weight": tied[0].weight.detach()}, tmp_path / "model.safetensors")
    load_weights(other, tmp_path)
    assert torch.equal(other[1].weight, tied[0].weight)
    (tmp_path / "model.safetensors").unlink()
    save_file({"2.weight": tied[0].weight.detach()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks 0.weight, 1.weight"):
        load_weights(other, tmp_path)


def test_a_checkpoint_without_its_description_is_no_plain_weights(tmp_path, overfitted):
    checkpoint = shutil.copytree(overfitted, tmp_path / "run") / "checkpoints" / "step_0000060"
    (checkpoint / "meta.json").unlink()
    with pytest.raises(ValueError, match=r"step_0000060 is damaged \(meta.json is missing\)"):
        load_weights(make_model(), checkpoint)


def test_checkpoints_by_time_are_the_default():
    assert TrainConfig(steps=1, batch_size=1, context_length=1).checkpoint_seconds == 60.0


def test_the_best_evaluation_of_training_is_saved_where_the_start_was_better(tmp_path):
    """R5: a run that begins with trained weights, and gets worse."""
    make_trainer(tmp_path / "first", steps=100).fit()
    ids = np.random.default_rng(0).integers(0, 40, 500).astype(np.uint16)
    settings = {"steps": 30, "eval_interval": 5, "checkpoint_interval": 1000}
    make_trainer(tmp_path / "second", init_from=tmp_path / "first", train=ids, **settings).fit()
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "second") if r["event"] == "eval"}
    best = min(list(losses)[1:], key=losses.get)
    assert losses[0] < losses[best] < losses[30]
    with pytest.warns(RuntimeWarning, match="the best evaluation of .* is not on the disk"):
        assert load_weights(make_model(), tmp_path / "second") == best
