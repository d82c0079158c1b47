"""The choice between attention kernels, and attention with all scores in memory."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch import scaled_dot_product_attention
from nnscratch.attention_kernels import causal_attention, materialized


def qkv(*batch, queries=12, keys=16, features=8):
    return [torch.randn(*batch, length, features) for length in (queries, keys, keys)]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(("queries", "keys"), [(0, 4), (1, 5), (2, 2), (3, 7)])
def test_queries_belong_to_the_last_positions(batch, queries, keys):
    q, k, v = qkv(*batch, queries=queries, keys=keys)
    visible = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    torch.testing.assert_close(causal_attention(q, k, v), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("queries", "keys"), [(0, 4), (0, 0), (1, 5), (3, 7)])
def test_fewer_heads_of_keys_and_values(queries, keys, batch, kv_heads):
    q, k, v = torch.randn(*batch, 4, queries, 8), *torch.randn(2, *batch, kv_heads, keys, 8)
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]
    visible = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=visible, enable_gqa=True)
    output = causal_attention(*inputs)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn_like(output)
    for ours, exact in zip(
        torch.autograd.grad(output, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kv_batch", [(2, 3), (1, 4), (2, 0), (4,), (2, 8)])
def test_heads_that_do_not_divide_are_refused(kv_batch, unchecked_shapes):
    k = torch.randn(*kv_batch, 5, 8)
    with pytest.raises(ValueError, match=r"k has shape .*, expected the batch dimensions \(2, 4\) of q, or a divisor"):
        causal_attention(torch.randn(2, 4, 5, 8), k, k)


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="got 5 queries and 4 keys, expected at least as many keys"):
        causal_attention(*qkv(1, queries=5, keys=4))


@pytest.mark.parametrize(
    ("batch", "sequences"),
    [((), ()), ((3,), ()), ((2, 4), ()), ((2, 4), (1,)), ((2, 4), (2,)), ((2, 3, 4), (3,)), ((2, 3, 4), (2, 1))],
)
@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize(("queries", "keys"), [(0, 4), (1, 6), (3, 3), (70, 90)])
def test_first_keys_of_any_batch(queries, keys, batch, sequences, kv_heads):
    kv_batch = (*batch[:-1], kv_heads) if batch and kv_heads else batch
    q, k, v = torch.randn(*batch, queries, 8), *torch.randn(2, *kv_batch, keys, 8)
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]
    positions = torch.arange(keys - queries, keys)
    first_keys = (positions - torch.randint(keys, (*sequences, 1))).clamp(min=-2)
    late_enough = (torch.arange(keys) >= first_keys[..., None]).unsqueeze(-3)
    visible = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries) & late_enough
    expected = F.scaled_dot_product_attention(
        *inputs, attn_mask=visible if batch else visible[0], enable_gqa=bool(batch)
    )
    output = causal_attention(*inputs, first_keys)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn_like(output)
    for ours, exact in zip(
        torch.autograd.grad(output, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("sequences", [1, 2])
@pytest.mark.parametrize("queries", [1, 3])
def test_first_keys_compile_to_one_graph(queries, sequences, unchecked_shapes):
    q, k, v = qkv(2, 4, queries=queries, keys=9)
    first_keys = (torch.arange(9 - queries, 9) - torch.tensor([[2], [4]]))[:sequences]
    compiled = torch.compile(causal_attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, k, v, first_keys), causal_attention(q, k, v, first_keys))


def test_one_query_reads_only_the_keys_of_its_window(monkeypatch):
    q, k, v = qkv(2, 4, queries=1, keys=100)
    multiply, sizes = torch.bmm, []
    monkeypatch.setattr(torch, "bmm", lambda a, b: sizes.append(b.numel()) or multiply(a, b))
    causal_attention(q, k, v, torch.tensor([91]))
    causal_attention(q, k, v, torch.tensor([[91], [95]]))
    assert sizes == [2 * 4 * 9 * 8] * 4


@pytest.mark.parametrize("shape", [(), (4,), (3, 5), (1, 2, 5), (0, 5)])
def test_first_keys_of_another_shape_are_refused(shape, unchecked_shapes):
    q = torch.randn(2, 4, 5, 8)
    with pytest.raises(ValueError, match=r"first_keys has shape .*, expected \(2, 5\), or fewer that broadcast to it"):
        causal_attention(q, q, q, torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_first_keys_are_integers(dtype, unchecked_shapes):
    q = torch.randn(2, 4, 5, 8)
    with pytest.raises(ValueError, match=r"first_keys has dtype .*, expected integers such as torch.int32"):
        causal_attention(q, q, q, torch.zeros(5, dtype=dtype))


@pytest.mark.parametrize("masked", [False, True])
def test_without_gradients_the_queries_are_processed_in_parts(masked, monkeypatch):
    inputs = qkv(2, 3)
    mask = torch.rand(2, 1, 12, 16) < 0.5 if masked else None
    expected = scaled_dot_product_attention(*inputs, mask)
    monkeypatch.setattr(materialized, "_SCORES_AT_ONCE", 2 * 3 * 16 * 5)
    with torch.no_grad():
        torch.testing.assert_close(scaled_dot_product_attention(*inputs, mask), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask_shape", [(12, 16), (2, 1, 12, 16), (1, 6, 12, 16)])
@pytest.mark.parametrize("kv_heads", [1, 3])
def test_a_mask_with_fewer_heads_of_keys_and_values(mask_shape, kv_heads, monkeypatch):
    q, k, v = torch.randn(2, 6, 12, 8), *torch.randn(2, 2, kv_heads, 16, 8)
    mask = torch.rand(mask_shape) < 0.5
    mask[..., 0] = True
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(materialized.materialized_attention(q, k, v, mask), expected, atol=1e-6, rtol=1e-5)
    monkeypatch.setattr(materialized, "_SCORES_AT_ONCE", 2 * 6 * 16 * 5)
    with torch.no_grad():
        in_parts = materialized.materialized_attention(q, k, v, mask)
    torch.testing.assert_close(in_parts, expected, atol=1e-6, rtol=1e-5)
