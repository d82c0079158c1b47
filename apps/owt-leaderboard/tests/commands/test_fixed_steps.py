"""Runs of a number of steps."""

import json

import pytest
from small_runs import TINY

from bpe import Tokenizer
from owt_leaderboard.commands import fixed_steps
from trainer import read_config, read_metrics

ARGUMENTS = ("--recipe", "baseline", "--device", "cpu", "--set", *TINY, "optimizer=muon", "muon_learning_rate=0.01")


def test_as_many_steps_as_asked_for_with_the_whole_schedule(text, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--steps", "100", *ARGUMENTS, "--dataset", str(text), "--data-dir", str(tmp_path), "--out", str(out)]
    assert fixed_steps.main(arguments) == 0
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert (summary["steps"], summary["tokens"], summary["status"]) == (100, 100 * 2 * 16, "completed")
    assert f"Validation loss {summary['final_valid_loss']:.4f} after 3,200 tokens" in printed
    peak = 3e-3
    rates = {record["step"]: record["lr"] for record in read_metrics(out) if record["event"] == "train"}
    assert rates[10] == pytest.approx(peak, rel=0.02)  # the warm-up is a tenth
    assert 0.1 * peak <= rates[100] < 0.11 * peak
    evaluations = [record for record in read_metrics(out) if record["event"] == "eval"]
    assert [record["step"] for record in evaluations] == [0, 50, 100]
    assert [record["bits_per_byte"] is None for record in evaluations] == [True, True, False]  # the last reads all
    assert fixed_steps.main(arguments) == 0
    assert printed.splitlines()[-1] in capsys.readouterr().out
    assert fixed_steps.main([*arguments[:1], "150", *arguments[2:]]) == 0  # it goes on
    assert "changed from step 100 on: steps was 100, now 150" in capsys.readouterr().out
    others = [argument.replace("muon_learning_rate=0.01", "muon_learning_rate=0.02") for argument in arguments]
    assert fixed_steps.main(others) == 2  # another run
    assert "muon_learning_rate was 0.01, now 0.02" in capsys.readouterr().err
    config = read_config(out)
    config["recorded"]["recipe"] = {"d_model": 16, "num_layers": 1}  # as version 0.1 wrote it
    (out / "config.json").write_text(json.dumps(config))
    assert fixed_steps.main(arguments) == 2
    assert "error: another version recorded this recipe" in capsys.readouterr().err


def test_schedules_and_documents_reach_the_run(text, tmp_path):
    out, words = tmp_path / "run", ("muon_momentum_start=0.475", "weight_decay_factors=((0.0,1.0),(1.0,0.0))")
    arguments = ["--steps", "5", *ARGUMENTS, *words, "sampling=documents", "momentum_warmup_fraction=0.5"]
    arguments += ["--dataset", str(text), "--data-dir", str(tmp_path), "--out", str(out)]
    assert fixed_steps.main(arguments) == 0
    records = [record for record in read_metrics(out) if record["event"] == "train"]
    factors = {record["step"]: (record["momentum_factor"], record["weight_decay_factor"]) for record in records}
    assert (factors[1], factors[3], factors[5]) == ((0.5, 1.0), (1.0, 0.5), (1.0, 0.0))
    settings = read_config(out)["train"]
    assert settings["sampling"] == "documents"
    assert settings["separator_id"] == Tokenizer.from_pretrained(out / "tokenizer").eot_id


def test_a_run_that_diverges_says_so(text, tmp_path, capsys):
    arguments = ["--steps", "50", *ARGUMENTS, "learning_rate=1e30", "--dataset", str(text), "--data-dir", str(tmp_path)]
    assert fixed_steps.main([*arguments, "--out", str(tmp_path / "run")]) == 1
    assert "No validation loss: diverged at step" in capsys.readouterr().out


def test_wrong_input(tmp_path, capsys):
    assert fixed_steps.main(["--steps", "0", "--out", str(tmp_path / "run")]) == 2
    assert "error: --steps 0: expected 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [("d_model=33", "num_heads=2 does not divide d_model=33"), ("ffn=swiglu", "give d_ff too")],
)
def test_sizes_that_no_budget_chooses_are_not_placeholders(setting, message, tmp_path, capsys):
    """A width alone used to train with a single head, as a placeholder for the heads that the budget chooses."""
    arguments = ["--steps", "2", "--recipe", "speedrun", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert fixed_steps.main([*arguments, "--set", setting]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
