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


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="got 5 queries and 4 keys, expected at least as many keys"):
        causal_attention(*qkv(1, queries=5, keys=4))


@pytest.mark.parametrize("masked", [False, True])
def test_without_gradients_the_queries_are_processed_in_parts(masked, monkeypatch):
    inputs = qkv(2, 3)
    mask = torch.rand(2, 1, 12, 16) < 0.5 if masked else None
    expected = scaled_dot_product_attention(*inputs, mask)
    monkeypatch.setattr(materialized, "_SCORES_AT_ONCE", 2 * 3 * 16 * 5)
    with torch.no_grad():
        torch.testing.assert_close(scaled_dot_product_attention(*inputs, mask), expected, atol=1e-6, rtol=1e-5)
