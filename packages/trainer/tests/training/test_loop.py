import json
import math
import os
import re
import shutil
import signal

import numpy as np
import pytest
import torch
from bigram_run import CONFIG, failing_loss, loss_fn, make_model, make_tokens, make_trainer, schedule
from torch import nn

from trainer import TokenDataset, TrainingInterrupted, evaluate, read_config, read_metrics
from trainer.data.windows import batch_generator, get_batch

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_run_equals_a_hand_written_loop(tmp_path):
    summary = make_trainer(tmp_path / "run", model=(model := make_model())).fit()
    torch.manual_seed(CONFIG["seed"])
    other, tokens = make_model(), make_tokens()
    torch.manual_seed(CONFIG["seed"])
    optimizer = torch.optim.AdamW(other.parameters())
    for step in range(CONFIG["steps"]):
        optimizer.zero_grad()
        for micro_step in range(2):
            inputs, targets = get_batch(tokens, 4, 8, "cpu", batch_generator(CONFIG["seed"], step, micro_step))
            (loss_fn(other, inputs, targets) / 2).backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    expected = evaluate(other, make_tokens(500, seed=1), 8)
    assert summary.final_valid_loss == pytest.approx(expected.loss, rel=1e-6)


def test_records_are_complete(tmp_path):
    valid = tmp_path / "valid.npy"
    np.save(valid, make_tokens(500, seed=1))
    sidecar = {"format": "scratchlm-tokens", "version": 1, "tokens": 500, "bytes": 1300, "vocab_size": 40}
    valid.with_suffix(".json").write_text(json.dumps(sidecar))
    summary = make_trainer(tmp_path / "run", valid=TokenDataset(valid)).fit()
    records = read_metrics(tmp_path / "run")
    train = [record for record in records if record["event"] == "train"]
    valid = [record for record in records if record["event"] == "eval"]
    assert [record["step"] for record in train] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert [record["step"] for record in valid] == [0, 20, 40, 60]
    assert all(record["tokens"] == record["step"] * 64 for record in records)
    assert [record["lr"] for record in train] == [schedule(record["step"] - 1) for record in train]
    for name in ("grad_norm", "tokens_per_second", "memory_bytes", "seconds_total", "seconds_training", "progress"):
        assert all(record[name] > 0 for record in train)
    for name in ("seconds_total", "seconds_training", "tokens", "progress"):
        values = [record[name] for record in records]
        assert values == sorted(values)
    assert all(record["seconds_training"] <= record["seconds_total"] for record in records)
    last = valid[-1]
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]))
    assert last["bits_per_byte"] == pytest.approx(last["loss"] * 499 / math.log(2) / 1300)
    assert (summary.final_valid_loss, summary.bits_per_byte) == (last["loss"], last["bits_per_byte"])
    assert summary.best_valid_loss == min(record["loss"] for record in valid)
    assert (summary.status, summary.diverged, summary.divergence) == ("completed", False, None)
    assert (summary.steps, summary.tokens) == (60, 3840)
    assert summary.parameters == sum(parameter.numel() for parameter in make_model().parameters())
    csv = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert csv[0].startswith("event,step,progress,tokens")
    assert len(csv) == len(records) + 1


def test_training_loss_is_the_mean_since_the_last_record(tmp_path):
    make_trainer(tmp_path / "often", log_interval=1).fit()
    make_trainer(tmp_path / "rarely", log_interval=7).fit()
    often = [record["loss"] for record in read_metrics(tmp_path / "often") if record["event"] == "train"]
    rarely = [record["loss"] for record in read_metrics(tmp_path / "rarely") if record["event"] == "train"]
    assert rarely[:2] == pytest.approx([np.mean(often[:7]), np.mean(often[7:14])])
    assert rarely[-1] == pytest.approx(np.mean(often[56:]))


