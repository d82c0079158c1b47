"""The command that computes a final loss again."""

import json
import shutil
from pathlib import Path

import pytest

from owt_leaderboard.commands import evaluate


@pytest.fixture
def copied(run, tmp_path):
    """The finished run elsewhere, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_both_losses_are_printed(run, capsys):
    assert evaluate.main([str(run), "--batch-size", "5", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    recorded = json.loads((run / "summary.json").read_text("utf-8"))["final_valid_loss"]
    assert f"Validation loss {recorded:.4f}" in printed
    assert f"the run recorded {recorded:.4f}" in printed


def test_a_run_that_diverged(copied, capsys):
    summary = json.loads((copied / "summary.json").read_text("utf-8"))
    (copied / "summary.json").write_text(json.dumps({**summary, "final_valid_loss": None, "diverged": True}))
    assert evaluate.main([str(copied), "--device", "cpu"]) == 0
    assert "the run diverged and recorded no final loss" in capsys.readouterr().out


def test_a_checkpoint_that_was_set_aside_is_none(copied, capsys):
    (latest,) = sorted((copied / "checkpoints").glob("step_*"))[-1:]
    shutil.copytree(latest, latest.with_name("step_9999999.damaged"))
    assert evaluate.main([str(copied), "--device", "cpu"]) == 0
    assert "the run recorded" in capsys.readouterr().out


def test_a_run_of_another_version(copied, capsys):
    config = json.loads((copied / "config.json").read_text("utf-8"))
    config["recorded"]["recipe"] = {"d_model": 16, "qk_norm": False}
    (copied / "config.json").write_text(json.dumps(config))
    assert evaluate.main([str(copied), "--device", "cpu"]) == 2
    assert "error: another version recorded this recipe" in capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    assert evaluate.main([str(tmp_path)]) == 2
    assert "no run directory" in capsys.readouterr().err
