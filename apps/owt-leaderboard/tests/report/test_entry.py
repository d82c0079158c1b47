"""The entry: what a leaderboard asks for, and the time that it will need."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from small_runs import TINY

from bpe import Tokenizer
from nnscratch.speedrun import RECIPES, changed
from owt_leaderboard.report import entry
from owt_leaderboard.run.trained_run import read_run

LIMIT = 40.0


def test_the_entry_has_what_a_leaderboard_asks_for(run):
    text, summary = (run / "entry.md").read_text("utf-8"), json.loads((run / "summary.json").read_text("utf-8"))
    valid = json.loads((run / "config.json").read_text("utf-8"))["recorded"]["valid_tokens"]
    facts = json.loads((run / valid).with_suffix(".json").read_text("utf-8"))
    for expected in (
        f"| validation loss | {summary['final_valid_loss']:.4f} nats per token",
        f"| bits per byte | {summary['bits_per_byte']:.4f} |",
        f"| bytes per token | {(facts['bytes'] - facts['special_bytes']) / (facts['tokens'] - 1):.4f} ",
        f"the first {facts['tokens']:,} tokens of the validation text, windows of 16",
        f"| training tokens | {summary['tokens']:,} in {summary['steps']:,} steps |",
        "2 layers x 16, 2 heads, d_ff 40",
        "| MFU | unknown, because the peak of this device is not listed (",
        f"| limit | {LIMIT:.1f} s, which covers everything except the preparation of the data |",
        "takes only personal course work",
        '"learning_rate": 0.003',
        '"python": "',
        "](entry.png)",
    ):
        assert expected in text
    spent = float(re.search(r"spent before this page was written \| ([\d.]+) s", text)[1])
    known = float(re.search(r"when the final loss was known \| ([\d.]+) s", text)[1])
    assert LIMIT / 2 < known <= spent <= LIMIT
    assert "OVER THE LIMIT" not in text
    assert (run / "entry.png").read_bytes().startswith(b"\x89PNG")


def test_a_time_over_the_limit_is_shouted(run, tmp_path):
    copied, found = Path(shutil.copytree(run, tmp_path / "run")), read_run(run, "cpu")
    entry.write_entry(copied, found.model, found.tokenizer, recipe=found.recipe, time_limit_seconds=20.0, reasons=())
    assert "s - OVER THE LIMIT |" in (copied / "entry.md").read_text("utf-8")


def test_the_samples_have_256_tokens(run):
    text = (run / "entry.md").read_text("utf-8")
    tokenizer = Tokenizer.from_pretrained(run / "tokenizer")
    part = text.partition("## Samples of 256 tokens")[2].partition("## Recipe")[0]
    text = "\n".join(line[2:] for line in part.splitlines() if line.startswith("> "))
    # Two texts; lines that are lost by quoting are few, and encoding again may merge a little more.
    assert len(tokenizer.encode(text)) > 400


def test_a_rehearsal_in_which_the_process_was_stopped_reserves_no_more(monkeypatch):
    """Each text takes a second, but one during which the process was stopped for a minute."""
    now, written = [0.0], []

    def write_text(model, tokenizer, tokens, **_):
        written.append(tokens)
        now[0] += 61.0 if len(written) == 2 else 1.0
        return ["", ""]

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(entry, "write_text", write_text)
    monkeypatch.setattr(entry, "picture_bytes", lambda *_, **__: b"")
    tokenizer = Tokenizer({index: bytes([index]) for index in range(256)}, [], ["<|endoftext|>"])
    assert entry.rehearse(changed(RECIPES["baseline"]("cpu"), TINY), tokenizer, "cpu") == pytest.approx(1.5)
    assert written == [2, 256, 256]