def test_accumulated_gradients_are_those_of_the_mean_loss(tmp_path):
    """With a constant input every batch is the same, so accumulation must change nothing but rounding."""
    tokens, results = np.tile(np.arange(2, dtype=np.uint16), 50), []
    for count in (1, 4):
        model = nn.Sequential(nn.Embedding(2, 3), nn.Linear(3, 2))
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) + number)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        settings = {"grad_accumulation_steps": count, "batch_size": 64, "context_length": 2, "steps": 5}
        data = {"train": tokens, "valid": tokens, "max_grad_norm": None}
        make_trainer(tmp_path / str(count), model=model, optimizer=optimizer, **data, **settings).fit()
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.allclose(*results, atol=1e-2)
    assert not torch.allclose(results[0], torch.ones(()), atol=1e-2)


@pytest.mark.parametrize("max_grad_norm", [0.01, None])
def test_clipping_and_scaled_learning_rates(tmp_path, max_grad_norm):
    model = make_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    groups = [{"params": list(model[:4].parameters()), "lr_scale": 0.5}, {"params": list(model[4:].parameters())}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    make_trainer(
        tmp_path / "run", model=model, optimizer=optimizer, steps=1, lr=lambda step: 2.0, max_grad_norm=max_grad_norm
    ).fit()
    moved = [(old - new.detach()).norm() ** 2 for old, new in zip(before, model.parameters(), strict=True)]
    norm = math.sqrt(sum(moved[:3]) / 1.0**2 + sum(moved[3:]) / 2.0**2)
    recorded = read_metrics(tmp_path / "run")[1]["grad_norm"]
    assert norm == pytest.approx(recorded if max_grad_norm is None else max_grad_norm, rel=1e-3)
    assert recorded > 0.1
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 2.0]


def bad_loss(at, value, times=1):
    """A loss that is multiplied by `value` from the forward pass `at` of training on (two to a step)."""
    calls = []

    def loss(model, inputs, targets):
        calls.append(model.training)
        return loss_fn(model, inputs, targets) * (value if model.training and at <= sum(calls) < at + times else 1.0)

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_stops_before_the_update(tmp_path, value):
    run, model, loss = tmp_path / "run", make_model(), bad_loss(2 * 15 + 1, value)
    summary = make_trainer(run, model=model, loss=loss).fit()
    assert (summary.status, summary.diverged, summary.diverged_at_step, summary.steps) == ("diverged", True, 16, 15)
    assert summary.divergence == "loss or gradient norm not finite at step 16"
    assert summary.final_valid_loss is None
    assert summary.best_valid_loss is not None
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    last = read_metrics(run)[-1]
    assert (last["event"], last["step"], last["loss"], last["status"]) == ("train", 16, None, "not finite")
    assert "NaN" not in (run / "metrics.jsonl").read_text()
    assert "Infinity" not in (run / "metrics.jsonl").read_text()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_0000006", "step_0000012"]
    assert make_trainer(run, loss=loss).fit() == summary


class Collector:
    """A logger that keeps the records."""

    def __init__(self, records):
        self.records = records

    def log(self, record):
        self.records.append(record)

    def close(self):
        pass


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_may_be_skipped(tmp_path, value):
    run, heard = tmp_path / "run", []
    loss, settings = bad_loss(2 * 15 + 1, value), {"on_non_finite": "skip", "steps": 24}
    summary = make_trainer(run, loss=loss, loggers=[Collector(heard)], **settings).fit()
    assert (summary.status, summary.diverged, summary.steps, summary.skipped_steps) == ("completed", False, 24, 1)
    assert math.isfinite(summary.final_valid_loss)
    (skipped,) = (record for record in read_metrics(run) if record["event"] == "skipped")
    assert (skipped["step"], skipped["loss"]) == (16, None)
    assert any("no update at step 16" in record.get("message", "") for record in heard)
    means = [record["loss"] for record in read_metrics(run) if record["event"] == "train"]
    assert all(mean is not None and mean < 10 for mean in means)


