"""The time limit of whole processes: left alone, stopped for a while, and killed and gone on with.

They are forked from one that has imported everything, and share the machine, so that only "never over" is exact here;
`checks/clock.py` measures how far runs of minutes stay under.
"""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ENVIRONMENT, PATIENCE, TINY, stolen_seconds, was_disturbed, write_articles
from forked_run import ForkedRun

from owt_leaderboard.recipe.assembly import SCHEDULE_STEPS, learning_rate_schedule
from owt_leaderboard.recipe.recipes import RECIPES
from trainer import read_metrics

pytestmark = [pytest.mark.limits, pytest.mark.skipif(sys.platform != "linux", reason="needs SIGSTOP and /proc")]
LIMIT = 22.0
STOPPED = 4.0


def start(directory, name, limit):
    arguments = ["--time-limit", f"{limit:g}s", "--recipe", "baseline", "--device", "cpu"]
    arguments += ["--dataset", directory / "articles.txt", "--data-dir", directory / "data"]
    return ForkedRun([*arguments, "--out", directory / name, "--set", *TINY], directory / f"{name}.txt")


def end(run, code=0):
    """Wait; return what was printed, the seconds without the preparation of the data, and those that were stolen."""
    exit_code, printed, seconds, stolen = run.end()
    assert exit_code == code, printed
    return printed, seconds - float(re.search(r"data prepared in ([\d.]+) s", printed)[1]), stolen


def wait_for_progress(run_dir, least, limit):
    """Wait until so much of a run's time for training is over."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if (run_dir / "metrics.jsonl").exists() and any(
            record["progress"] >= least for record in read_metrics(run_dir)
        ):
            return
        time.sleep(0.05)


class Runs(NamedTuple):
    directory: Path
    ends: dict[str, tuple[str, float, float]]
    """Of each run by its name: what was printed, its seconds, and those that were stolen meanwhile."""
    limit: float


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs that were made at the same time; with a longer limit where the machine is too busy for this one."""
    for patience in PATIENCE:
        directory, started, stolen = tmp_path_factory.mktemp("runs"), [], stolen_seconds()
        try:
            return make_runs(directory, patience * LIMIT, started)
        except (AssertionError, ProcessLookupError):
            if patience == PATIENCE[-1] or not was_disturbed(stolen):
                raise
        finally:
            for run in started:
                run.kill()
    raise AssertionError("unreachable")


def make_runs(directory, limit, started):
    def begin(name):
        started.append(start(directory, name, limit))
        return started[-1]

    write_articles(directory / "articles.txt")
    first = begin("first")  # the data, and the process that all are forked from
    while "data prepared" not in first.printed():
        assert first.process.is_alive(), first.printed()
        time.sleep(0.05)
    first.send(signal.SIGKILL)
    end(first, -signal.SIGKILL)
    processes = {name: begin(name) for name in ("plain", "stopped", "killed")}
    wait_for_progress(directory / "stopped", 0.3, limit)
    processes["stopped"].send(signal.SIGSTOP)
    time.sleep(STOPPED)
    processes["stopped"].send(signal.SIGCONT)
    wait_for_progress(directory / "killed", 0.3, limit)
    processes["killed"].send(signal.SIGKILL)
    _, spent, stolen = end(processes["killed"], -signal.SIGKILL)
    time.sleep(STOPPED)
    again = begin("killed")
    ends = {name: end(processes[name]) for name in ("plain", "stopped")}
    output, seconds, more = end(again)
    return Runs(directory, {**ends, "killed": (output, spent + seconds, stolen + more)}, limit)


@pytest.mark.parametrize("name", ["plain", "stopped", "killed"])
def test_it_ends_by_itself_within_the_limit(runs, name):
    directory, ends, limit = runs
    output, seconds, stolen = ends[name]
    assert seconds - stolen <= limit
    assert seconds > 0.7 * limit
    summary = json.loads((directory / name / "summary.json").read_text("utf-8"))
    assert summary["status"] == "completed"
    assert f"Validation loss {summary['final_valid_loss']:.4f}" in output
    assert summary["final_valid_loss"] < 6 > summary["bits_per_byte"]
    assert (directory / name / "entry.md").exists()


@pytest.mark.parametrize("name", ["plain", "stopped", "killed"])
def test_the_rate_is_that_of_the_time(runs, name):
    """The rate of a record is its last step's, which began between the record before and this one."""
    directory, *_ = runs
    schedule = learning_rate_schedule(RECIPES["baseline"]("cpu"))
    records = [record for record in read_metrics(directory / name) if record["event"] == "train"]
    assert records[-1]["progress"] == 1.0
    for before, record in itertools.pairwise(records):
        if before["progress"] > 0.1:  # the rate falls from there on
            highest, lowest = (schedule(round(SCHEDULE_STEPS * one["progress"])) for one in (before, record))
            assert lowest <= record["lr"] * 1.001
            assert record["lr"] <= highest * 1.001


def test_a_stop_moves_the_schedule_by_what_it_took_and_no_further(runs):
    """A measured time that was a stop must not be reserved for the end: ticks go on with the clock."""
    directory, *_ = runs
    records = [record for record in read_metrics(directory / "stopped") if record["event"] == "train"]
    first, last = records[0], records[-1]
    for record in records:
        share = (record["seconds_total"] - first["seconds_total"]) / (last["seconds_total"] - first["seconds_total"])
        expected = first["progress"] + share * (last["progress"] - first["progress"])
        assert record["progress"] == pytest.approx(expected, abs=0.12)


def test_time_spent_and_time_down_are_recorded(runs):
    directory, ends, _ = runs
    sessions = json.loads((directory / "killed" / "sessions.json").read_text("utf-8"))["sessions"]
    assert len(sessions) == 2
    assert STOPPED - 1 < sessions[1]["seconds_down_before"] < STOPPED + 30
    # A process notes no more after its last second, in which it ends; it takes longer where processors are taken away.
    _, spent, stolen = ends["killed"]
    assert spent - 2.5 - stolen <= sum(session["seconds"] for session in sessions) <= spent + 2.5
    assert "down between them" in (directory / "killed" / "entry.md").read_text("utf-8")
    # The clock of the records goes on where the killed process was, not at its last checkpoint.
    resumed = json.loads((directory / "killed" / "environment.json").read_text("utf-8"))["resumed"][0]["step"]
    after = [record for record in read_metrics(directory / "killed") if record["step"] > resumed]
    assert all(record["seconds_total"] > sessions[0]["seconds"] for record in after)


def test_other_settings_do_not_go_on_with_it(runs):
    directory, *_ = runs
    command = [sys.executable, "-m", "owt_leaderboard", "--recipe", "baseline", "--device", "cpu", "--time-limit", "9s"]
    command += ["--dataset", directory / "articles.txt", "--data-dir", directory / "data", "--set", *TINY]
    done = subprocess.run(
        [*command, "--out", directory / "plain"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 2
    assert f"time_limit_seconds was {runs.limit}, now 9.0" in done.stderr
