import math

import pytest
import torch
from torch import nn

from nnscratch import clip_grad_norm


def parameters(scale):
    params = [nn.Parameter(torch.zeros(shape)) for shape in ((5, 5), (3,), (2, 2, 2))]
    for param in params[:-1]:
        param.grad = scale * torch.randn_like(param)
    return params  # the last one has no gradient


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("max_norm", [1e-2, 1.0, math.inf])
def test_clipping_is_that_of_torch(scale, max_norm):
    params = parameters(scale)
    copies = [nn.Parameter(param.detach().clone()) for param in params]
    for copy, param in zip(copies, params, strict=True):
        copy.grad = None if param.grad is None else param.grad.clone()
    places = [param.grad for param in params]
    norm = clip_grad_norm(iter(params), max_norm)
    expected = nn.utils.clip_grad_norm_(copies, max_norm)
    torch.testing.assert_close(norm, expected, atol=1e-6, rtol=1e-6)
    for param, copy, place in zip(params, copies, places, strict=True):
        assert param.grad is place
        if place is not None:
            torch.testing.assert_close(param.grad, copy.grad, atol=1e-6, rtol=1e-6)


def test_a_single_tensor_and_nothing_to_clip():
    param = nn.Parameter(torch.zeros(4))
    assert clip_grad_norm(param, 1.0) == 0
    param.grad = torch.full((4,), 3.0)
    assert clip_grad_norm(param, 1.0).item() == pytest.approx(6)
    assert param.grad.norm().item() == pytest.approx(1, abs=1e-5)


def test_the_norm_is_nan_if_a_gradient_is():
    params = parameters(1.0)
    params[0].grad[0, 0] = math.nan
    assert clip_grad_norm(params, 1.0).isnan()


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_an_invalid_maximum_norm_is_refused(max_norm):
    with pytest.raises(ValueError, match=f"max_norm={max_norm!r} is out of range; choose a positive number"):
        clip_grad_norm(parameters(1.0), max_norm)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_sparse_gradients_count_every_row_once(max_norm):
    grads = [torch.randn(5, 3), torch.randn(7, 2)]
    dense = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    mixed = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for param, grad in zip(dense, grads, strict=True):
        param.grad = grad.clone()
    mixed[0].grad = grads[0].clone()
    rows = torch.tensor([[0, 3, 3]])
    mixed[1].grad = torch.sparse_coo_tensor(rows, torch.randn(3, 2), (7, 2), check_invariants=True)
    dense[1].grad = mixed[1].grad.to_dense()
    assert float(clip_grad_norm(mixed, max_norm)) == pytest.approx(float(clip_grad_norm(dense, max_norm)))
    for ours, theirs in zip(mixed, dense, strict=True):
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad)
