"""The time limit, on a simulated machine: left alone, stopped for a while, slower in the end, killed and resumed.

`checks/clock.py` holds real processes to real limits.
"""

import itertools
import json
import os
import signal

import pytest
from simulated_clock import simulated_clock
from small_runs import TINY, write_articles

from nnscratch.speedrun import RECIPES, SCHEDULE_STEPS, learning_rate_schedule
from owt_leaderboard.budget import EXIT_SECONDS, read_sessions
from owt_leaderboard.commands.fixed_steps import main as fixed_steps
from owt_leaderboard.commands.train import main
from owt_leaderboard.run.decisions import read_decisions
from trainer import read_config, read_metrics

LIMIT, STOPPED = 180.0, 20.0
MOST_UNUSED = 0.05
HISTORIES = ["plain", "stopped", "slower", "killed"]


class Killed(BaseException):
    """End of the process in the middle of a pass."""


def command_of(directory, name, limit=LIMIT):
    arguments = ["--time-limit", f"{limit:g}s", "--recipe", "baseline", "--device", "cpu", "--out", directory / name]
    arguments += ["--dataset", directory / "articles.txt", "--data-dir", directory / "data", "--set", *TINY]
    return [str(argument) for argument in arguments]


def happen(clock, name):
    """Schedule the event that gives a run its name."""

    def stop():
        clock.seconds += STOPPED
        if hasattr(signal, "SIGCONT"):
            os.kill(os.getpid(), signal.SIGCONT)

    def slow_down():
        clock.training *= 1.4
        clock.evaluating *= 1.4
        clock.drawing *= 1.4

    def kill():
        raise Killed

    actions = {"stopped": stop, "slower": slow_down, "killed": kill}
    if name in actions:
        clock.events.append(((0.8 if name == "slower" else 0.5) * LIMIT, actions[name]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_articles(directory / "articles.txt")
    for name in HISTORIES:
        with simulated_clock(draws=False) as clock:
            clock.training = 1.0
            happen(clock, name)
            try:
                code = main(command_of(directory, name))
            except Killed:
                clock.seconds += 1000  # down
                clock.start_process()
                code = main(command_of(directory, name))
            assert code == 0
    return directory


@pytest.mark.parametrize("name", HISTORIES)
def test_it_ends_within_the_limit_and_uses_it(runs, name):
    spent = sum(session["seconds"] for session in read_sessions(runs / name))
    assert spent + EXIT_SECONDS <= LIMIT
    if name != "slower":  # whose end is reserved at the slower speed
        assert spent + EXIT_SECONDS >= (1 - MOST_UNUSED) * LIMIT
    summary = json.loads((runs / name / "summary.json").read_text("utf-8"))
    assert summary["status"] == "completed"
    assert summary["final_valid_loss"] < 6 > summary["bits_per_byte"]
    assert "OVER THE LIMIT" not in (runs / name / "entry.md").read_text("utf-8")


@pytest.mark.parametrize("name", HISTORIES)
def test_the_rate_is_that_of_the_time(runs, name):
    """A record has the rate of its last step, which began between the previous record and this one."""
    schedule = learning_rate_schedule(RECIPES["baseline"]("cpu"))
    records = [record for record in read_metrics(runs / name) if record["event"] == "train"]
    assert records[-1]["progress"] == 1.0
    assert max(record["lr"] for record in records) > 0.95 * 3e-3
    assert records[-1]["lr"] < 0.12 * 3e-3
    for before, record in itertools.pairwise(records):
        if before["progress"] > 0.1:  # the rate falls from there on
            highest, lowest = (schedule(round(SCHEDULE_STEPS * one["progress"])) for one in (before, record))
            assert lowest <= record["lr"] * 1.001
            assert record["lr"] <= highest * 1.001


def test_a_stop_moves_the_schedule_by_what_it_took_and_no_further(runs):
    """The stop must not be reserved for the end as if it were slowness: progress stays linear in time."""
    records = [record for record in read_metrics(runs / "stopped") if record["event"] == "train"]
    first, last = records[0], records[-1]
    for record in records:
        share = (record["seconds_total"] - first["seconds_total"]) / (last["seconds_total"] - first["seconds_total"])
        expected = first["progress"] + share * (last["progress"] - first["progress"])
        assert record["progress"] == pytest.approx(expected, abs=0.12)


def test_time_before_the_kill_counts(runs):
    first, second = read_sessions(runs / "killed")
    assert first["seconds"] == pytest.approx(LIMIT / 2, abs=1)
    assert second["seconds"] < LIMIT / 2
    assert "down between sessions" in (runs / "killed" / "entry.md").read_text("utf-8")
    # The clock of the records continues where the killed process was, not at its last checkpoint.
    resumed = json.loads((runs / "killed" / "environment.json").read_text("utf-8"))["resumed"][0]["step"]
    after = [record for record in read_metrics(runs / "killed") if record["step"] > resumed]
    assert all(record["seconds_total"] > first["seconds"] for record in after)


def test_other_settings_do_not_resume_it(runs, capsys):
    with simulated_clock():
        assert main(command_of(runs, "plain", limit=9.0)) == 2
    assert "the time limit is 9 s, but" in capsys.readouterr().err
    with simulated_clock():
        assert main([*command_of(runs, "plain", limit=200.0), "d_model=32"]) == 2
    assert "model.d_model was 16, now 32; run the same command to resume it" in capsys.readouterr().err


def test_a_run_of_another_version_is_refused(runs, tmp_path, capsys):
    """Version 0.1 recorded recipes without groups and without a version."""
    (tmp_path / "articles.txt").write_bytes((runs / "articles.txt").read_bytes())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "beginning.json").write_text(json.dumps({"recipe": {"d_model": 16}, "reasons": []}))
    with simulated_clock():
        assert main(command_of(tmp_path, "old")) == 2
    error = capsys.readouterr().err
    assert "another version recorded this recipe (its form has version 1, this one writes 2)" in error
    assert error.count("\n") == 1


def test_a_run_of_another_program_is_refused_before_anything_is_written(runs, tmp_path, capsys):
    """A10."""
    (tmp_path / "articles.txt").write_bytes((runs / "articles.txt").read_bytes())
    (tmp_path / "story").mkdir()
    (tmp_path / "story" / "config.json").write_text(json.dumps({"recorded": {"name": "a run of something else"}}))
    (tmp_path / "story" / "summary.json").write_text("{}")
    with simulated_clock():
        assert main(command_of(tmp_path, "story")) == 2
    assert "story holds a run of another program: choose another directory" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "story").iterdir()) == ["config.json", "summary.json"]


