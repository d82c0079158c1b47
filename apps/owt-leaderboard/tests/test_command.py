"""The command from end to end: within its time, all records left, and clear refusals."""

import json

import pytest
from conftest import preload

from owt_leaderboard import __main__ as command
from owt_leaderboard.budget.clock import process_age
from owt_leaderboard.recipe.recipes import RECIPES, RecipeName


@pytest.fixture
def small(monkeypatch):
    """The baseline, small enough for a vocabulary of a small text."""
    from dataclasses import replace

    recipe = replace(
        RECIPES["baseline"]("cpu"),
        vocab_size=300,
        context_length=16,
        d_model=16,
        num_layers=1,
        num_heads=2,
        d_ff=40,
        batch_size=2,
        evaluations=2,
    )
    monkeypatch.setitem(command.RECIPES, "baseline", lambda device_type: recipe)
    preload()
    monkeypatch.setattr("owt_leaderboard.report.entry.ENTRY_SAMPLE_TOKENS", 4)
    # The limit counts from the start of the process, and here that is the test suite's.
    start = process_age()
    monkeypatch.setattr(command, "process_age", lambda: process_age() - start)


class SlowLogger:
    """Keeps what it is told, and what of the run is there when it is closed."""

    def __init__(self, mode, *, project):
        self.events = []

    def on_start(self, run):
        self.out = run.run_dir

    def log(self, record):
        self.events.append(record["event"])

    def on_finish(self, summary):
        self.events.append("finish")

    def close(self):
        self.events.append("entry" if (self.out / "entry.md").exists() else "no entry")
        self.events.append(json.loads((self.out / "sessions.json").read_text("utf-8"))["sessions"][-1]["seconds"])
        CLOSED.append(self.events)


CLOSED = []


def test_schedule_follows_the_clock_to_its_end(text, tmp_path, small, monkeypatch, capsys):
    out = tmp_path / "run"
    monkeypatch.setattr("trainer.WandbLogger", SlowLogger)
    CLOSED.clear()
    arguments = ["--time-limit", "9s", "--dataset", str(text), "--out", str(out), "--data-dir", str(tmp_path / "data")]
    arguments += ["--recipe", "baseline"]
    assert command.main([*arguments, "--device", "cpu", "--wandb", "offline"]) == 0
    (events,) = CLOSED  # once, and after everything that counts
    assert {"train", "eval"} < set(events[:-3])
    assert events[-3:-1] == ["finish", "entry"]
    assert events[-1] == json.loads((out / "sessions.json").read_text("utf-8"))["sessions"][0]["seconds"]
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    rates = [record["lr"] for record in records if record["event"] == "train"]
    peak = RECIPES["baseline"]("cpu").learning_rate
    assert rates[-1] < 0.2 * peak
    assert max(rates) > 0.5 * peak
    printed = capsys.readouterr().out
    assert command.main([*arguments, "--device", "cpu"]) == 0  # finished: read, not trained again
    loss = [line for line in printed.splitlines() if line.startswith("Validation loss")]
    assert loss[0] in capsys.readouterr().out


@pytest.fixture
def no_wandb(monkeypatch):
    """As if wandb were not installed."""
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else find_spec(name))


@pytest.mark.parametrize(("flags", "made"), [([], []), (["--wandb", "offline"], ["offline"])])
def test_records_go_to_wandb_only_if_asked(flags, made, text, tmp_path, small, monkeypatch, capsys):
    class Wandb:
        def __init__(self, mode, *, project):
            self.mode, self.project = mode, project

        def log(self, record): ...

        def close(self): ...

    def trainer(model, optimizer, loss, train, valid, config, schedule, run_dir, loggers, **_):
        assert type(loggers[0]) is ConsoleLogger
        assert [(logger.mode, logger.project) for logger in loggers[1:]] == [(mode, "owt-leaderboard") for mode in made]
        raise ValueError("as expected")

    from trainer import ConsoleLogger

    monkeypatch.setattr("trainer.WandbLogger", Wandb)
    monkeypatch.setattr("trainer.Trainer", trainer)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    arguments = ["--dataset", str(text), "--out", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    arguments += ["--recipe", "baseline"]
    assert command.main([*arguments, *flags]) == 2
    assert capsys.readouterr().err == "error: as expected\n"


def test_wandb_that_is_not_installed(text, tmp_path, small, no_wandb, capsys):
    arguments = ["--dataset", str(text), "--out", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    arguments += ["--recipe", "baseline"]
    assert command.main([*arguments, "--wandb", "online"]) == 2
    assert "packages/trainer[wandb]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-limit", "soon"], "soon"),
        (["--dataset", "absent.txt"], "absent.txt: there is no such file"),
        (["--valid-dataset", "some.txt"], "the sample has its own"),
        (["--set", "color=3"], "expected NAME=VALUE with one of the names vocab_size, "),
        (["--set", "optimizer=sgd"], "'sgd' is a str, expected"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_limit_too_short_for_anything(text, tmp_path, small, capsys):
    out = tmp_path / "run"
    arguments = ["--recipe", "baseline", "--dataset", str(text), "--out", str(out), "--data-dir", str(tmp_path)]
    for limit in ("0.01s", "1.05s"):  # before anything, and after the entry was rehearsed
        assert command.main([*arguments, "--time-limit", limit, "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert "time" in error
        assert "expected more" in error
    assert not (out / "sessions.json").exists()


def test_recipe_names_of_the_command_line_are_those_of_the_table():
    assert list(RecipeName.__args__) == list(RECIPES)
