"""Runs that go on with changes, such as more steps or edited functions, and changes that are refused (R37, A4, A5)."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from bigram_run import (
    Crash,
    Notices,
    crash,
    failing_loss,
    loss_fn,
    make_model,
    make_tokens,
    make_trainer,
    schedule,
    train_without_pictures,
)
from safetensors.torch import load_file, save_file

from trainer import ConsoleLogger, load_weights, read_config, read_metrics
from trainer.config import CHANGEABLE_SETTINGS
from trainer.records.functions import describe_function

pytestmark = pytest.mark.usefixtures("no_pictures")


def weights(run, step):
    return load_file(run / "checkpoints" / f"step_{step:07}" / "model.safetensors")


def resumed(run):
    return json.loads((run / "environment.json").read_text())["resumed"]


def test_a_completed_run_with_more_steps_ends_like_one_that_had_them_from_the_start(tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert make_trainer(run, steps=12).fit().steps == 12
    notices = Notices()
    summary = make_trainer(run, model=make_model(9), steps=24, loggers=[notices]).fit()
    make_trainer(whole, steps=24).fit()
    assert (summary.status, summary.steps) == ("completed", 24)
    ours, theirs = weights(run, 24), weights(whole, 24)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "changed from step 12 on: steps was 12, now 24" in notices.messages
    assert [(session["step"], session["changed"]) for session in resumed(run)] == [(12, {"steps": [12, 24]})]
    assert [record["step"] for record in read_metrics(run) if record["event"] == "train"][-1] == 24
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == 24


def test_a_run_of_a_version_without_a_setting_had_its_default(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, steps=12).fit()
    config = json.loads((run / "config.json").read_text())
    for name in ("separator_id", "batch_ramp", "on_non_finite"):
        del config["train"][name]
    (run / "config.json").write_text(json.dumps(config))
    assert make_trainer(run, steps=24).fit().steps == 24
    assert [session["changed"] for session in resumed(run)] == [{"steps": [12, 24]}]


def test_a_run_of_version_0_1_is_refused_in_a_sentence(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, steps=12).fit()
    config = json.loads((run / "config.json").read_text())
    del config["version"]
    config["data"]["train"] = {"tokens": 3000, "sha256_of_ends": "ab"}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"run has version 1 of the format, expected 2: resume it with the version of"):
        make_trainer(run, steps=24).fit()


def test_an_interrupted_extension_is_not_finished(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, steps=12).fit()

    def fail(model, inputs, targets):
        if model.training:
            raise ZeroDivisionError
        return loss_fn(model, inputs, targets)

    with pytest.raises(ZeroDivisionError):
        make_trainer(run, steps=24, loss=fail).fit()
    assert not (run / "summary.json").exists()
    assert make_trainer(run, steps=24).fit().steps == 24


def test_an_average_begins_anew_when_the_run_goes_on(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, steps=20, average_from=0.5).fit()
    summary = make_trainer(run, steps=40, average_from=0.5).fit()
    assert summary.steps == 40
    averaged = [record["averaged_steps"] for record in read_metrics(run) if "averaged_steps" in record]
    assert averaged == [10, 20]


OTHERS = {
    "average_decay": 0.9,
    "average_from": 0.5,
    "batch_ramp": [[0.0, 2], [0.5, 4]],
    "batch_size": 2,
    "checkpoint_interval": 11,
    "checkpoint_seconds": 5.0,
    "compile": "auto",
    "device": "auto",
    "distributed_timeout_seconds": 60.0,
    "dtype": "bfloat16",
    "eval_batch_size": 3,
    "eval_interval": 9,
    "eval_seconds": 7.0,
    "eval_tokens": 50,
    "grad_accumulation_steps": 1,
    "halve_on_out_of_memory": False,
    "keep_checkpoint_every_seconds": 9.0,
    "keep_checkpoints": 5,
    "log_interval": 3,
    "max_grad_norm": None,
    "on_non_finite": "skip",
    "parallel": "ddp",
    "profile": 1,
    "save_in_background": False,
    "steps": 30,
    "time_limit_seconds": 60.0,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a run of 12 steps that lacks only its summary."""
    run = train_without_pictures(tmp_path_factory.mktemp("saved") / "run", steps=12)
    (run / "summary.json").unlink()
    return run


