"""Runs that go on with another time limit, on a simulated machine."""

import json
import shutil
from pathlib import Path

import pytest
from simulated_clock import simulated_clock
from small_runs import TINY

from nnscratch.speedrun import RECIPES, SCHEDULE_STEPS, learning_rate_schedule
from owt_leaderboard.budget import EXIT_SECONDS, read_sessions
from owt_leaderboard.commands.train import main
from trainer import read_config, read_metrics


@pytest.fixture
def again(finished, tmp_path):
    """Runs the command of a copy of the finished run, `again.run`, with another time limit; returns its exit code."""

    def run_with(limit):
        other = {"40s": f"{limit:g}s", str(finished.directory): str(run_with.run)}
        with simulated_clock(draws=False):
            return main([other.get(word, word) for word in finished.arguments])

    run_with.run = Path(shutil.copytree(finished.directory, tmp_path / "run"))
    return run_with


def files_of(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.suffix != ".lock"}


def spent(run):
    return sum(session["seconds"] for session in read_sessions(run))


def test_a_run_of_a_version_that_kept_the_setting_of_the_compiler_is_read(again, capsys):
    file = again.run / "beginning.json"
    beginning = json.loads(file.read_text("utf-8"))
    beginning["asked"]["recipe"]["compile"] = "off"
    file.write_text(json.dumps(beginning), encoding="utf-8")
    assert again(40) == 0
    assert "Validation loss" in capsys.readouterr().out


def test_a_finished_run_goes_on_with_a_longer_limit(again, capsys):
    before = json.loads((again.run / "summary.json").read_text("utf-8"))
    beginning, first_seconds = (again.run / "beginning.json").read_bytes(), spent(again.run)
    capsys.readouterr()
    assert again(80) == 0
    printed = capsys.readouterr().out
    assert "going on: the time limit was 40 s and is now 80 s; the sizes stay as they were chosen for 40 s" in printed
    summary = json.loads((again.run / "summary.json").read_text("utf-8"))
    assert summary["steps"] > before["steps"]
    assert 60 < spent(again.run) <= 80 - EXIT_SECONDS
    assert read_sessions(again.run)[0]["seconds"] == pytest.approx(first_seconds)
    assert (again.run / "beginning.json").read_bytes() == beginning
    # The records and the entry name both limits.
    (session,) = json.loads((again.run / "environment.json").read_text("utf-8"))["resumed"]
    assert session["step"] == before["steps"]
    assert session["changed"]["recorded.time_limit_seconds"] == [40, 80]
    assert read_config(again.run)["recorded"]["time_limit_seconds"] == 80
    entry = (again.run / "entry.md").read_text("utf-8")
    assert f"validation loss {summary['final_valid_loss']:.4f} after 80 s" in entry
    assert "| limits before | 40.0 s; the sizes were chosen for the first |" in entry
    assert "OVER THE LIMIT" not in entry
    # The schedule goes back to where the new limit has it, and ends at its end.
    records = [record for record in read_metrics(again.run) if record["step"] > before["steps"]]
    rates = [record["lr"] for record in records if record["event"] == "train"]
    schedule = learning_rate_schedule(RECIPES["baseline"]("cpu"))
    assert schedule(round(0.6 * SCHEDULE_STEPS)) < rates[0] < schedule(round(0.35 * SCHEDULE_STEPS))
    assert rates[-1] < 1.3 * schedule(SCHEDULE_STEPS)
    assert again(80) == 0  # now there is nothing left to do
    assert len(read_sessions(again.run)) == 2


def test_a_run_that_goes_on_keeps_the_validation_text_of_its_first_limit(text, tmp_path, monkeypatch):
    monkeypatch.setattr("owt_leaderboard.commands.shared.VALID_BYTES_PER_SECOND", 10)
    words = ["--recipe", "baseline", "--dataset", text, "--out", tmp_path / "run", "--data-dir", tmp_path / "data"]
    bytes_read = []
    for limit in (30, 60):
        with simulated_clock(draws=False):
            assert main([*map(str, words), "--time-limit", f"{limit}s", "--device", "cpu", "--set", *TINY]) == 0
        valid = tmp_path / "run" / read_config(tmp_path / "run")["recorded"]["valid_tokens"]
        bytes_read.append(json.loads(valid.with_suffix(".json").read_text("utf-8"))["bytes"])
    assert 0 < bytes_read[0] <= 300
    assert bytes_read[1] == bytes_read[0]


def test_an_interrupted_run_goes_on_with_another_limit(again, capsys):
    """As if it had been killed at its last checkpoint but one, after 20 s."""
    (again.run / "summary.json").unlink()
    for name in ("entry.md", "entry.png"):
        (again.run / name).unlink()
    *_, last = sorted((again.run / "checkpoints").glob("step_*"))
    shutil.rmtree(last)
    (session,) = read_sessions(again.run)
    (again.run / "sessions.json").write_text(json.dumps({"sessions": [{**session, "seconds": 20.0}]}))
    assert again(22) == 2
    error = capsys.readouterr().err
    assert f"the time limit is 22 s, but the run in {again.run} has spent 20.0 s already: expected more than 2" in error
    assert again(60) == 0
    assert "is now 60 s" in capsys.readouterr().out
    assert 40 < spent(again.run) <= 60 - EXIT_SECONDS


def test_a_shorter_limit_than_what_was_spent_is_refused(again, capsys):
    before = files_of(again.run)
    assert again(39) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: the time limit is 39 s, but {again.run} is finished and has spent ")
    assert "expected more than 40 s to go on, the same to read it" in error
    assert error.count("\n") == 1
    assert files_of(again.run) == before


def test_a_run_without_its_beginning_is_refused(again, capsys):
    """A24: the limit differed by milliseconds, and a finished run could train again."""
    (again.run / "beginning.json").unlink()
    before = files_of(again.run)
    for limit in (40, 80):
        assert again(limit) == 2
        assert f"error: {again.run} lacks beginning.json" in capsys.readouterr().err
    assert files_of(again.run) == before
