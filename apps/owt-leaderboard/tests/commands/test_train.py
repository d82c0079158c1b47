"""The command from end to end: all records left, and clear refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_clock import simulated_clock
from small_runs import TINY

from owt_leaderboard.budget import read_sessions
from owt_leaderboard.commands import train
from owt_leaderboard.commands.shared import DataFlags
from owt_leaderboard.run.decisions import Decisions, asked_of
from trainer import ConsoleLogger, read_config

DOORS = ["ablate", "evaluate", "export", "fixed_steps", "generate", "measure", "plan", "play", "tune"]


@pytest.fixture
def arguments(text, tmp_path):
    words = ["--recipe", "baseline", "--dataset", text, "--out", tmp_path / "run", "--data-dir", tmp_path / "data"]
    return [*map(str, words), "--device", "cpu", "--set", *TINY]


def test_help_is_light():
    """Nothing heavy is imported for it."""
    code = (
        f"import sys; from owt_leaderboard.commands import train, {', '.join(DOORS)};"
        "sys.exit(bool({'torch', 'numpy', 'matplotlib', 'wandb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("door", ["__main__", *DOORS])
def test_every_door_opens(door):
    module = "owt_leaderboard" if door == "__main__" else f"owt_leaderboard.{door}"
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m {module} ")


@pytest.mark.parametrize(
    ("given", "seconds", "expected"),
    [(None, 120.0, 1_200_000), (None, 600.0, None), (0, 120.0, 0), (50_000, 120.0, 50_000), (50_000, 600.0, 50_000)],
)
def test_short_runs_read_less_of_the_validation_text(given, seconds, expected):
    assert DataFlags(valid_bytes=given).for_limit(seconds).valid_bytes == expected


def test_a_short_run_saves_after_every_quarter_of_its_limit(finished):
    config = read_config(finished.directory)["train"]
    assert config["checkpoint_seconds"] == pytest.approx(config["time_limit_seconds"] / 4)


def test_a_finished_run_is_read_and_not_trained_again(finished, capsys):
    loss = [line for line in finished.printed.splitlines() if line.startswith("Validation loss")]
    before = read_sessions(finished.directory)
    with simulated_clock():
        assert train.main(finished.arguments) == 0
    assert loss[0] in capsys.readouterr().out
    assert read_sessions(finished.directory) == before


def test_a_run_that_was_killed_before_its_entry_gets_one(finished, tmp_path):
    copied = Path(shutil.copytree(finished.directory, tmp_path / "run"))
    entry, before = (copied / "entry.md").read_text("utf-8"), read_sessions(copied)
    (copied / "entry.md").unlink()
    arguments = [str(copied) if word == str(finished.directory) else word for word in finished.arguments]
    with simulated_clock():
        assert train.main(arguments) == 0
        assert (copied / "entry.md").read_text("utf-8").partition("## Samples")[2] == entry.partition("## Samples")[2]
        assert read_sessions(copied)[:1] == before
        assert len(read_sessions(copied)) == 2
        assert train.main(arguments) == 0  # now there is nothing left to do
    assert len(read_sessions(copied)) == 2


class SlowLogger:
    """Keeps what it is told, and what of the run is there when it is closed."""

    def __init__(self, mode, *, project):
        self.mode, self.project, self.events = mode, project, []
        MADE.append(self)

    def on_start(self, run):
        self.out = run.run_dir

    def log(self, record):
        self.events.append(record["event"])

    def on_finish(self, summary):
        self.events.append("finish")

    def close(self):
        self.events.append("entry" if (self.out / "entry.md").exists() else "no entry")
        self.events.append(read_sessions(self.out)[-1]["seconds"])


MADE = []


@pytest.fixture
def wandb(monkeypatch):
    """The loggers that would send records to Weights & Biases."""
    monkeypatch.setattr("trainer.WandbLogger", SlowLogger)
    monkeypatch.setattr("trainer.loggers.check_wandb", lambda mode: None)  # the tests do without wandb
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delitem(sys.modules, "owt_leaderboard.run.uploads", raising=False)
    MADE.clear()
    yield MADE
    sys.modules.pop("owt_leaderboard.run.uploads", None)


def test_wandb_gets_every_record_and_uploads_what_is_left_after_the_limit(wandb, arguments, tmp_path):
    with simulated_clock(draws=False):
        assert train.main(["--time-limit", "25s", "--wandb", "offline", *arguments]) == 0
    (logger,) = wandb
    assert (logger.mode, logger.project) == ("offline", "owt-leaderboard")
    assert {"train", "eval"} < set(logger.events[:-3])
    # closed once, and after everything that counts
    assert logger.events[-3:] == ["finish", "entry", read_sessions(tmp_path / "run")[0]["seconds"]]


def test_without_the_flag_only_the_console_is_told(wandb, arguments, monkeypatch, capsys):
    def trainer(model, optimizer, loss, train, valid, config, schedule, run_dir, loggers, **_):
        assert type(loggers[0]) is ConsoleLogger
        raise ValueError("as expected")

    monkeypatch.setattr("trainer.Trainer", trainer)
    with simulated_clock(draws=False):
        assert train.main(arguments) == 2
    assert capsys.readouterr().err == "error: as expected\n"
    assert wandb == []


def test_wandb_that_is_not_installed(arguments, tmp_path, monkeypatch, capsys):
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else find_spec(name))
    assert train.main(["--wandb", "online", *arguments]) == 2
    printed = capsys.readouterr()
    assert "packages/trainer[wandb]" in printed.err
    assert printed.out == "", "no text was prepared"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-limit", "soon"], "soon"),
        (["--dataset", "absent.txt"], "absent.txt: there is no such file"),
        (["--valid-dataset", "some.txt"], "sample has its own"),
        (["--set", "color=3"], "'color' is not a setting: expected one of model.vocab_size, "),
        (["--set", "optimizer=sgd"], "'sgd' is a str, expected"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    assert train.main(["--time-limit", "2m", "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_limit_too_short_for_anything(arguments, tmp_path, capsys):
    for limit in ("0.01s", "5s"):  # before anything, and after the entry was rehearsed
        with simulated_clock(draws=False):
            assert train.main(["--time-limit", limit, *arguments]) == 2
        error = capsys.readouterr().err
        assert "time" in error
        assert "expected more" in error
    assert not (tmp_path / "run" / "sessions.json").exists()


def test_sizes_by_the_budget_are_decided_once(text, tmp_path, capsys):
    """The speedrun, on a machine that makes a pass of any size in the same time."""
    arguments = ["--dataset", str(text), "--out", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    arguments += ["--time-limit", "30s", "--device", "cpu", "--set", "vocab_size=300", "context_length=16"]
    with simulated_clock(draws=False):
        assert train.main([*arguments, "evaluations=2", "num_layers=2", "d_model=16"]) == 0
    decisions = json.loads((tmp_path / "run" / "beginning.json").read_text("utf-8"))
    assert decisions["asked"]["fixed"] == ["model.d_model", "model.num_layers"]
    assert decisions["recipe"]["model"]["d_ff"] == 4 * 16
    assert decisions["asked"]["recipe"]["batches"]["masked_inputs"] is None
    assert decisions["recipe"]["batches"]["masked_inputs"] in (0.0, 0.1)
    assert len(decisions["reasons"]) == 3
    printed = capsys.readouterr().out
    assert all(reason in printed for reason in decisions["reasons"])
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert config["recorded"]["recipe"] == decisions["recipe"]


def test_a_gpu_trains_the_recipe_of_its_budget_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(train.DataFlags, "device_type", "mps")
    flops = []
    monkeypatch.setattr(train, "budget_flops", lambda data, seconds: flops[-1])
    flags = train.Flags(set=("num_layers=5",))
    recipes = []
    for budget in (1e15, 1e16):
        flops.append(budget)
        recipes.append(train._recipe(flags, 60.0, tmp_path))
    assert [recipe.model.vocab_size for recipe in recipes] == [4096, 32_000]
    assert all(recipe.model.num_layers == 5 for recipe in recipes)
    # A run that began with a small budget, and goes on with a longer limit.
    asked = asked_of(recipes[0], frozenset({"model.num_layers"}), 60.0)
    Decisions(asked, recipes[0], (), None, 1.0).write(tmp_path)
    assert train._recipe(flags, 600.0, tmp_path) == recipes[0]
    assert train._recipe(train.Flags(set=("num_layers=6",)), 600.0, tmp_path).model.vocab_size == 32_000


def test_a_long_limit_on_a_cpu_has_to_be_asked_for(tmp_path, monkeypatch, capsys):
    """Before anything is prepared: with a torch that has no CUDA, the recipe for CPUs would train for hours."""
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert train.main(["--dataset", "owt"]) == 2
    error = capsys.readouterr().err
    assert "the time limit is 5,400 s and this machine has no GPU that torch" in error
    assert "give --device cpu to train on the CPU on purpose" in error
    assert not list(tmp_path.iterdir())


def test_a_run_that_compiles_needs_a_compiler_before_its_data(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    assert train.main(["--time-limit", "30m", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: torch.compile needs a C++ compiler, but there is no ")
    assert "(--set compile=off)" in error
    assert not (tmp_path / "data").exists()
    with simulated_clock(draws=False):  # 30 minutes in steps of half a second would take too long
        assert train.main(["--time-limit", "30s", *arguments]) == 0


@pytest.mark.parametrize(
    ("words", "is_given"), [([], False), (["--dataset", "sample"], True), (["--dataset", "x"], True)]
)
def test_a_run_knows_whether_its_text_was_named(words, is_given, monkeypatch, capsys):
    told = {}

    def timed_run(**settings):
        told.update(settings)
        raise ValueError("as expected")

    monkeypatch.setattr(train, "prepared_by_one", lambda device, prepare: None)
    monkeypatch.setattr(train, "stored_rates", lambda *_: None)
    monkeypatch.setattr(train, "TimedRun", timed_run)
    assert train.main(["--time-limit", "2m", "--device", "cpu", *words]) == 2
    assert told["is_text_given"] is is_given
    assert f"owt-speedrun-{'x' if words[1:] == ['x'] else 'sample'}-2m" in capsys.readouterr().out


def test_an_age_that_is_not_believed_is_told(arguments, monkeypatch, capsys):
    monkeypatch.setattr(train, "doubted_age", lambda: "the age is absurd")
    monkeypatch.setattr(train, "prepared_by_one", lambda device, prepare: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.main(arguments)
    assert "the age is absurd\n" in capsys.readouterr().out
