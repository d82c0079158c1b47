"""Experiments on a local Ray of two workers. They are skipped without Ray; `nox -s cluster` installs it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from tinystories.run import main

pytest.importorskip("ray", reason="Ray is not installed; `nox -s cluster` installs it")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes and signals of POSIX")

NAMES = ("baseline", "nope")
LONG = ("--steps", "600", "--evaluations", "30")
TIMES = ("seconds_total", "seconds_training", "tokens_per_second", "mfu", "memory_bytes")


class Command:
    """A command in a group of processes of its own, as a terminal starts it."""

    def __init__(self, *arguments):
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tinystories.run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env=environment,
        )

    def worker_of(self, name):
        """Ray's process that waits for the process of a run."""
        return next(process for process in self._descendants() if process.cmdline()[:1] == [f"ray::{name}"])

    def interrupt(self):
        """Press Ctrl-C, which reaches the whole group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self):
        """Wait for the end; return exit code, standard output and standard error. Nothing may be left running."""
        started = self._descendants()
        out, error = self._process.communicate()
        _, left = psutil.wait_procs(started, timeout=300)  # Ray's daemons end a moment later
        assert not left
        return self._process.returncode, out, error

    def _descendants(self):
        assert self._process.poll() is None, self._process.communicate()
        return psutil.Process(self._process.pid).children(recursive=True)


def has_checkpoint(run):
    return any((run / "checkpoints").glob("step_*"))


def outcome(run):
    """Digest of the final weights, and all records but times."""
    last = max((run / "checkpoints").glob("step_*"))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    kept = [{name: value for name, value in record.items() if name not in TIMES} for record in records]
    return last.name, hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest(), kept


def resumed(run):
    return len(json.loads((run / "environment.json").read_text("utf-8"))["resumed"])


def ablations(out, flags, *more):
    return ["ablations", "--out", str(out), "--variants", *NAMES, "--seeds", "1", *flags, *LONG, *more]


@pytest.fixture
def expected(flags, tmp_path, quick):
    """Outcomes of the runs of one process."""
    out = tmp_path / "one-process"
    assert main(ablations(out, flags)) == 0
    return {name: outcome(out / name) for name in NAMES}


def test_lost_workers_and_ctrl_c_cost_only_time(expected, flags, tmp_path, quick):
    out = tmp_path / "ray"
    command = Command(*ablations(out, flags, "--engine", "ray", "--jobs", "2"))
    wait_until(lambda: all(has_checkpoint(out / name) for name in NAMES))
    command.worker_of("nope").kill()
    code, printed, error = command.end()
    assert code == 0, error
    assert "up to 2 runs at once, each with 1 CPU" in printed
    assert {name: outcome(out / name) for name in NAMES} == expected
    assert [resumed(out / name) for name in NAMES] == [0, 1]

    out = tmp_path / "interrupted"
    command = Command(*ablations(out, flags, "--engine", "ray", "--jobs", "2"))
    wait_until(lambda: all(has_checkpoint(out / name) for name in NAMES))
    command.interrupt()
    code, _, error = command.end()
    assert code == 130, error
    assert "Traceback" not in error
    assert not list(out.glob("*/summary.json"))
    assert not list(out.glob("*/failure.json"))
    assert main(ablations(out, flags)) == 0, "another engine resumes"
    assert {name: outcome(out / name) for name in NAMES} == expected
    assert [resumed(out / name) for name in NAMES] == [1, 1]


def test_tokenizers_are_trained_on_ray(tmp_path, text):
    arguments = ["--vocab-sizes", "300", "310", "--documents", "2", "--repeats", "2", "--out", str(tmp_path / "report")]
    command = Command("tokenizer-report", "--corpora", f"stories={text}", *arguments, "--engine", "ray")
    code, printed, error = command.end()
    assert code == 0, error
    assert "training stories-310 on " in printed
    assert len(list(Path("data", "tokenizers").glob("*/training.json"))) == 2
    assert not list(Path("data").glob(".shared-*"))


def test_rates_on_ray_have_the_runs_of_one_process(flags, tmp_path, quick):
    def sweep(name):
        return ["lr-sweep", "--out", str(tmp_path / name), "--rates", "1e-3", "1e-2", *flags]

    assert main(sweep("one-process")) == 0
    code, _, error = Command(*sweep("ray"), "--engine", "ray", "--jobs", "2").end()
    assert code == 0, error
    runs = sorted(path.parent.name for path in tmp_path.glob("one-process/*/summary.json"))
    assert len(runs) == 2
    for run in runs:
        assert outcome(tmp_path / "ray" / run) == outcome(tmp_path / "one-process" / run)
