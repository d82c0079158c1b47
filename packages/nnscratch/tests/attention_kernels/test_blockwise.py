"""Attention in blocks against torch's attention in float64, with blocks of every size."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from nnscratch.attention_kernels import blockwise as module
from nnscratch.attention_kernels.blockwise import blockwise_attention


def heads(batch, queries, keys, d_k=8, d_v=6, dtype=torch.float32, group=1):
    """Queries, keys and values; `group` rows of the queries' batch share one of keys and values."""
    shapes = (batch * group, queries, d_k), (batch, keys, d_k), (batch, keys, d_v)
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def exact(q, k, v, grad, first_keys=None):
    inputs = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2])
    if first_keys is not None:
        late_enough = torch.arange(k.shape[-2]) >= first_keys.unsqueeze(-1)
        visible = visible & late_enough.repeat_interleave(len(q) // len(first_keys), dim=0)
    keys, values = (tensor.repeat_interleave(len(q) // max(1, len(k)), dim=0) for tensor in inputs[1:])
    output = F.scaled_dot_product_attention(inputs[0], keys, values, attn_mask=visible)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.double())]


def check(inputs, tolerance=1e-6, first_keys=None):
    output = blockwise_attention(*inputs, first_keys)
    grad = torch.randn_like(output)
    found = [output, *torch.autograd.grad(output, inputs, grad)]
    for ours, right in zip(found, exact(*inputs, grad, first_keys), strict=True):
        torch.testing.assert_close(ours.double(), right, atol=10 * tolerance, rtol=10 * tolerance)
    torch.testing.assert_close(output.double(), exact(*inputs, grad, first_keys)[0], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (7, 7), (8, 8), (9, 9), (20, 20), (3, 20), (17, 33)])
@pytest.mark.parametrize(("rows", "scores"), [(128, 2**19), (8, 100), (4, 1)])
def test_any_positions_and_blocks(monkeypatch, queries, keys, rows, scores):
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", rows)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", scores)
    check(heads(3, queries, keys))
    check(heads(2, queries, keys, group=3))


def test_default_block_sizes():
    check(heads(5, 300, 300, 16, 16))


@st.composite
def texts_and_windows(draw):
    """Positions and first keys of one or more sequences, from the beginnings of texts in each and a window."""
    queries = draw(st.integers(1, 20))
    keys = queries + draw(st.integers(0, 12))
    positions = torch.arange(keys - queries, keys)
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        begins = torch.tensor([0, *draw(st.lists(st.integers(0, keys), max_size=4))])
        begin_of_text = torch.where(begins <= positions[:, None], begins, 0).amax(-1)
        rows.append(torch.maximum(begin_of_text, positions - draw(st.integers(0, keys + 2))))
    return queries, keys, torch.stack(rows)


@given(texts_and_windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 100, 2**19]))
def test_windows_and_texts(positions, kv_heads, group, rows, scores):
    queries, keys, first_keys = positions
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "_QUERIES_AT_ONCE", rows)
        monkeypatch.setattr(module, "_SCORES_AT_ONCE", scores)
        check(heads(len(first_keys) * kv_heads, queries, keys, group=group), first_keys=first_keys)


def test_default_block_sizes_with_a_window():
    check(heads(5, 300, 330, 16, 16), first_keys=torch.arange(30, 330)[None] - 99)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_first_keys_of_no_use_change_nothing(dtype):
    inputs = heads(2, 90, 100)
    first_keys = torch.arange(-80, 10, dtype=dtype).clamp(max=0)[None]
    assert torch.equal(blockwise_attention(*inputs, first_keys), blockwise_attention(*inputs))


def test_an_empty_batch_with_first_keys():
    for sequences in (0, 1):
        assert blockwise_attention(*heads(0, 3, 4), torch.zeros(sequences, 3, dtype=torch.long)).shape == (0, 3, 6)


@pytest.mark.parametrize("what", ["window", "texts"])
def test_keys_that_no_query_of_a_block_attends_to_cost_nothing(what, monkeypatch):
    rows, span, positions = 8, 16, torch.arange(1024)
    first_keys = {"window": positions - span + 1, "texts": positions // span * span}[what]
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", rows)
    multiply, products = torch.bmm, []

    def counted(a, b):
        products.append(len(a) * a.shape[1] * a.shape[2] * b.shape[2])
        return multiply(a, b)

    monkeypatch.setattr(torch, "bmm", counted)
    for first in (None, first_keys[None]):
        products.append(0)
        output = blockwise_attention(*heads(2, 1024, 1024, 4, 4), first)
        output.backward(torch.ones_like(output))
    second = products.index(0, 1)
    # Seven products of 2 heads, and 4 features. Without first keys a query meets half the keys and half a block.
    per_key = 7 * 2 * 1024 * 4
    assert sum(products[:second]) == per_key * (1024 + rows) // 2
    assert sum(products[second:]) <= per_key * (span + rows)


@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch_and_one_position(batch):
    check(heads(batch, 1, 1))
    check(heads(batch, 1, 1, group=2))


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 2)
    inputs = heads(2, 5, 6, 3, 2, torch.float64, group=2)
    assert torch.autograd.gradcheck(blockwise_attention, inputs)
    assert torch.autograd.gradcheck(blockwise_attention, (*inputs, torch.tensor([[0, 1, 1, 3, 5]])))


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
@pytest.mark.parametrize("windows", [0, 1])
def test_memory_is_linear_in_the_positions_and_holds_shared_keys_once(group, windows):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        first_keys = torch.arange(500)[None] - 50 if windows else None
        blockwise_attention(*heads(2, 500, 500, 8, 8, group=group), first_keys)
    assert sum(kept) == 2 * 500 * (2 * 8 + group * (2 * 8 + 1)) + windows * 500


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("first_keys", [None, torch.tensor([[0, 0, 2, 3, 3]])])
def test_it_is_an_operator_that_the_compiler_keeps(first_keys, unchecked_shapes):
    inputs = heads(2, 5, 6, 4, 4, group=2)
    operators = torch.ops.nnscratch
    torch.library.opcheck(operators.blockwise_attention.default, (*inputs, first_keys))
    results = operators.blockwise_attention(*inputs, first_keys)
    for_gradient = (torch.randn_like(results[0]), *inputs, first_keys, *results)
    for_gradient = tuple(tensor if tensor is None else tensor.detach() for tensor in for_gradient)
    torch.library.opcheck(operators.blockwise_attention_backward.default, for_gradient)
    compiled = torch.compile(
        lambda q, k, v: 2 * blockwise_attention(q, k, v, first_keys), fullgraph=True, backend="aot_eager"
    )
    expected = 2 * blockwise_attention(*inputs, first_keys)
    torch.testing.assert_close(compiled(*inputs), expected)
    grad = torch.randn_like(expected)
    for ours, right in zip(
        torch.autograd.grad(compiled(*inputs), inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, right)
