import math
import subprocess
import sys

import pytest
import torch

from nnscratch import TransformerConfig, TransformerLM
from nnscratch.evaluation import likelihood, log_likelihoods


def expected(model, context, continuation):
    """Log-likelihood and greedy flag, token by token from the model's probabilities."""
    ids, window = [*context, *continuation][-model.config.context_length - 1 :], len(continuation)
    total, is_greedy = 0.0, True
    with torch.no_grad():
        for place in range(len(ids) - window, len(ids)):
            logits = model(torch.tensor([ids[:place]]))[0, -1].double()
            total += math.log(torch.nn.functional.softmax(logits, -1)[ids[place]])
            is_greedy &= int(logits.argmax()) == ids[place]
    return total, is_greedy


def greedy(model, context, count):
    ids = list(context)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(context) :]


@pytest.fixture
def pairs(model):
    torch.manual_seed(1)
    lengths = [(1, 1), (3, 5), (12, 5), (30, 2), (1, 16), (16, 1), (5, 3), (200, 16)]
    made = [tuple(torch.randint(50, (n,)).tolist() for n in pair) for pair in lengths]
    return [*made, ([4, 2], greedy(model, [4, 2], 6)), ([4, 2], [*greedy(model, [4, 2], 5), 0])]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_log_likelihoods_are_those_of_the_logits(model, pairs, batch_size, monkeypatch):
    monkeypatch.setattr(likelihood, "_LOGITS_AT_ONCE", 50 * 7)  # chunks that end within a continuation
    results = log_likelihoods(model, pairs, batch_size=batch_size)
    for (context, continuation), (score, is_greedy) in zip(pairs, results, strict=True):
        right_score, is_right = expected(model, context, continuation)
        assert score == pytest.approx(right_score, abs=1e-4)
        assert is_greedy is is_right
    assert [is_greedy for _, is_greedy in results[-2:]] == [True, greedy(model, [4, 2], 6)[-1] == 0]


def test_a_soft_cap_is_applied():
    config = TransformerConfig(
        vocab_size=20, context_length=8, d_model=16, num_layers=1, num_heads=2, d_ff=16, logit_soft_cap=0.5
    )
    model = TransformerLM(config)
    ((score, _),) = log_likelihoods(model, [([1, 2], [3])])
    assert score == pytest.approx(expected(model, [1, 2], [3])[0], abs=1e-5)


def test_nothing_in_gives_nothing(model):
    assert log_likelihoods(model, []) == []


@pytest.mark.parametrize(
    ("pairs", "batch_size", "message"),
    [
        ([([1], [2]), ([], [2])], 4, r"pair 1 has a context of 0 ids and a continuation of 1, expected at least 1"),
        ([([1], [])], 4, r"pair 0 has a context of 1 ids and a continuation of 0"),
        ([([1], [2] * 17)], 4, r"continuation of 17.*at most context_length=16"),
        ([([1], [2])], 0, r"batch_size=0 is out of range"),
    ],
)
def test_pairs_that_cannot_be_scored_are_refused(model, pairs, batch_size, message):
    with pytest.raises(ValueError, match=message):
        log_likelihoods(model, pairs, batch_size=batch_size)


def test_lm_eval_is_imported_only_with_the_adapter():
    code = "import sys, nnscratch; nnscratch.evaluation.log_likelihoods; sys.exit('lm_eval' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_adapter_names_the_package_that_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.delitem(sys.modules, "nnscratch.evaluation.harness", raising=False)
    from nnscratch import evaluation

    with pytest.raises(ImportError, match=r'pip install "scratchlm-nnscratch\[lm-eval\]"'):
        evaluation.HarnessModel  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Harness'; it has HarnessModel, log_likelihoods"):
        evaluation.Harness  # noqa: B018
