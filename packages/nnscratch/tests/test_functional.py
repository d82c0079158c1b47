import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from nnscratch import cross_entropy, perplexity, silu, softmax
from nnscratch.functional import relu_squared, silu_gate

values = st.floats(-50, 50, width=32)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("dim", [0, -1])
def test_softmax(shape, dim):
    x = torch.randn(shape)
    torch.testing.assert_close(softmax(x, dim), F.softmax(x, dim), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(softmax(x + 100, dim), F.softmax(x, dim), atol=1e-5, rtol=0)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=20), st.sampled_from([0, 100, -1000]))
def test_softmax_is_a_distribution_that_no_shift_changes(row, shift):
    x = torch.tensor(row, dtype=torch.float64)
    result = softmax(x, 0)
    assert result.min() >= 0
    assert result.sum() == pytest.approx(1)
    torch.testing.assert_close(softmax(x + shift, 0), result, atol=1e-9, rtol=1e-9)


@settings(deadline=None)
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


@pytest.mark.parametrize("shape", [(8,), (2, 8), (2, 3, 8)])
@pytest.mark.parametrize("scale", [1, 1000])
def test_cross_entropy(shape, scale):
    logits = scale * torch.randn(*shape)
    targets = torch.randint(8, shape[:-1])
    expected = F.cross_entropy(logits.view(-1, 8), targets.view(-1))
    torch.testing.assert_close(cross_entropy(logits, targets), expected, atol=1e-4, rtol=1e-6)


def test_cross_entropy_of_logits_with_a_large_offset():
    logits = torch.tensor([[1e7, 1e7 + 1]] * 2, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2)
    (grad,) = torch.autograd.grad(loss, logits)
    first = 1 / (1 + math.e)
    expected = torch.tensor([[first, -first], [first - 1, 1 - first]]) / 2
    torch.testing.assert_close(grad, expected)


def test_cross_entropy_gradient():
    targets = torch.randint(5, (2, 3))
    logits = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), logits)


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits, targets = torch.randn(64, 50).bfloat16(), torch.randint(50, (64,))
    assert torch.equal(cross_entropy(logits, targets), cross_entropy(logits.float(), targets))


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_their_number():
    assert cross_entropy(torch.zeros(3, 7), torch.tensor([0, 3, 6])).item() == pytest.approx(math.log(7))


def test_perplexity():
    assert perplexity(torch.tensor(math.log(7))).item() == pytest.approx(7)
    assert perplexity(0.0).item() == 1


def test_shapes_are_checked_here():
    with pytest.raises(Exception, match="targets"):
        cross_entropy(torch.zeros(3, 7), torch.tensor([0, 3]))


def test_second_derivatives_are_refused_rather_than_wrong(model, config):
    loss = model.loss(*torch.randint(config.vocab_size, (2, 1, 8)))
    grad = torch.autograd.grad(loss, model.ln_final.weight, create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"does not require grad|once_differentiable"):
        grad.sum().backward()