def test_skipping_every_step_is_a_divergence(tmp_path):
    summary = make_trainer(tmp_path / "run", loss=bad_loss(2 * 15 + 1, math.nan, times=999), on_non_finite="skip").fit()
    assert (summary.status, summary.diverged_at_step, summary.skipped_steps) == ("diverged", 35, 20)
    assert summary.divergence == "loss or gradient norm not finite in 20 steps in a row, up to step 35"


def test_a_spike_is_recorded(tmp_path):
    run = tmp_path / "run"
    summary = make_trainer(run, loss=bad_loss(2 * 30 + 1, 50.0, times=2)).fit()
    assert (summary.status, summary.spikes) == ("completed", 1)
    (spike,) = (record for record in read_metrics(run) if record["event"] == "spike")
    assert spike["step"] == 35
    assert 0 < spike["usual_loss"] < 4 < 20 < spike["loss"]
    (record,) = (record for record in read_metrics(run) if record["event"] == "train" and record["step"] == 35)
    assert record["loss_max"] == spike["loss"]
    assert record["loss"] < record["loss_max"]


def test_evaluations_by_time(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, eval_interval=1000, eval_seconds=1e-9, steps=12).fit()
    assert [record["step"] for record in read_metrics(run) if record["event"] == "eval"] == list(range(13))


def test_norms_and_rates_are_recorded(tmp_path):
    run, model = tmp_path / "run", make_model()
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "lr_scale": 0.5}, {"params": list(model[1:].parameters())}], lr=1.0
    )
    make_trainer(run, model=model, optimizer=optimizer).fit()
    last = [record for record in read_metrics(run) if record["event"] == "train"][-1]
    norm = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).norm().item()
    assert last["parameter_norm"] == pytest.approx(norm, rel=1e-5)
    assert last["group_lrs"] == [pytest.approx(0.5 * schedule(59)), pytest.approx(schedule(59))]
    assert last["lr"] == schedule(59)


def test_utilisation_is_given_only_if_known(tmp_path, monkeypatch):
    summary = make_trainer(tmp_path / "unknown", flops_per_token=1e6, steps=14).fit()
    assert summary.mfu is None
    monkeypatch.setattr("trainer.trainer.peak_flops", lambda name, dtype: 1e12)
    summary = make_trainer(tmp_path / "known", flops_per_token=1e6, steps=14).fit()
    assert summary.mfu == pytest.approx(summary.tokens_per_second * 1e6 / 1e12)
    train = [record for record in read_metrics(tmp_path / "known") if record["event"] == "train"]
    assert all(record["mfu"] == pytest.approx(record["tokens_per_second"] * 1e-6) for record in train)
    assert summary.peak_memory_bytes > 10**7


def test_validation_loss_that_is_not_finite_is_a_divergence(tmp_path):
    def loss(model, inputs, targets):
        return loss_fn(model, inputs, targets) * (1 if model.training else math.nan)

    summary = make_trainer(tmp_path / "run", loss=loss).fit()
    assert (summary.status, summary.steps) == ("diverged", 0)
    assert summary.divergence == "validation loss not finite at step 0"


def test_run_that_ends_above_its_start_is_marked(tmp_path):
    summary = make_trainer(tmp_path / "run", lr=lambda step: 5.0, steps=12).fit()
    assert (summary.status, summary.diverged, summary.diverged_at_step) == ("completed", True, None)
    assert "is above the first one" in summary.divergence


def test_a_run_that_overfits_has_not_diverged(tmp_path):
    """A9: the validation loss ends above its start, and the training loss is low."""
    tokens = make_tokens(40, seed=5)
    summary = make_trainer(tmp_path / "run", train=tokens, lr=lambda step: 5e-2, steps=100).fit()
    assert summary.final_valid_loss > 1.1 * 3.7 > summary.best_valid_loss
    assert (summary.status, summary.diverged, summary.divergence) == ("completed", False, None)


