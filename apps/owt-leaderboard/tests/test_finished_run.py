"""What a finished run leaves: the entry, and weights that give its loss again."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, TINY, preload, stolen_seconds, was_disturbed, write_articles

from bpe import Tokenizer
from owt_leaderboard import __main__ as command
from owt_leaderboard import evaluate
from owt_leaderboard.budget.clock import process_age, read_sessions
from owt_leaderboard.recipe.overrides import changed
from owt_leaderboard.recipe.recipes import RECIPES

ARGUMENTS, STOLEN, LIMITS = {}, {}, {}
"""The command of each run, the seconds that were stolen while it was made, and those that it had."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few seconds, with a tokenizer and two layers."""
    directory = tmp_path_factory.mktemp("finished")
    text = write_articles(directory / "articles.txt")
    preload()
    for patience in PATIENCE:
        limit, out = 8.0 * patience, directory / f"run-{patience}"
        arguments = ["--recipe", "baseline", "--time-limit", f"{limit:g}s", "--dataset", str(text), "--out", str(out)]
        arguments += ["--data-dir", str(directory / "data"), "--device", "cpu", "--set", *TINY, "num_layers=2"]
        with pytest.MonkeyPatch.context() as patch:
            # The limit counts from the start of the process, and here that is the test suite's.
            start, stolen = process_age(), stolen_seconds()
            patch.setattr(command, "process_age", lambda start=start: process_age() - start)
            if command.main(arguments) == 0:
                ARGUMENTS[out], STOLEN[out], LIMITS[out] = arguments, stolen_seconds() - stolen, limit
                return out
        assert was_disturbed(stolen)
    pytest.fail("no run has ended")


@pytest.mark.parametrize("batch_size", [None, 1, 3, 7, 64, 10_000])
def test_the_loss_of_the_checkpoint_is_the_final_one_for_any_batch_size(run, batch_size):
    recorded = json.loads((run / "summary.json").read_text("utf-8"))
    loss, bits = evaluate.evaluate_run(run, batch_size, "cpu")
    assert f"{loss:.4f}" == f"{recorded['final_valid_loss']:.4f}"
    assert loss == pytest.approx(recorded["final_valid_loss"], abs=1e-6)
    assert bits == pytest.approx(recorded["bits_per_byte"], abs=1e-6)


def test_the_loss_is_that_of_one_pass_in_float64_over_every_token(run):
    """Computed without the trainer: windows side by side, the last and shorter one included."""
    import torch

    from owt_leaderboard.run.finished_run import read_run
    from trainer import TokenDataset

    found = read_run(run, "cpu")
    ids = torch.as_tensor(TokenDataset(found.recorded["valid_tokens"]).tokens.astype("int64"))
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


