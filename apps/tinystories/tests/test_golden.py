"""The sample corpus, a tokenizer, and the losses of two small seeded runs, as text."""

import hashlib
import random

import pytest

from bpe import Tokenizer
from tinystories.run import main
from tinystories.texts.stories import compose_story
from trainer import read_metrics

COMPOSED = "3361529d02517050"
MERGES = "5f78730625ea11b8"
LOSSES = {
    "baseline": {0: 5.642526, 4: 4.810681, 8: 4.555873},
    "silu": {0: 5.70294, 4: 4.796854, 8: 4.532168},
}
"""Validation losses by step."""


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_sample_stories():
    stories = "\n".join(compose_story(random.Random(seed)) for seed in range(50))
    assert sha256(stories) == COMPOSED


@pytest.mark.parametrize("variant", ["baseline", "silu"])
def test_a_small_run(variant, flags, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), "--variant", variant, "--seed", "4", "--dtype", "float32", *flags]) == 0
    tokenizer = Tokenizer.from_pretrained(run / "tokenizer")
    assert sha256(repr(tokenizer.merges)) == MERGES
    losses = {record["step"]: record["loss"] for record in read_metrics(run) if record["event"] == "eval"}
    assert losses == pytest.approx(LOSSES[variant], abs=2e-4)