def test_finished_run_is_only_read(tmp_path):
    run, model = tmp_path / "run", make_model()
    summary = make_trainer(run, model=model, steps=6).fit()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    other = make_model(5)
    assert make_trainer(run, model=other, loss=None, steps=6).fit() == summary
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("version", [None, 2])
def test_a_summary_of_another_version_is_refused(tmp_path, version):
    run = tmp_path / "run"
    make_trainer(run, steps=2).fit()
    values = json.loads((run / "summary.json").read_text())
    values["version"] = version
    if version is None:  # as before there were versions
        del values["version"], values["spikes"]
    (run / "summary.json").write_text(json.dumps(values))
    expected = (
        f"{run / 'summary.json'} has version {version} of the format, expected 1: read it with the version of this "
        "package that wrote it (environment.json names it), or train in another run directory"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        make_trainer(run, steps=2).fit()


def test_a_summary_with_other_fields_is_refused(tmp_path):
    run = tmp_path / "run"
    summary = make_trainer(run, steps=2).fit()
    values = {**summary.to_json(), "unknown": 1}
    del values["status"]
    (run / "summary.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"summary.json is not a summary: status, unknown missing or unknown; restore"):
        make_trainer(run, steps=2).fit()


def test_metrics_csv_is_written_at_the_end_of_a_session(tmp_path):
    def rows(run):
        return len((run / "metrics.csv").read_text().splitlines()) - 1

    def crash():
        assert not (tmp_path / "crashed" / "metrics.csv").exists()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path / "crashed", loss=failing_loss(31, crash), steps=20).fit()
    interrupt = failing_loss(31, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "interrupted", loss=interrupt, steps=20).fit()
    make_trainer(tmp_path / "whole", steps=20).fit()
    for name in ("crashed", "interrupted", "whole"):
        assert rows(tmp_path / name) == len(read_metrics(tmp_path / name)) > 0


def test_the_start_on_a_part_of_the_split_is_not_compared_with_the_end_on_the_whole(tmp_path):
    """The rest of the split is harder: its ids do not walk around the circle."""
    valid = np.concatenate([make_tokens(100, seed=1), np.random.default_rng(0).integers(0, 40, 400).astype(np.uint16)])
    start, settings = evaluate(make_model(), valid[:100], 8).loss, {"valid": valid, "steps": 12, "lr": lambda step: 5.0}
    for tokens, is_above in ((100, False), (500, True), (None, True)):
        summary = make_trainer(tmp_path / str(tokens), eval_tokens=tokens, **settings).fit()
        assert summary.final_valid_loss > start
        assert (summary.diverged, summary.divergence is not None) == (is_above, is_above)


@pytest.mark.parametrize("is_damaged", [True, False])
def test_finished_run_without_an_intact_checkpoint_says_that_the_weights_are_as_they_were(tmp_path, is_damaged):
    run = tmp_path / "run"
    summary = make_trainer(run, steps=6).fit()
    if is_damaged:
        (run / "checkpoints" / "step_0000006" / "model.safetensors").write_bytes(b"")
    else:
        shutil.rmtree(run / "checkpoints")
    before, model = make_model(5), make_model(5)
    with pytest.warns(RuntimeWarning) as caught:
        assert make_trainer(run, model=model, steps=6).fit() == summary
    messages = [str(warning.message) for warning in caught]
    reason = "every checkpoint in .* is damaged: .*" if is_damaged else "there is no checkpoint"
    expected = f"the run in {run} is finished and its summary is returned, but the model's weights are as they were: "
    assert re.fullmatch(f"{re.escape(expected)}{reason}; restore one if you need them, or .*", messages[-1])
    assert len(messages) == 1 + is_damaged
    assert caught[-1].filename == __file__
    assert all(torch.equal(*pair) for pair in zip(before.parameters(), model.parameters(), strict=True))


def test_other_configurations_are_refused_by_name(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, recorded={"a": {"b": 1}}, steps=6).fit()
    with pytest.raises(
        ValueError, match=r"holds a run with another configuration: seed was 3, now 8; .*another run directory"
    ) as error:
        make_trainer(run, seed=8, recorded={"a": {"b": 1}}).fit()
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"recorded.a.b was 1, now 2"):
        make_trainer(run, recorded={"a": {"b": 2}}).fit()
    with pytest.raises(ValueError, match=r"recorded.a.b was 1, now not set"):
        make_trainer(run).fit()
    with pytest.raises(ValueError, match=r"data.valid.tokens was 500, now 400"):
        make_trainer(run, valid=make_tokens(400, seed=1), recorded={"a": {"b": 1}}).fit()
    others = {"context_length": 4, "sampling": "shuffled", "vocab_size": 50, "seed": 1}
    with pytest.raises(ValueError, match=r"context_length was 8, now 4; sampling was .*; vocab_size .* and 1 more;"):
        make_trainer(run, steps=1, recorded={"a": {"b": 1}}, **others).fit()