def test_evaluate_prints_both_losses(run, capsys):
    assert evaluate.main([str(run), "--batch-size", "5", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    recorded = json.loads((run / "summary.json").read_text("utf-8"))["final_valid_loss"]
    assert f"Validation loss {recorded:.4f}" in printed
    assert f"the run recorded {recorded:.4f}" in printed


@pytest.fixture
def copied(run, tmp_path):
    """The same run elsewhere, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_evaluate_a_run_that_diverged(copied, capsys):
    summary = json.loads((copied / "summary.json").read_text("utf-8"))
    (copied / "summary.json").write_text(json.dumps({**summary, "final_valid_loss": None, "diverged": True}))
    assert evaluate.main([str(copied), "--device", "cpu"]) == 0
    assert "the run recorded no final loss, for it diverged" in capsys.readouterr().out


def test_a_checkpoint_that_was_set_aside_is_none(copied, capsys):
    (latest,) = sorted((copied / "checkpoints").glob("step_*"))[-1:]
    shutil.copytree(latest, latest.with_name("step_9999999.damaged"))
    assert evaluate.main([str(copied), "--device", "cpu"]) == 0
    assert "the run recorded" in capsys.readouterr().out


def test_a_run_that_was_killed_before_its_entry_gets_one(run, copied, monkeypatch, capsys):
    entry = (copied / "entry.md").read_text("utf-8")
    before = read_sessions(copied)
    (copied / "entry.md").unlink()
    start = process_age()
    monkeypatch.setattr(command, "process_age", lambda: process_age() - start)
    arguments = list(ARGUMENTS[run])
    arguments[arguments.index(str(run))] = str(copied)
    assert command.main(arguments) == 0
    samples = entry.partition("## Text")[2]
    assert (copied / "entry.md").read_text("utf-8").partition("## Text")[2] == samples
    assert read_sessions(copied)[:1] == before
    assert len(read_sessions(copied)) == 2
    assert command.main(arguments) == 0  # now there is nothing left to do
    assert len(read_sessions(copied)) == 2


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="processes are not stopped there")
def test_a_rehearsal_in_which_the_process_was_stopped_is_made_again(monkeypatch):
    from owt_leaderboard.report import entry

    written = []

    def write_text(model, tokenizer, tokens, **_):
        written.append(tokens)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGCONT)
            time.sleep(0.5)
        return ["", ""]

    monkeypatch.setattr(entry, "write_text", write_text)
    monkeypatch.setattr("owt_leaderboard.report.picture.picture_bytes", lambda *_, **__: b"")
    tokenizer = Tokenizer({index: bytes([index]) for index in range(256)}, [], ["<|endoftext|>"])
    seconds = entry.rehearse(changed(RECIPES["baseline"]("cpu"), TINY), tokenizer, "cpu")
    assert written == [2, 256, 256]
    assert seconds < 0.25


def test_evaluate_without_a_run(tmp_path, capsys):
    assert evaluate.main([str(tmp_path)]) == 2
    assert "no run directory" in capsys.readouterr().err


def test_the_entry_has_what_a_leaderboard_asks_for(run):
    entry, summary = (run / "entry.md").read_text("utf-8"), json.loads((run / "summary.json").read_text("utf-8"))
    valid = json.loads((run / "config.json").read_text("utf-8"))["recorded"]["valid_tokens"]
    facts = json.loads(Path(valid).with_suffix(".json").read_text("utf-8"))
    for expected in (
        f"| validation loss | {summary['final_valid_loss']:.4f} nats per token",
        f"| bits per byte | {summary['bits_per_byte']:.4f} |",
        f"| bytes per token | {facts['bytes'] / facts['tokens']:.4f} ",
        f"the whole validation text: {facts['tokens']:,} tokens, windows of 16",
        f"| training tokens | {summary['tokens']:,} in {summary['steps']:,} steps |",
        "2 layers x 16, 2 heads, d_ff 40",
        "| MFU | not known, for the device's peak is not (",
        f"limit {LIMITS[run]:.1f} s",
        "takes only personal course work",
        '"learning_rate": 0.003',
        '"python": "',
        "](entry.png)",
    ):
        assert expected in entry
    limit = LIMITS[run]
    spent = float(re.search(rf"spent when this was written \| ([\d.]+) s of {limit:.1f} s", entry)[1])
    known = float(re.search(r"when the final loss was known \| ([\d.]+) s", entry)[1])
    assert limit / 2 < known <= spent <= limit + STOLEN[run]
    assert ("OVER THE LIMIT" in entry) == (spent > limit)
    assert (run / "entry.png").read_bytes().startswith(b"\x89PNG")


def test_the_samples_have_256_tokens(run):
    entry = (run / "entry.md").read_text("utf-8")
    recorded = json.loads((run / "config.json").read_text("utf-8"))["recorded"]
    tokenizer = Tokenizer.from_pretrained(recorded["tokenizer"])
    part = entry.partition("## Text of 256 tokens")[2].partition("## Recipe")[0]
    text = "\n".join(line[2:] for line in part.splitlines() if line.startswith("> "))
    # Two texts; lines that are lost by quoting are few, and encoding anew may merge a little more.
    assert len(tokenizer.encode(text)) > 400


def test_only_the_last_evaluation_is_on_the_whole_text(run):
    from trainer import read_config

    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    evaluations = [record for record in records if record["event"] == "eval"]
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert evaluations[-1]["loss"] == summary["final_valid_loss"] == summary["best_valid_loss"]
    assert evaluations[-1]["bits_per_byte"] is not None
    assert evaluations[0]["bits_per_byte"] is evaluations[1]["bits_per_byte"] is None
    assert read_config(run)["train"]["eval_tokens"] == 5 * 16 + 1


def test_a_run_measures_itself(run):
    """Tokens, parameters and operations as counted by hand: two layers of 16 with SwiGLU of 40, and the head."""
    from owt_leaderboard.budget.scaling import measurement_of
    from trainer import TokenDataset, read_config

    summary = json.loads((run / "summary.json").read_text("utf-8"))
    vocab_size = TokenDataset(read_config(run)["recorded"]["valid_tokens"]).vocab_size
    parameters = 2 * (4 * 16 * 16 + 3 * 16 * 40) + vocab_size * 16
    found = measurement_of(run, "articles")
    assert (found.parameters, found.tokens, found.loss) == (parameters, summary["tokens"], summary["final_valid_loss"])
    assert found.flops == pytest.approx(found.tokens * (6 * parameters + 2 * 12 * 16 * 16))
    assert found.time_limit_seconds == LIMITS[run]
    assert found.training_share == pytest.approx(summary["seconds_training"] / LIMITS[run])
