import math

import numpy as np
import pytest
import torch
from bigram_run import VOCAB_SIZE, loss_fn, make_model, make_tokens
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer import evaluate


class Recorder(nn.Module):
    """Remembers what it was asked; all logits equal."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, ids):
        self.asked += ids.tolist()
        return torch.zeros(*ids.shape, VOCAB_SIZE)


def direct_loss(model, tokens, context_length):
    """Window by window and token by token, in float64."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(tokens) - 1, context_length):
            ids = torch.tensor(tokens[begin : begin + context_length + 1].astype(int))
            log_probabilities = model(ids[None, :-1])[0].double().log_softmax(-1)
            total -= sum(row[target].item() for row, target in zip(log_probabilities, ids[1:], strict=True))
    return total / (len(tokens) - 1)


@given(st.integers(9, 90), st.integers(1, 8), st.integers(1, 9), st.booleans())
def test_equals_a_direct_computation_for_every_batch_size(length, context_length, batch_size, own_loss):
    model, tokens = make_model(), make_tokens(length)
    result = evaluate(
        model, tokens, context_length, batch_size=batch_size, loss_fn=loss_fn if own_loss else None, num_bytes=123
    )
    expected = direct_loss(model, tokens, context_length)
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(expected), rel=1e-5)
    assert result.bits_per_byte == pytest.approx(expected * (length - 1) / math.log(2) / 123, rel=1e-6)
    assert result.tokens == length - 1


@pytest.mark.parametrize("length", [9, 10, 16, 17, 18, 33])
def test_every_token_but_the_last_is_read_once_and_in_order(length):
    model = Recorder()
    evaluate(model, np.arange(length, dtype=np.uint16), 8, batch_size=3)
    assert [token for window in model.asked for token in window] == list(range(length - 1))
    assert all(len(window) == 8 for window in model.asked[:-1])


def test_uniform_model():
    result = evaluate(Recorder(), make_tokens(100), 8)
    assert result.loss == pytest.approx(math.log(VOCAB_SIZE))
    assert result.perplexity == pytest.approx(VOCAB_SIZE)
    assert result.bits_per_byte is None


def test_modes_are_restored_and_gradients_are_not_made():
    model = make_model().train()
    model[1].eval()
    seen = []

    def spying_loss(model, inputs, targets):
        seen.append((model.training, torch.is_grad_enabled()))
        return loss_fn(model, inputs, targets)

    evaluate(model, make_tokens(50), 8, loss_fn=spying_loss)
    assert set(seen) == {(False, False)}
    assert model.training
    assert model[3].training
    assert not model[1].training


def test_bfloat16_is_close():
    model, tokens = make_model(), make_tokens(200)
    exact = evaluate(model, tokens, 8).loss
    rough = evaluate(model, tokens, 8, dtype=torch.bfloat16).loss
    assert rough == pytest.approx(exact, rel=0.01)
    assert rough != exact


def test_infinite_loss_has_infinite_perplexity():
    result = evaluate(make_model(), make_tokens(50), 8, loss_fn=lambda *_: torch.tensor(1e9))
    assert (result.loss, result.perplexity) == (1e9, math.inf)


def test_refuses():
    with pytest.raises(ValueError, match="the split to evaluate has 1 tokens: expected at least 2"):
        evaluate(make_model(), make_tokens(1), 8)
    with pytest.raises(ValueError, match="context_length is 0: expected 1 or more"):
        evaluate(make_model(), make_tokens(9), 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(make_model(), make_tokens(9), 8, batch_size=0)