def test_another_torch_that_knows_more_settings_does_not_matter(tmp_path):
    run = tmp_path / "run"
    summary = make_trainer(run, steps=6).fit()
    config = read_config(run)
    group = config["optimizer"]["groups"]["0"]
    group["from_the_future"] = True
    (run / "config.json").write_text(json.dumps(config))
    assert make_trainer(run, steps=6).fit() == summary
    group["weight_decay"] = 0.7
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"optimizer.groups.0.weight_decay was 0.7, now 0.01"):
        make_trainer(run).fit()


def test_a_skipped_step_that_is_made_again_is_recorded_once(tmp_path):
    """The last checkpoint is of the step before the skipped one."""

    def crashing(step):
        return 1 / 0 if step == 17 else schedule(step)

    run, settings = tmp_path / "run", {"on_non_finite": "skip", "checkpoint_interval": 15}
    with pytest.raises(ZeroDivisionError):
        make_trainer(run, loss=bad_loss(2 * 15 + 1, math.nan), lr=crashing, **settings).fit()
    make_trainer(run, loss=bad_loss(1, math.nan), **settings).fit()
    assert [record["step"] for record in read_metrics(run) if record["event"] == "skipped"] == [16]


def test_a_directory_without_checkpoints_binds_to_nothing(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        make_trainer(run, loss=lambda *_: 1 / 0).fit()
    assert make_trainer(run, batch_size=8, steps=6).fit().status == "completed"
    assert read_config(run)["train"]["batch_size"] == 8


@pytest.mark.parametrize(("split", "least"), [("train", 9), ("valid", 2)])
def test_splits_that_are_too_short_are_refused_before_anything_is_created(tmp_path, split, least):
    name = {"train": "training", "valid": "validation"}[split]
    with pytest.raises(ValueError, match=f"the {name} split has {least - 1} tokens: expected at least {least}"):
        make_trainer(tmp_path / "run", **{split: make_tokens(least - 1)})
    assert not list(tmp_path.iterdir())
    assert make_trainer(tmp_path / "run", steps=1, **{split: make_tokens(least)}).fit().steps == 1


@pytest.mark.parametrize("eval_tokens", [None, 9])
def test_a_validation_split_may_be_shorter_than_a_window(tmp_path, eval_tokens):
    """All its tokens count, and so do those of a short file beside a long one."""
    parts, model = [make_tokens(5, seed=2), make_tokens(21, seed=1)], make_model(dropout=0.0)
    for count in (1, 2):
        settings = {"valid": parts[:count], "eval_tokens": eval_tokens, "eval_batch_size": 64, "steps": 1}
        summary = make_trainer(tmp_path / f"{count}", model=model, **settings).fit()
        sums = 0.0
        for part in parts[:count]:
            ids = torch.from_numpy(part.astype(np.int64))[None]
            sums += loss_fn(model, ids[:, :-1], ids[:, 1:]).item() * (len(part) - 1)
        assert summary.final_valid_loss == pytest.approx(sums / sum(len(part) - 1 for part in parts[:count]))


def test_data_of_two_tokenizers_are_refused(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", make_tokens(100))
        sidecar = {"format": "scratchlm-tokens", "tokens": 100, "tokenizer_sha256": name * 64}
        (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
    data = {"train": TokenDataset(tmp_path / "a.npy"), "valid": TokenDataset(tmp_path / "b.npy")}
    with pytest.raises(ValueError, match=r"come from different tokenizers \(aaaaaaaaaaaa, bbbbbbbbbbbb\)"):
        make_trainer(tmp_path / "run", **data)


@pytest.mark.parametrize("recorded", [{"x": object()}, {"x": math.nan}])
def test_recorded_values_must_be_plain(tmp_path, recorded):
    with pytest.raises(ValueError, match="recorded cannot be written as JSON"):
        make_trainer(tmp_path / "run", recorded=recorded)


@pytest.mark.skipif(os.name != "posix", reason="words of POSIX")
def test_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"cannot write to the run directory .*file/run: .*file is a file, not a directory; choose another"
    with pytest.raises(OSError, match=message) as error:
        make_trainer(tmp_path / "file" / "run").fit()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rate", [math.nan, -1.0, math.inf])
def test_bad_learning_rates(tmp_path, rate):
    with pytest.raises(ValueError, match=rf"schedule\(0\) is {rate}: expected a finite learning rate"):
        make_trainer(tmp_path / "run", lr=lambda step: rate).fit()


def test_loss_must_be_a_scalar(tmp_path):
    def loss(model, inputs, targets):
        value = loss_fn(model, inputs, targets)
        return value[None] if model.training else value

    with pytest.raises(ValueError, match=r"loss_fn returned the shape \(1,\) and the type torch.float32: expected a"):
        make_trainer(tmp_path / "run", loss=loss).fit()


def test_samples_disturb_nothing(tmp_path, timeless):
    def sample(model, step):
        assert not model.training
        torch.rand(7)
        np.random.rand(3)
        return "text"

    make_trainer(tmp_path / "with", sample=sample, steps=24).fit()
    make_trainer(tmp_path / "without", steps=24).fit()
    assert timeless(tmp_path / "with") == timeless(tmp_path / "without")


def test_failing_sample_is_a_warning(tmp_path):
    def sample(model, step):
        if step == 20:
            raise RuntimeError("no story")
        return "text"

    with pytest.warns(RuntimeWarning, match="no sample at step 20: RuntimeError: no story"):
        make_trainer(tmp_path / "run", sample=sample, steps=24).fit()
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 24]


def test_random_states_of_the_caller_are_left_alone(tmp_path):
    trainer = make_trainer(tmp_path / "run", steps=6)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    trainer.fit()
    assert torch.equal(torch.rand(3), expected)


def test_bfloat16(tmp_path):
    seen = set()

    def loss(model, inputs, targets):
        seen.add(model(inputs).dtype)
        return loss_fn(model, inputs, targets)

    assert make_trainer(tmp_path / "run", loss=loss, dtype="bfloat16", steps=6).fit().status == "completed"
    assert seen == {torch.bfloat16}


def test_sparse_gradients_train_like_dense_ones(tmp_path):
    weights = []
    for is_sparse in (True, False):
        model = make_model()
        model[0].sparse = is_sparse
        trainer = make_trainer(
            tmp_path / f"sparse-{is_sparse}",
            model=model,
            optimizer=torch.optim.SGD(model.parameters()),
            max_grad_norm=0.1,
            steps=7,
        )
        trainer.fit()
        weights.append([parameter.detach() for parameter in model.parameters()])
    for ours, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs)
    norms = [
        [record["grad_norm"] for record in read_metrics(tmp_path / f"sparse-{is_sparse}") if record["event"] == "train"]
        for is_sparse in (True, False)
    ]
    assert norms[0] == pytest.approx(norms[1])
    assert norms[0][0] > 0.1
