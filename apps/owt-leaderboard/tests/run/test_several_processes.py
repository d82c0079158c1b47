"""Two processes on a CPU, with the environment that torchrun gives them, each on a simulated machine."""

import json
import socket
import sys

import pytest
from forked_run import ForkedRun
from small_runs import TINY

from owt_leaderboard.budget import EXIT_SECONDS, read_sessions
from owt_leaderboard.commands import fixed_steps, train


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="gloo as on Linux")
def test_one_process_prepares_and_the_limit_counts_for_all(text, tmp_path):
    arguments = ["--recipe", "baseline", "--time-limit", "60s", "--device", "cpu", "--out", tmp_path / "run"]
    arguments += ["--dataset", text, "--data-dir", tmp_path / "data", "--set", *TINY]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    runs = [
        ForkedRun(arguments, tmp_path / f"rank{rank}.txt", {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in (0, 1)
    ]
    (code, printed), (other_code, other_printed) = [run.end() for run in runs]
    assert (code, other_code) == (0, 0), printed + other_printed
    assert printed.count("tokenizer of ") == printed.count("Validation loss ") == 1
    assert "tokenizer of " not in other_printed
    assert "Validation loss " not in other_printed
    assert json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))["processes"] == 2
    (session,) = read_sessions(tmp_path / "run")
    assert 30 < session["seconds"] <= 60 - EXIT_SECONDS


@pytest.mark.parametrize(("command", "first"), [(fixed_steps.main, ["--steps", "2"]), (train.main, [])])
def test_tables_of_ngrams_are_refused_before_a_text_is_prepared(text, tmp_path, monkeypatch, capsys, command, first):
    torchrun = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    arguments = ["--device", "cpu", "--out", str(tmp_path / "run"), "--dataset", str(text)]
    arguments += ["--data-dir", str(tmp_path / "data"), "--set", *TINY]
    assert command(first + arguments) == 2
    assert not (tmp_path / "data").exists(), "no text was prepared"
    error = capsys.readouterr().err
    assert "ngram_rows is 131072 and several processes train on CPUs, but DDP cannot exchange" in error
    assert "give --set ngram_rows=None, or train with one process" in error
