import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from nnscratch import cross_entropy, silu, softmax
from nnscratch.functional import dropout, relu_squared, silu_gate

values = st.floats(-50, 50, width=32)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("dim", [0, -1])
def test_softmax(shape, dim):
    x = torch.randn(shape)
    torch.testing.assert_close(softmax(x, dim), F.softmax(x, dim), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(softmax(x + 100, dim), F.softmax(x, dim), atol=1e-5, rtol=0)


@given(st.lists(values, min_size=1, max_size=20), st.sampled_from([0, 100, -1000]))
def test_softmax_is_a_distribution_that_no_shift_changes(row, shift):
    x = torch.tensor(row, dtype=torch.float64)
    result = softmax(x, 0)
    assert result.min() >= 0
    assert result.sum() == pytest.approx(1)
    torch.testing.assert_close(softmax(x + shift, 0), result, atol=1e-9, rtol=1e-9)


@given(st.lists(values, min_size=2, max_size=20))
def test_softmax_and_cross_entropy_do_not_overflow(row):
    x = torch.tensor(row) * 1000
    assert softmax(x, 0).isfinite().all()
    assert cross_entropy(x[None], torch.tensor([0])).isfinite()


def test_softmax_with_masked_entries():
    x = torch.tensor([[0.0, -math.inf], [-math.inf, -math.inf]])
    torch.testing.assert_close(softmax(x, -1), F.softmax(x, -1), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_of_narrow_types_is_computed_in_float32(dtype):
    x = torch.randn(4, 300).to(dtype)
    assert torch.equal(softmax(x, -1), softmax(x.float(), -1).to(dtype))


@pytest.mark.parametrize("function", [lambda x: softmax(x, 1), silu])
def test_gradients(function):
    assert torch.autograd.gradcheck(function, torch.randn(3, 4, dtype=torch.float64, requires_grad=True))


def test_silu():
    x = torch.cat((torch.randn(100), torch.tensor([-1e4, 0.0, 1e4])))
    torch.testing.assert_close(silu(x), F.silu(x), atol=1e-6, rtol=1e-6)


def test_silu_gate():
    x, y = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True).unbind()
    torch.testing.assert_close(silu_gate(x, y), F.silu(x) * y)
    assert torch.autograd.gradcheck(silu_gate, (x.detach().requires_grad_(), y.detach().requires_grad_()))


def test_relu_squared():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(relu_squared(x), F.relu(x).square())
    assert torch.autograd.gradcheck(relu_squared, x)
    with torch.no_grad():
        torch.testing.assert_close(relu_squared(x), F.relu(x).square())


def test_second_derivatives_are_refused_rather_than_wrong(model, config):
    loss = model.loss(*torch.randint(config.vocab_size, (2, 1, 8)))
    grad = torch.autograd.grad(loss, model.ln_final.weight, create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"does not require grad|once_differentiable"):
        grad.sum().backward()


def test_dropout_keeps_a_share_of_the_numbers_and_their_mean():
    x = torch.full((200, 500), 2.0, requires_grad=True)
    y = dropout(x, 0.2, training=True)
    assert set(y.unique().tolist()) == {0.0, 2.5}
    # The share of zeros has standard deviation sqrt(0.2 · 0.8 / 100,000) = 0.0013.
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.008)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 1.25))
    assert not torch.equal(y, dropout(x, 0.2, training=True))


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_dropout_returns_its_input_outside_of_training_and_without_a_share(p, training):
    x = torch.randn(3, 4)
    assert dropout(x, p, training) is x
