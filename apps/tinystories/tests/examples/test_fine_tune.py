"""The example of fine-tuning: prompts have no loss, and the result is a run like any other."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tinystories.run import main
from tinystories.writing import load
from trainer import evaluate, read_metrics

EXAMPLE = runpy.run_path(Path(__file__).resolve().parents[2] / "examples" / "fine_tune.py")
Pair = EXAMPLE["Pair"]
PAIRS = [Pair("Mia had?", " Red."), Pair("Ben?", " One ball."), Pair("What did Tom do?", " He ran.")]


def test_prompts_and_padding_have_no_loss(trained):
    model, tokenizer, _ = load(trained, "cpu")
    examples = EXAMPLE["make_examples"](PAIRS, tokenizer)
    inputs, targets = map(torch.from_numpy, examples.read(np.arange(3), 40))
    total, count = 0.0, 0
    for row, pair in enumerate(PAIRS):
        prompt, answer = tokenizer.encode(pair.prompt), [*tokenizer.encode(pair.answer), tokenizer.eot_id]
        begin, end = len(prompt) - 1, len(prompt) - 1 + len(answer)
        assert inputs[row, :end].tolist() == (prompt + answer)[:-1]
        assert targets[row, begin:end].tolist() == answer
        assert (targets[row, :begin] == -100).all()
        assert (targets[row, end:] == -100).all()
        if end <= 16:
            logits = model(inputs[row : row + 1, :end])[0, begin:]
            total += cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
            count += len(answer)
    short = EXAMPLE["make_examples"](PAIRS[:2], tokenizer)
    result = evaluate(model, short, 16, loss_fn=EXAMPLE["answer_loss"])
    assert result.tokens == count
    assert result.loss == pytest.approx(total / count, rel=1e-5)


def test_logits_of_prompts_get_no_gradient(trained):
    _, tokenizer, _ = load(trained, "cpu")
    inputs, targets = map(torch.from_numpy, EXAMPLE["make_examples"](PAIRS[:2], tokenizer).read(np.arange(2), 16))
    logits = torch.zeros(2, 16, tokenizer.vocab_size, requires_grad=True)

    class Model:
        def loss(self, inputs, targets):
            return cross_entropy(logits.flatten(0, 1), targets.flatten())

    total, _ = EXAMPLE["answer_loss"](Model(), inputs, targets)
    total.backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, targets != -100)


def test_the_result_is_a_run(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair._asdict()) + "\n\n" for pair in PAIRS[:2] * 5))
    arguments = ["--out", "answers", "--pairs", "pairs.jsonl", "--steps", "40", "--rate", "0.02", "--device", "cpu"]
    EXAMPLE["main"]([str(trained), *arguments])
    assert capsys.readouterr().out.endswith("2 of 2 answers that were held out are right, word for word\n")
    losses = [record["loss"] for record in read_metrics(tmp_path / "answers") if record["event"] == "eval"]
    assert losses[-1] < 0.1 < losses[0]
    assert main(["generate", "answers", "--prompt", "Ben?", "--temperature", "0", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "Ben? One ball.\n"


def test_each_animal_has_six_questions_and_different_ones_are_held_out():
    pairs = EXAMPLE["animal_pairs"]()
    assert len({pair.prompt for pair in pairs}) == len(pairs)
    assert len(pairs) % 6 == 0
    assert {number % 6 for number in range(0, len(pairs), 5)} == set(range(6))
    assert Pair("Where does the fox live?", " The fox lives in a den under the roots.") in pairs
    assert Pair("How do you know the fox?", " The fox has bright orange fur.") in pairs
