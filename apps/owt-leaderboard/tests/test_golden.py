"""The sample articles, a tokenizer, and the losses of two small seeded runs, as text."""

import hashlib
import random

import pytest
import torch
from small_runs import TINY

from bpe import Tokenizer
from owt_leaderboard.commands.fixed_steps import main
from owt_leaderboard.texts.articles import compose_article
from trainer import read_metrics

COMPOSED = "90fad41e86a09cf0"
MERGES = "26cd6e39bba8ab20"
LOSSES = {
    "speedrun": {0: 5.70393, 6: 5.077264, 12: 4.748355},
    "baseline": {0: 5.67346, 6: 5.424686, 12: 5.396169},
}
"""Validation losses by step."""


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_sample_articles():
    articles = "\n".join(compose_article(random.Random(seed)) for seed in range(50))
    assert sha256(articles) == COMPOSED


@pytest.mark.parametrize("recipe", ["speedrun", "baseline"])
def test_a_small_run(recipe, text, tmp_path, monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):  # float32 on every CPU
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    run = tmp_path / "run"
    arguments = ["--steps", "12", "--recipe", recipe, "--device", "cpu", "--seed", "3", "--set", *TINY]
    places = ["--dataset", str(text), "--data-dir", str(tmp_path / "data"), "--out", str(run)]
    assert main([*arguments, *places]) == 0
    tokenizer = Tokenizer.from_pretrained(run / "tokenizer")
    assert sha256(repr(tokenizer.merges)) == MERGES
    losses = {record["step"]: record["loss"] for record in read_metrics(run) if record["event"] == "eval"}
    assert losses == pytest.approx(LOSSES[recipe], abs=2e-4)
