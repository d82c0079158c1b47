"""Two processes on a CPU, started as users start them."""

import json
import subprocess
import sys
import time

import pytest
from conftest import ENVIRONMENT, TINY, write_articles

LIMIT = 25.0


@pytest.mark.skipif(sys.platform != "linux", reason="gloo as on Linux")
def test_one_process_prepares_and_the_limit_counts_for_all(tmp_path):
    text = write_articles(tmp_path / "articles.txt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "owt_leaderboard", "--recipe", "baseline", "--time-limit", f"{LIMIT:g}s", "--device", "cpu"]
    command += ["--dataset", text, "--out", tmp_path / "run", "--data-dir", tmp_path / "data", "--set", *TINY]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("data prepared in ") == 1
    assert done.stdout.count("tokenizer of ") == 1
    assert done.stdout.count("Validation loss ") == 1
    preparing = float(done.stdout.split("data prepared in ")[1].split(" s")[0])
    launching = 8.0  # torchrun's own start and end, which no process of the run can know
    assert seconds - preparing < LIMIT + launching
    used = float(done.stdout.split(" s of 25 s used")[0].split()[-1])
    assert 0.6 * LIMIT < used <= LIMIT
    environment = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))
    assert environment["processes"] == 2
    assert len(json.loads((tmp_path / "run" / "sessions.json").read_text("utf-8"))["sessions"]) == 1
    assert "OVER THE LIMIT" not in (tmp_path / "run" / "entry.md").read_text("utf-8")