@pytest.mark.parametrize("name", sorted(CHANGEABLE_SETTINGS))
def test_each_of_these_settings_may_change(saved, tmp_path, name):
    run = shutil.copytree(saved, tmp_path / "run")
    needed = {"batch_ramp": {"grad_accumulation_steps": 1}, "average_decay": {"average_from": 0.5}}
    others = {name: OTHERS[name], **needed.get(name, {})}
    if name == "batch_ramp":
        others[name] = tuple(map(tuple, OTHERS[name]))
    assert make_trainer(run, **{"steps": 12, **others}).fit().status == "completed"
    (session,) = resumed(run)
    assert session["changed"][name][1] == OTHERS[name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"sampling": "shuffled"}, "sampling was 'random', now 'shuffled'"),
        ({"context_length": 9}, "context_length was 8, now 9"),
        ({"train": make_tokens(3000, seed=8)}, "data.train.sha256_of_samples was"),
        ({"recorded": {"tokenizer": "b", "name": "x"}}, "recorded.tokenizer was 'a', now 'b'"),
    ],
    ids=str,
)
def test_changes_of_the_meaning_are_refused(tmp_path, settings, message):
    run, recorded = tmp_path / "run", {"tokenizer": "a", "name": "x"}
    make_trainer(run, steps=6, recorded=recorded).fit()
    with pytest.raises(ValueError, match=rf"holds a run with another configuration: .*{message}"):
        make_trainer(run, **{"steps": 12, "recorded": recorded, **settings}).fit()


def test_data_that_differ_between_their_ends_are_other_data(tmp_path):
    """A14."""
    tokens = make_tokens(400_000)
    changed = tokens.copy()
    changed[200_000:204_000] = 1
    make_trainer(tmp_path / "run", steps=6, train=tokens).fit()
    with pytest.raises(ValueError, match=r"data.train.sha256_of_samples was"):
        make_trainer(tmp_path / "run", steps=12, train=changed).fit()


def test_a_caller_names_the_records_that_may_change(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, steps=6, recorded={"recipe": {"steps": 6, "name": "a"}}).fit()
    options = {"steps": 12, "changeable": ["recipe.steps"]}
    assert make_trainer(run, recorded={"recipe": {"steps": 12, "name": "a"}}, **options).fit().steps == 12
    assert resumed(run)[0]["changed"] == {"steps": [6, 12], "recorded.recipe.steps": [6, 12]}
    with pytest.raises(ValueError, match=r"recorded\.recipe\.name was 'a', now 'b'"):
        make_trainer(run, recorded={"recipe": {"steps": 12, "name": "b"}}, **options).fit()


def test_a_finished_run_says_that_it_is_only_read(tmp_path, capsys):
    """A4: it used to print nothing."""
    run = tmp_path / "run"
    make_trainer(run, steps=6).fit()
    capsys.readouterr()

    def other_loss(model, inputs, targets):
        return 2 * loss_fn(model, inputs, targets)

    make_trainer(run, steps=6, loggers=[ConsoleLogger()]).fit()
    assert capsys.readouterr().out == (
        f"the run in {run} was finished before (completed at step 6): it is read, and nothing is trained; for more "
        "training, give more steps or time, or choose another run directory\n"
    )
    make_trainer(run, steps=6, loss=other_loss, loggers=[ConsoleLogger()]).fit()
    assert "nothing is trained, also not with what has changed: loss_fn was edited;" in capsys.readouterr().out


def test_functions_that_were_edited_are_reported_and_recorded(tmp_path):
    run, notices = tmp_path / "run", Notices()
    make_trainer(run, steps=12).fit()
    make_trainer(run, steps=24, lr=lambda step: 1e-4, loggers=[notices]).fit()
    assert "changed from step 12 on: steps was 12, now 24; schedule was edited" in notices.messages
    assert set(resumed(run)[0]["changed"]) == {"steps", "schedule"}


def diverging(run, **settings):
    return make_trainer(run, **{"lr": lambda step: 1e-2 if step < 20 else 1e30, "steps": 40, **settings})


def test_a_diverged_run_says_from_where_it_can_go_on_and_does_with_a_change(tmp_path, capsys):
    """A5."""
    run = tmp_path / "run"
    first = diverging(run).fit()
    assert first.status == "diverged"
    capsys.readouterr()
    assert diverging(run, loggers=[ConsoleLogger()]).fit() == first
    out = capsys.readouterr().out
    assert (
        f"has diverged ({first.divergence}), and nothing has changed since; with a change, such as lower learning"
        in out
    )
    assert out.rstrip().endswith("it goes on from step 20")
    second = make_trainer(run, steps=40, lr=lambda step: 1e-3).fit()
    assert (second.status, second.steps) == ("completed", 40)
    assert resumed(run)[0]["step"] == 20


