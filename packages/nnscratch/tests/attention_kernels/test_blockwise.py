"""Attention in blocks against torch's attention in float64, with blocks of every size."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch.attention_kernels import blockwise as module
from nnscratch.attention_kernels.blockwise import blockwise_attention


def heads(batch, queries, keys, d_k=8, d_v=6, dtype=torch.float32, group=1):
    """Queries, keys and values; `group` rows of the queries' batch share one of keys and values."""
    shapes = (batch * group, queries, d_k), (batch, keys, d_k), (batch, keys, d_v)
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def exact(q, k, v, grad):
    inputs = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2])
    keys, values = (tensor.repeat_interleave(len(q) // max(1, len(k)), dim=0) for tensor in inputs[1:])
    output = F.scaled_dot_product_attention(inputs[0], keys, values, attn_mask=visible)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.double())]


def check(inputs, tolerance=1e-6):
    output = blockwise_attention(*inputs)
    grad = torch.randn_like(output)
    found = [output, *torch.autograd.grad(output, inputs, grad)]
    for ours, right in zip(found, exact(*inputs, grad), strict=True):
        torch.testing.assert_close(ours.double(), right, atol=10 * tolerance, rtol=10 * tolerance)
    torch.testing.assert_close(output.double(), exact(*inputs, grad)[0], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (7, 7), (8, 8), (9, 9), (20, 20), (3, 20), (17, 33)])
@pytest.mark.parametrize(("rows", "scores"), [(128, 2**19), (8, 100), (4, 1)])
def test_any_positions_and_blocks(monkeypatch, queries, keys, rows, scores):
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", rows)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", scores)
    check(heads(3, queries, keys))
    check(heads(2, queries, keys, group=3))


def test_default_block_sizes():
    check(heads(5, 300, 300, 16, 16))


@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch_and_one_position(batch):
    check(heads(batch, 1, 1))
    check(heads(batch, 1, 1, group=2))


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 2)
    assert torch.autograd.gradcheck(blockwise_attention, heads(2, 5, 6, 3, 2, torch.float64, group=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_errors_are_no_larger_than_those_of_torch(dtype):
    q, k, v = heads(16, 200, 200, 32, 32, dtype)
    output = blockwise_attention(q, k, v)
    grad = torch.randn_like(output)
    ours = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    output = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    theirs = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    for mine, peer, right in zip(ours, theirs, exact(q, k, v, grad), strict=True):
        error, peer_error = ((tensor.double() - right).square().mean().sqrt() for tensor in (mine, peer))
        assert error <= 1.1 * peer_error


def test_large_scores_do_not_overflow():
    q, k, v = heads(2, 40, 40)
    output = blockwise_attention(1e4 * q, k, v)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in (q, k, v))


def test_inputs_and_gradients_may_be_views():
    q, k, v = (tensor.detach().mT.contiguous().mT.requires_grad_() for tensor in heads(2, 9, 9, 4, 4))
    output = blockwise_attention(q, k, v)
    grad = torch.randn(1, 9, 1).expand(2, 9, 4)
    for ours, right in zip([output, *torch.autograd.grad(output, (q, k, v), grad)], exact(q, k, v, grad), strict=True):
        torch.testing.assert_close(ours.double(), right, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("group", [1, 3])
def test_memory_is_linear_in_the_positions_and_holds_shared_keys_once(group):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        blockwise_attention(*heads(2, 500, 500, 8, 8, group=group))
    assert sum(kept) == 2 * 500 * (2 * 8 + group * (2 * 8 + 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_it_is_an_operator_that_the_compiler_keeps(unchecked_shapes):
    inputs = heads(2, 5, 6, 4, 4, group=2)
    torch.library.opcheck(torch.ops.nnscratch.blockwise_attention.default, tuple(inputs))
    compiled = torch.compile(lambda q, k, v: 2 * blockwise_attention(q, k, v), fullgraph=True, backend="aot_eager")
    expected = 2 * blockwise_attention(*inputs)
    torch.testing.assert_close(compiled(*inputs), expected)
    grad = torch.randn_like(expected)
    for ours, right in zip(
        torch.autograd.grad(compiled(*inputs), inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, right)
