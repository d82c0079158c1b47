"""Runs on Slurm, whose commands are replaced here, and on Ray, of whose workers one is lost."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import CORPUS, EOT, WORDS, run_python

import bpe
from bpe.__main__ import main

pytest.importorskip("datatrove")

from bpe.cluster import load_counts

SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$0.$(ls "$0".* 2>/dev/null | wc -l)"
echo Submitted batch job 17
"""
SCONTROL = """#!/bin/sh
echo node1
"""
LOSING_A_WORKER = """
import os, signal, sys
from pathlib import Path
from bpe import cluster

class Losing(cluster.CountPretokens):
    def _count(self, name):
        if name == "3.txt" and not Path("lost").exists():
            Path("lost").touch()
            os.kill(os.getppid(), signal.SIGKILL)  # Ray's worker, whose child runs the task
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._count(name)

if __name__ == "__main__":
    step = Losing("texts", "counts")
    cluster.run(cluster.make_executor("ray", step, workers=2, memory_per_cpu=1))
"""


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for number in range(6):
        Path("texts", f"{number}.txt").write_text(f"{CORPUS}{number}{EOT}{WORDS}", encoding="utf-8", newline="")
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="Slurm runs on POSIX systems")
def test_slurm(corpus, monkeypatch, capsys):
    """The script asks for what the options say, and the tasks that it would start give the counts of one process."""
    programs = corpus / "bin"
    programs.mkdir()
    for name, content in {"sbatch": SBATCH, "scontrol": SCONTROL}.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    arguments = ["cluster", "count", "texts", "counts", "--executor", "slurm", "--tasks", "4", "--threads", "2"]
    assert main(arguments) == 2
    assert "--executor slurm needs --partition and --time" in capsys.readouterr().err
    arguments += ["--partition", "cpu", "--time", "1:00:00", "--workers", "3", "--memory-per-cpu", "5"]
    arguments += ["--environment", "source /venv/bin/activate", "--sbatch", "account=me"]
    assert main(arguments) == 0
    assert "6 shards in 4 tasks submitted to Slurm" in capsys.readouterr().out
    script = (programs / "sbatch.0").read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    asked = {
        "array=0-3%3",
        "cpus-per-task=2",
        "mem-per-cpu=5G",
        "partition=cpu",
        "time=1:00:00",
        "account=me",
        "requeue",
    }
    assert asked <= options
    assert not any(option.startswith("qos") for option in options)
    assert "source /venv/bin/activate" in script
    command = next(line for line in script if line.startswith("srun"))
    pickled = str(corpus / "counts" / "logs" / "executor.pik")
    assert command.split() == ["srun", "--cpus-per-task=2", "-l", "-n", "1", "launch_pickled_pipeline", pickled]
    for task in range(4):
        environment = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "node1"}
        result = run_python("-m", "datatrove.tools.launch_pickled_pipeline", pickled, environment=environment)
        assert result.returncode == 0, result.stderr
    assert load_counts("counts") == bpe.count_pretokens("texts")
    assert main(arguments) == 0
    assert "6 shards in 4 tasks complete" in capsys.readouterr().out
    assert not (programs / "sbatch.2").exists()  # the second one adds up statistics


def test_options_of_slurm_are_for_slurm(corpus, capsys):
    assert main(["cluster", "count", "texts", "counts", "--partition", "cpu"]) == 2
    assert "--partition, --time, --environment and --sbatch are for Slurm, not local" in capsys.readouterr().err
    arguments = ["--executor", "slurm", "--partition", "cpu", "--time", "1:00:00", "--sbatch", "account"]
    assert main(["cluster", "count", "texts", "counts", *arguments]) == 2
    assert "--sbatch is 'account', expected NAME=VALUE, such as account=me" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; `nox -s cluster` installs it"
)
def test_ray_repeats_the_task_of_a_lost_worker(corpus):
    Path("losing.py").write_text(LOSING_A_WORKER)
    environment = {**os.environ, "PYTHONPATH": str(Path(bpe.__file__).parents[1])}
    result = subprocess.run([sys.executable, "losing.py"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "failed with RayActorError" in result.stderr
    assert Path("lost").exists()
    assert load_counts("counts") == bpe.count_pretokens("texts")


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; `nox -s cluster` installs it"
)
def test_ray_reports_tasks_that_fail(corpus):
    """datatrove only logs a warning."""
    Path("texts", "4.txt.gz").write_bytes(b"not compressed")
    arguments = ["count", "texts", "counts", "--executor", "ray", "--workers", "2", "--memory-per-cpu", "1"]
    result = run_python("-m", "bpe", "cluster", *arguments)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("bpe: error: 1 of 7 tasks have failed (5); see their logs in ")
    assert "BadGzipFile" in Path("counts/logs/logs/task_00005.log").read_text()