def test_a_diverged_run_may_skip_from_now_on(tmp_path):
    run, calls = tmp_path / "run", []

    def loss(model, inputs, targets):
        calls.append(model.training)
        value = loss_fn(model, inputs, targets)
        return value * float("nan") if model.training and inputs[0, 0] == 7 and len(calls) > 20 else value

    assert make_trainer(run, steps=40, loss=loss).fit().status == "diverged"
    assert make_trainer(run, steps=40, loss=loss, on_non_finite="skip").fit().status == "completed"


def records(folder):
    return [(record["event"], record["step"]) for record in read_metrics(folder)]


def crash_before_the_first_checkpoint(run, **settings):
    with pytest.raises(Crash):
        make_trainer(run, loss=failing_loss(25, crash), log_interval=5, checkpoint_interval=None, **settings).fit()


def test_records_without_a_checkpoint_survive_another_configuration(tmp_path):
    run, notices = tmp_path / "run", Notices()
    for seed in (3, 4):
        crash_before_the_first_checkpoint(run, seed=seed)
        assert records(run)[-1] == ("train", 10)
    make_trainer(run, seed=5, loggers=[notices]).fit()
    message = r"no checkpoint, so the run begins anew; its earlier records, up to step 10, are of another configuration"
    assert any(re.search(rf"{message} and now in .*earlier-2$", notice) for notice in notices.messages)
    for folder, seed in ((run / "earlier-1", 3), (run / "earlier-2", 4), (run, 5)):
        assert read_config(folder)["train"]["seed"] == seed
        assert json.loads((folder / "environment.json").read_text())["seed"] == seed
    assert records(run / "earlier-1") == records(run / "earlier-2") == [("eval", 0), ("train", 5), ("train", 10)]


def test_records_without_a_checkpoint_are_made_again_by_the_same_configuration(tmp_path):
    run, notices = tmp_path / "run", Notices()
    settings = {"loss": failing_loss(25, crash), "log_interval": 5, "checkpoint_interval": None, "steps": 15}
    with pytest.raises(Crash):
        make_trainer(run, **settings).fit()
    make_trainer(run, loggers=[notices], **settings).fit()
    assert "its earlier records, up to step 10, are made again" in notices.messages[1]
    assert not list(run.glob("earlier-*"))
    assert records(run)[:3] == [("eval", 0), ("train", 5), ("train", 10)]


def test_a_run_begins_with_other_weights(tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    make_trainer(source, steps=30).fit()
    first = next(record["loss"] for record in read_metrics(source) if record["event"] == "eval")
    make_trainer(run, model=make_model(5), steps=6, init_from=source).fit()
    begun = next(record["loss"] for record in read_metrics(run) if record["event"] == "eval")
    last = [record["loss"] for record in read_metrics(source) if record["event"] == "eval"][-1]
    assert begun == pytest.approx(last)
    assert begun < first
    (source / "checkpoints").rename(tmp_path / "gone")  # a run that goes on needs its source no more
    assert make_trainer(run, model=make_model(5), steps=12, init_from=source).fit().steps == 12


def test_a_run_begins_with_a_pretrained_directory(tmp_path):
    model = make_model(3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    run = tmp_path / "run"
    make_trainer(run, model=make_model(5), steps=1, lr=lambda step: 0.0, init_from=tmp_path).fit()
    found = make_model(6)
    load_weights(found, run)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters(), strict=True))
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        make_trainer(tmp_path / "other", init_from=tmp_path / "absent").fit()


def scaled(factor):
    return lambda step: factor * 1e-3


class Warmup:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate * min(1.0, step / 10)


RATE = 1e-3


def test_the_digest_of_a_function_shows_edits():
    same = [lambda step: 1e-3 * (1 - step / 10), lambda step: 1e-3 * (1 - step / 10)]
    others = [
        lambda step: 2e-3 * (1 - step / 10),
        lambda step: 1e-3 * (1 + step / 10),
        lambda step, rate=1e-3: rate,
        lambda step: RATE * (1 - step / 10),
        schedule,
        scaled(1),
        scaled(2),
        Warmup(1e-3),
        Warmup(2e-3),
        functools.partial(pow, 0.5),
        functools.partial(lambda rate, step: rate, 1e-3),
        functools.partial(lambda rate, step: rate, 2e-3),
        lambda step: next(value * 1 for value in range(step)),
        lambda step: next(value * 2 for value in range(step)),
    ]
    digests = [describe_function(function) for function in (*same, *others)]
    assert digests[0] == digests[1]
    known = [digest["sha256"] for digest in digests[1:] if digest]
    assert len(known) == len(set(known)) == len(digests) - 1 - digests.count(None)
    assert describe_function(len) is None
    assert describe_function(torch.nn.functional.cross_entropy) == describe_function(torch.nn.functional.cross_entropy)