@pytest.mark.parametrize(
    "content",
    ['{"a"', "{}", '{"recipe": 3}', '{"recipe": {}, "reasons": null}'],
    ids=["cut", "empty", "number", "null"],
)
def test_a_damaged_beginning_is_named(tmp_path, content):
    """A8: also where it is JSON, but not what was written."""
    (tmp_path / "beginning.json").write_text(content)
    with pytest.raises(ValueError, match=r"beginning.json is damaged: .*; restore it, or choose another directory"):
        read_decisions(tmp_path)


def test_muon_multiplies_as_the_device_trains(tmp_path, monkeypatch):
    class AskedError(Exception):
        pass

    def make_optimizer(model, recipe, dtype):
        raise AskedError(dtype)

    monkeypatch.setattr("nnscratch.speedrun.make_optimizer", make_optimizer)
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: f"{name} on {device.type}")
    arguments = ["--device", "cpu", "--dataset", str(write_articles(tmp_path / "articles.txt")), "--steps", "1"]
    arguments += ["--out", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data"), "--set", *TINY]
    with pytest.raises(AskedError, match="auto on cpu"):
        fixed_steps(arguments)


def test_compiled_programs_are_kept_beside_the_token_files(tmp_path, monkeypatch):
    """Runs that must not find each other's programs have folders of their own (`test_ablate`)."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    for name in names:
        monkeypatch.setenv(name, "restored afterwards")
        monkeypatch.delenv(name)
    monkeypatch.setattr("torch.compile", lambda function, **options: function)
    write_articles(tmp_path / "articles.txt")
    with simulated_clock():
        assert main(command_of(tmp_path, "off", 40.0)) == 0
    assert "TRITON_CACHE_DIR" not in os.environ
    with simulated_clock():
        assert main([*command_of(tmp_path, "on", 40.0), "compile=on"]) == 0
    (folder,) = (path.parent / "compiled" for path in (tmp_path / "data").glob("*/train.npy"))
    assert [os.environ[name] for name in names] == [str(folder), str(folder / "triton")]


@pytest.mark.parametrize("compiling", ["on", "auto"])
def test_a_long_run_ends_if_the_compiler_fails_and_another_setting_can_be_tried(
    tmp_path, monkeypatch, capsys, compiling
):
    def fail(*arguments):
        raise RuntimeError("no compiler")

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr("torch.compile", lambda function, **options: fail)
    monkeypatch.setattr("nnscratch.speedrun.sizing.COMPILING_PAYS_FROM", {"cpu": 30.0})
    write_articles(tmp_path / "articles.txt")
    with simulated_clock():
        assert main([*command_of(tmp_path, "run", 40.0), f"compile={compiling}"]) == 2
        error = capsys.readouterr().err
        assert (
            "torch.compile failed for the training loss (RuntimeError: no compiler). The whole message is in" in error
        )
        assert main([*command_of(tmp_path, "run", 40.0), "compile=off"]) == 0


def test_a_run_whose_compiled_update_fails_goes_on_without_the_compiler(tmp_path, monkeypatch, capsys):
    """The second update is the first one that is compiled, and there is a checkpoint before it."""

    def fail():
        raise RuntimeError("no compiler")

    def compile_(function, **options):
        return fail if function.__name__ == "step" else function

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr("torch.compile", compile_)
    write_articles(tmp_path / "articles.txt")
    command = [*command_of(tmp_path, "run", 40.0), "optimizer=muon", "muon_learning_rate=0.02"]
    with simulated_clock():
        assert main([*command, "compile=on"]) == 2
        assert 'without the compiler: compile="off"' in capsys.readouterr().err
        assert any((tmp_path / "run" / "checkpoints").glob("step_*"))
        assert main([*command, "compile=off"]) == 0
    assert read_config(tmp_path / "run")["recorded"]["recipe"]["compile"] == "off"
