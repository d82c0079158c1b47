"""Two processes on a CPU, with the environment that torchrun gives them."""

import json
import socket
import sys

import pytest
from conftest import TINY, write_articles
from forked_run import ForkedRun

LIMIT = 20.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="gloo as on Linux")
def test_one_process_prepares_and_the_limit_counts_for_all(tmp_path):
    arguments = ["--recipe", "baseline", "--time-limit", f"{LIMIT:g}s", "--device", "cpu", "--out", tmp_path / "run"]
    arguments += ["--dataset", write_articles(tmp_path / "articles.txt"), "--data-dir", tmp_path / "data"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ForkedRun(["--help"], tmp_path / "help.txt").end()  # imports everything, in the process that others are forked from
    runs = [
        ForkedRun(
            [*arguments, "--set", *TINY],
            tmp_path / f"rank{rank}.txt",
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    (code, printed, seconds, stolen), (other_code, other_printed, other_seconds, _) = [run.end() for run in runs]
    assert (code, other_code) == (0, 0), printed + other_printed
    preparing = float(printed.split("data prepared in ")[1].split(" s")[0])
    assert max(seconds, other_seconds) - preparing - stolen <= LIMIT
    assert seconds - preparing > 0.6 * LIMIT
    assert printed.count("tokenizer of ") == printed.count("Validation loss ") == 1
    assert "tokenizer of " not in other_printed
    assert "Validation loss " not in other_printed
    environment = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))
    assert environment["processes"] == 2
    assert len(json.loads((tmp_path / "run" / "sessions.json").read_text("utf-8"))["sessions"]) == 1
    if stolen < 1:
        assert "OVER THE LIMIT" not in (tmp_path / "run" / "entry.md").read_text("utf-8")
