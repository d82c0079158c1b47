"""Finished runs: weights that reproduce the final loss, and a measurement."""

import json
import shutil

import pytest
import torch

from owt_leaderboard.budget import read_sessions
from owt_leaderboard.run import evaluate_run, measurement_of
from owt_leaderboard.run.trained_run import read_run
from trainer import TokenDataset, read_config, read_metrics


@pytest.mark.parametrize("batch_size", [None, 1, 7, 10_000])
def test_the_loss_of_the_checkpoint_is_the_final_one_for_any_batch_size(run, batch_size):
    recorded = json.loads((run / "summary.json").read_text("utf-8"))
    loss, bits = evaluate_run(run, batch_size, "cpu")
    assert f"{loss:.4f}" == f"{recorded['final_valid_loss']:.4f}"
    assert loss == pytest.approx(recorded["final_valid_loss"], abs=1e-6)
    assert bits == pytest.approx(recorded["bits_per_byte"], abs=1e-6)


def test_the_loss_is_that_of_one_pass_in_float64_over_every_token(run):
    """Computed without the trainer: windows side by side, the last and shorter one included."""
    found = read_run(run, "cpu")
    ids = torch.as_tensor(TokenDataset(run / found.recorded["valid_tokens"]).tokens.astype("int64"))
    total, model = 0.0, found.model.double()
    for begin in range(0, len(ids) - 1, 16):
        window = ids[begin : begin + 17]
        with torch.no_grad():
            logits = model(window[:-1][None])[0]
        total -= torch.log_softmax(logits, -1).gather(1, window[1:, None]).sum().item()
    recorded = json.loads((run / "summary.json").read_text("utf-8"))
    dtype = json.loads((run / "environment.json").read_text("utf-8"))["dtype"]
    tolerance = {"float32": 1e-5, "bfloat16": 1e-2}[dtype]
    assert total / (len(ids) - 1) == pytest.approx(recorded["final_valid_loss"], abs=tolerance)


def test_only_the_last_evaluation_is_on_the_whole_text(run):
    evaluations = [record for record in read_metrics(run) if record["event"] == "eval"]
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert evaluations[-1]["loss"] == summary["final_valid_loss"] == summary["best_valid_loss"]
    assert evaluations[-1]["bits_per_byte"] is not None
    assert evaluations[0]["bits_per_byte"] is evaluations[1]["bits_per_byte"] is None
    assert read_config(run)["train"]["eval_tokens"] == 5 * 16 + 1


def test_a_run_measures_itself(run):
    """Tokens, parameters and operations as counted by hand: two layers of 16 with SwiGLU of 40, and the head."""
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    vocab_size = TokenDataset(run / read_config(run)["recorded"]["valid_tokens"]).vocab_size
    parameters = 2 * (4 * 16 * 16 + 3 * 16 * 40) + vocab_size * 16
    found = measurement_of(run, "articles")
    assert (found.parameters, found.tokens, found.loss) == (parameters, summary["tokens"], summary["final_valid_loss"])
    assert found.flops == pytest.approx(found.tokens * (6 * parameters + 2 * 12 * 16 * 16))
    assert found.time_limit_seconds == 40
    assert found.training_share == pytest.approx(summary["seconds_training"] / 40)


def test_run_and_data_can_be_moved_together(finished, tmp_path):
    """R36: paths are seen from the run, and the tokenizer is in it."""
    moved = shutil.copytree(finished.directory.parent, tmp_path / "moved") / finished.directory.name
    assert evaluate_run(moved, None, "cpu") == evaluate_run(finished.directory, None, "cpu")
    alone = shutil.copytree(finished.directory, tmp_path / "alone" / "run")
    assert evaluate_run(alone, None, "cpu") == evaluate_run(finished.directory, None, "cpu")
    config = json.loads((alone / "config.json").read_text())
    config["recorded"]["texts"] = str(tmp_path / "gone")
    (alone / "config.json").write_text(json.dumps(config))
    assert read_run(alone, "cpu").step == read_run(moved, "cpu").step
    with pytest.raises(FileNotFoundError, match="move run and data together, or prepare the data there again"):
        evaluate_run(alone, None, "cpu")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sessions": 3'])
def test_damaged_notes_of_sessions_are_named(finished, tmp_path, content):
    """A8: the time of earlier sessions then comes from the last checkpoint."""
    run = shutil.copytree(finished.directory, tmp_path / "run")
    (run / "sessions.json").write_text(content)
    with pytest.warns(RuntimeWarning, match=r"the time of earlier sessions is taken from the last checkpoint"):
        assert read_sessions(run) == []