EDITS = {
    "a function that it wraps": "@functools.wraps(len)\ndef wrapped(*a): return VALUE\n"
    "def around(f):\n return lambda *a: f(*a)\nloss = around(wrapped)",
    "a decorated function": "@torch.enable_grad()\ndef loss(*a): return VALUE",
    "a compiled function": "def plain(*a): return VALUE\nloss = torch.compile(plain, backend='eager')",
    "a cached function": "@functools.lru_cache\ndef loss(*a): return VALUE",
    "a function beside it": "def helper(x): return x * VALUE\ndef loss(*a): return helper(a)",
    "a method beside it": "class Loss:\n def helper(self): return VALUE\n"
    " def __call__(self, *a): return self.helper()\nloss = Loss()",
    "an attribute of its class": "class Loss:\n rate = VALUE\n def run(self, *a): return self.rate\nloss = Loss().run",
    "the forward pass of a module": "class Loss(torch.nn.Module):\n def forward(self, *a): return VALUE\nloss = Loss()",
    "a module in a module": "class Loss(torch.nn.Module):\n def __init__(self):\n  super().__init__()\n"
    "  self.mean = torch.nn.CrossEntropyLoss(label_smoothing=VALUE)\n"
    " def forward(self, *a): return self.mean(*a)\nloss = Loss()",
    "a number of a function in it": "rate = VALUE\ndef loss(*a):\n return (lambda x: x * rate)(a)",
    "weights of classes": "weights = torch.tensor([1.0, VALUE])\ndef loss(*a): return weights",
    "a number of numpy": "rate = np.float32(VALUE)\ndef loss(*a): return rate",
    "an argument of a partial": "loss = functools.partial(lambda *a, options: options, options={'rate': [VALUE]})",
}


def digest_of(source):
    names = {"functools": functools, "torch": torch, "np": np, "__name__": "notebook"}
    exec(source, names)
    return describe_function(names["loss"])


@pytest.mark.parametrize("edit", EDITS)
def test_the_digest_shows_edits_around_a_function(edit):
    """A4, R38: the parts of a loss function that are not in its own code."""
    first, again, edited = (digest_of(EDITS[edit].replace("VALUE", value)) for value in ("0.25", "0.25", "0.5"))
    assert first is not None
    assert first == again != edited


def test_the_digest_is_the_same_in_every_process_and_after_unrelated_changes():
    lines = "from trainer.records.functions import describe_function\nprint(describe_function(loss))\n"
    source = "def loss(x): return x in {'a', 'b', 'c', 'd', 'e'}\n"
    found = {
        subprocess.run(
            [sys.executable, "-c", source + lines],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert digest_of("mean = 1.0\ndef loss(x): return x.mean()") == digest_of(
        "mean = 2.0\ndef loss(x): return x.mean()"
    )
    collecting = "seen = VALUE\ndef loss(x): seen.append(x)"
    assert digest_of(collecting.replace("VALUE", "[]")) == digest_of(collecting.replace("VALUE", "[1.0]"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"batch_size": 4, "grad_accumulation_steps": 1}, {"batch_size": 8, "grad_accumulation_steps": 1}),
        ({"batch_size": 8, "grad_accumulation_steps": 1}, {"batch_size": 4, "grad_accumulation_steps": 1}),
        ({"batch_size": 4, "grad_accumulation_steps": 2}, {"batch_size": 4, "grad_accumulation_steps": 4}),
        ({"batch_size": 4, "grad_accumulation_steps": 3}, {"batch_size": 6, "grad_accumulation_steps": 2}),
    ],
)
def test_other_batches_repeat_no_windows(tmp_path, first, second):
    """R37: half of the random windows after a doubled batch were those of earlier steps."""
    seen = []

    def loss(model, inputs, targets):
        if model.training:
            seen.extend(map(tuple, inputs.tolist()))
        return loss_fn(model, inputs, targets)

    ids = np.random.default_rng(0).integers(0, 40, 300_000).astype(np.uint16)
    for steps, sizes in ((10, first), (15, second), (20, second), (25, first)):
        make_trainer(tmp_path / "run", train=ids, loss=loss, steps=steps, eval_interval=100, **sizes).fit()
    assert len(set(seen)) >= len(seen) - 1
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert records[-1]["tokens"] == 8 * len(seen)


def test_one_id_that_differs_is_noticed(tmp_path):
    """A14."""
    tokens = make_tokens(400_000)
    make_trainer(tmp_path / "run", train=tokens, steps=2).fit()
    tokens[170_001] = (tokens[170_001] + 1) % 40
    with pytest.raises(ValueError, match=r"data.train.sha256_of_samples was"):
        make_trainer(tmp_path / "run", train=tokens, steps=4).fit()
