import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch import CausalSelfAttention, Linear, RotaryEmbedding, scaled_dot_product_attention
from nnscratch.cache import LayerCache


def qkv(*batch, queries=12, keys=16, d_k=8, d_v=6, dtype=torch.float32):
    shapes = ((*batch, queries, d_k), (*batch, keys, d_k), (*batch, keys, d_v))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(batch, masked):
    inputs = qkv(*batch)
    mask = (torch.rand(*batch, 12, 16) < 0.5) | torch.eye(12, 16, dtype=torch.bool) if masked else None
    result = scaled_dot_product_attention(*inputs, mask)
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn_like(result)
    for ours, exact in zip(
        torch.autograd.grad(result, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask_shape", [(12, 16), (1, 12, 16), (2, 1, 12, 16), (1, 3, 12, 16)])
def test_mask_broadcasts(mask_shape):
    inputs = qkv(2, 3)
    mask = torch.rand(mask_shape) < 0.7
    mask[..., 0] = True
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    torch.testing.assert_close(scaled_dot_product_attention(*inputs, mask), expected, atol=1e-6, rtol=1e-5)


def test_gradcheck():
    inputs = qkv(2, queries=3, keys=4, d_k=3, d_v=2, dtype=torch.float64)
    mask = torch.ones(3, 4, dtype=torch.bool).tril()
    assert torch.autograd.gradcheck(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask), inputs)


def test_a_query_that_may_attend_to_nothing_gets_zeros():
    inputs = qkv(2)
    mask = torch.ones(12, 16, dtype=torch.bool)
    mask[3] = False
    result = scaled_dot_product_attention(*inputs, mask)
    assert result[:, 3].eq(0).all()
    result.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in inputs)
    assert inputs[0].grad[:, 3].eq(0).all()


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
@pytest.mark.parametrize("masked", [False, True])
def test_there_may_be_no_queries_or_no_keys(queries, keys, batch, masked):
    inputs = qkv(*batch, queries=queries, keys=keys)
    mask = torch.ones(*batch, queries, keys, dtype=torch.bool) if masked else None
    result, expected = scaled_dot_product_attention(*inputs, mask), F.scaled_dot_product_attention(*inputs, mask)
    assert torch.equal(result, expected)
    with torch.no_grad():
        assert torch.equal(scaled_dot_product_attention(*inputs, mask), expected)
    for gradient, tensor in zip(torch.autograd.grad(result.sum(), inputs), inputs, strict=True):
        assert torch.equal(gradient, torch.zeros_like(tensor))


def test_large_scores_do_not_overflow_and_equal_scores_take_the_mean():
    q, k, v = qkv(1)
    assert scaled_dot_product_attention(1e4 * q, k, v).isfinite().all()
    mean = scaled_dot_product_attention(0 * q, k, v)
    torch.testing.assert_close(mean, v.mean(1, keepdim=True).expand_as(mean))


def test_inputs_need_not_be_contiguous():
    q, k, v = (tensor.detach().transpose(1, 2).contiguous().transpose(1, 2) for tensor in qkv(2, 3))
    k, v = k[:, :1].expand(2, 3, -1, -1), v[:, :1].expand(2, 3, -1, -1)
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6, rtol=1e-5
    )


def test_bfloat16_is_as_exact_as_its_inputs():
    narrow = [tensor.detach().bfloat16() for tensor in qkv(4, queries=64, keys=64, d_k=32, d_v=32)]
    expected = F.scaled_dot_product_attention(*(tensor.double() for tensor in narrow))
    error = (scaled_dot_product_attention(*narrow) - expected).square().mean().sqrt()
    assert error <= 2**-8 * expected.square().mean().sqrt() * 2


@pytest.mark.parametrize("masked", [False, True])
def test_float16_does_not_overflow_where_its_inputs_and_outputs_fit(masked):
    q = k = torch.full((1, 1, 128), 25.0, dtype=torch.float16)
    mask = torch.ones(1, 1, dtype=torch.bool) if masked else None
    assert torch.equal(scaled_dot_product_attention(q, k, q, mask), q)
    q, k = torch.zeros(1, 1, 8, dtype=torch.float16), torch.zeros(1, 8192, 8, dtype=torch.float16)
    mask = torch.ones(1, 8192, dtype=torch.bool) if masked else None
    assert torch.equal(scaled_dot_product_attention(q, k, k + 10, mask), q + 10)


def test_float16_is_as_exact_as_its_inputs():
    inputs = [tensor.detach().half().requires_grad_() for tensor in qkv(4, queries=64, keys=64, d_k=24, d_v=32)]
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    mask = torch.ones(64, 64, dtype=torch.bool).tril(-1)
    result = scaled_dot_product_attention(*inputs, mask)
    expected = F.scaled_dot_product_attention(*wide, mask).nan_to_num()
    assert result[:, 0].eq(0).all()
    grad = torch.randn_like(expected).half()
    grads = torch.autograd.grad(result, inputs, grad)
    for ours, exact in zip((result, *grads), (expected, *exact_gradients(wide, mask, grad)), strict=True):
        assert ours.dtype == torch.float16
        assert (ours - exact).square().mean().sqrt() <= 2**-9 * exact.square().mean().sqrt()


def exact_gradients(inputs, mask, grad):
    """Gradients in the type of the inputs, of the queries that may attend to something."""
    seen = mask.any(-1)
    q, k, v = inputs
    output = F.scaled_dot_product_attention(q[:, seen], k, v, mask[seen])
    return torch.autograd.grad(output, inputs, grad[:, seen].to(output.dtype))


def reference(module, x, rope=None):
    q, k, v = (
        F.linear(x, projection.weight).unflatten(-1, (-1, module.head_size)).transpose(-3, -2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    if rope is not None:
        q, k = rope(q), rope(k)
    gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return F.linear(gathered.transpose(-3, -2).flatten(-2), module.output_proj.weight)


@pytest.mark.parametrize("heads", [{}, {"num_kv_heads": 2}, {"num_kv_heads": 1, "head_size": 6}], ids=str)
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("shape", [(2, 7), (2, 1), (7,), (2, 3, 5)])
def test_causal_self_attention(heads, rotate, shape):
    rope = RotaryEmbedding(10_000.0, heads.get("head_size", 4), 16) if rotate else None
    module, x = CausalSelfAttention(16, 4, rope, **heads), torch.randn(*shape, 16)
    torch.testing.assert_close(module(x), reference(module, x, rope), atol=1e-6, rtol=1e-5)
    grads = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    exact = torch.autograd.grad(reference(module, x, rope).square().sum(), list(module.parameters()))
    for ours, theirs in zip(grads, exact, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_positions_can_be_given_for_all_or_for_each_sequence():
    module, x = CausalSelfAttention(16, 4, RotaryEmbedding(10_000.0, 4, 16)), torch.randn(2, 5, 16)
    for positions in (torch.arange(5), torch.arange(5)[None], torch.arange(5).expand(2, 5)):
        torch.testing.assert_close(module(x, positions), module(x))
    spread = torch.stack((torch.arange(5), 2 * torch.arange(5)))
    torch.testing.assert_close(module(x, spread)[0], module(x)[0])
    assert not torch.allclose(module(x, spread)[1], module(x)[1])


def test_no_position_sees_a_later_one():
    module, x = CausalSelfAttention(16, 2), torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4:] = 0
    torch.testing.assert_close(module(x)[:, :4], module(changed)[:, :4], atol=0, rtol=0)


def test_qk_norm_makes_attention_independent_of_the_scale_of_its_inputs():
    module, x = CausalSelfAttention(16, 2, qk_norm=True), torch.randn(1, 6, 16)
    torch.testing.assert_close(module(100 * x), 100 * module(x), atol=1e-3, rtol=1e-3)
    assert {"q_norm.weight", "k_norm.weight"} < set(module.state_dict())


def test_qk_norm_over_all_heads():
    module, x = (
        CausalSelfAttention(16, 4, num_kv_heads=2, qk_norm=True, qk_norm_scope="all_heads"),
        torch.randn(3, 5, 16),
    )
    assert (module.q_norm.weight.shape, module.k_norm.weight.shape) == ((16,), (8,))
    module.q_norm.weight.data.uniform_(0.5, 2.0)
    q, k, v = (projection(x) for projection in (module.q_proj, module.k_proj, module.v_proj))
    q = F.rms_norm(q, (16,), module.q_norm.weight, 1e-5)
    k = F.rms_norm(k, (8,), module.k_norm.weight, 1e-5)
    q, k, v = (tensor.unflatten(-1, (-1, 4)).transpose(1, 2) for tensor in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(module(x), module.output_proj(expected.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("scope", ["head", "all_heads"])
def test_qk_norm_without_gains_equals_gains_of_one(scope):
    with_gains, without = (
        CausalSelfAttention(
            16, 4, RotaryEmbedding(100.0, 4, 9), num_kv_heads=2, qk_norm=True, qk_norm_scope=scope, qk_norm_gains=gains
        )
        for gains in (True, False)
    )
    names = without.state_dict().keys()
    assert with_gains.state_dict().keys() - names == {"q_norm.weight", "k_norm.weight"}
    without.load_state_dict({name: tensor for name, tensor in with_gains.state_dict().items() if name in names})
    x, grad = torch.randn(2, 3, 7, 16)
    results = []
    for module in (with_gains, without):
        given = x.clone().requires_grad_()
        output = module(given)
        params = [dict(module.named_parameters())[name] for name in names]
        grads = torch.autograd.grad(output, (given, *params), grad)
        results.append((output, module(x, cache=LayerCache(7)), *grads))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cached", [False, True])
def test_queries_keys_and_values_may_have_biases(cached):
    module, x = CausalSelfAttention(16, 4, num_kv_heads=2, qkv_bias=True), torch.randn(3, 5, 16)
    for projection in (module.q_proj, module.k_proj, module.v_proj):
        projection.bias.data.normal_()
    assert module.output_proj.bias is None
    q, k, v = (F.linear(x, p.weight, p.bias) for p in (module.q_proj, module.k_proj, module.v_proj))
    q, k, v = (tensor.unflatten(-1, (-1, 4)).transpose(1, 2) for tensor in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    output = module(x, cache=LayerCache(5) if cached else None)
    torch.testing.assert_close(output, module.output_proj(expected.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("pieces", [(7,), (3, 4), (1,) * 7, (5, 1, 1)])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_window_hides_what_is_before_it(pieces, documents, masked):
    module, x = CausalSelfAttention(16, 4, window=3), torch.randn(2, 7, 16)
    positions = torch.arange(7)
    starts = torch.tensor([[0, 0, 0, 0, 0, 5, 5], [0, 1, 1, 1, 4, 4, 4]]) if documents else torch.zeros(2, 7, dtype=int)
    visible = (positions <= positions[:, None]) & (positions > positions[:, None] - 3)
    visible = visible & (positions >= starts[:, :, None])
    expected = CausalSelfAttention(16, 4)
    expected.load_state_dict(module.state_dict())
    cache, outputs, start = LayerCache(7), [], 0
    for piece in pieces:
        end = start + piece
        mask = (positions[:end] <= positions[start:end, None]).expand(2, piece, end) if masked else None
        first = starts[:, start:end] if documents else None
        outputs.append(module(x[:, start:end], cache=cache, mask=mask, first_keys=first))
        start = end
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected(x, mask=visible))


def test_the_window_has_to_have_a_position():
    with pytest.raises(ValueError, match="window=0 is out of range; choose at least 1 position, or None for all"):
        CausalSelfAttention(16, 4, window=0)


@pytest.mark.parametrize("window", [None, 3])
def test_attention_dropout_sets_weights_to_zero(window):
    module, x = CausalSelfAttention(16, 4, num_kv_heads=2, window=window, dropout=0.3), torch.randn(2, 6, 16)
    torch.manual_seed(1)
    output = module(x)
    q, k, v = (p(x).unflatten(-1, (-1, 4)).transpose(1, 2) for p in (module.q_proj, module.k_proj, module.v_proj))
    k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
    positions = torch.arange(6)
    visible = (positions <= positions[:, None]) & (positions > positions[:, None] - (window or 6))
    weights = F.softmax((q @ k.mT / 2).masked_fill(~visible, -math.inf), dim=-1)
    torch.manual_seed(1)
    kept = torch.rand(weights.shape) >= 0.3
    expected = (weights * kept / 0.7) @ v
    torch.testing.assert_close(output, module.output_proj(expected.transpose(1, 2).flatten(2)))
    assert not torch.allclose(module(x), output)
    module.eval()
    torch.testing.assert_close(module(x), module.output_proj((weights @ v).transpose(1, 2).flatten(2)))


def test_attention_dropout_gives_zeros_and_no_gradient_where_nothing_is_attended_to():
    module, x = CausalSelfAttention(16, 4, num_kv_heads=2, dropout=0.3), torch.randn(2, 5, 16, requires_grad=True)
    positions = torch.arange(5)
    padding = torch.tensor([0, 3])
    mask = (positions >= padding[:, None, None]) & (positions <= positions[:, None])
    output = module(x, mask=mask)
    assert bool((output[1, :3] == 0).all())
    assert bool((output[0] != 0).all())
    output.sum().backward()
    assert bool(x.grad.isfinite().all())
    assert bool((x.grad[1, :3] == 0).all())
    assert module(x[:, :0]).shape == (2, 0, 16)


def test_attention_dropout_needs_our_own_attention():
    with pytest.raises(ValueError, match=r"dropout=0.1 has no effect on another attend function; choose 0, or leave"):
        CausalSelfAttention(16, 4, dropout=0.1, attend=F.scaled_dot_product_attention)


def test_the_shapes_of_weights_with_shared_keys_and_values():
    module = CausalSelfAttention(16, 4, num_kv_heads=2, head_size=6)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    matrices = {"q_proj": (24, 16), "k_proj": (12, 16), "v_proj": (12, 16), "output_proj": (16, 24)}
    assert shapes == {f"{name}.weight": shape for name, shape in matrices.items()}


@pytest.mark.parametrize("mask_shape", [(7, 7), (2, 7, 7), (1, 7, 7)])
def test_a_mask_with_shared_keys_and_values(mask_shape):
    module, x = CausalSelfAttention(16, 4, num_kv_heads=2), torch.randn(2, 7, 16)
    mask = torch.ones(mask_shape, dtype=torch.bool).tril()
    torch.testing.assert_close(module(x, mask=mask), module(x), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match=r"mask has shape .*, expected \(2, 4, 7, 7\), or a shape that broadcasts"):
        module(x, mask=mask[..., :6])


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("pieces", [(5,), (1, 1, 1, 1, 1), (3, 2)])
def test_cached_attention_equals_a_single_call(pieces, kv_heads):
    rope = RotaryEmbedding(10_000.0, 4, 16)
    module, x = CausalSelfAttention(16, 4, rope, num_kv_heads=kv_heads), torch.randn(2, 5, 16)
    cache = LayerCache(5)
    parts = [module(part, cache=cache) for part in x.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), module(x), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="got 1 positions, but the cache is full up to 5 of 5; reset it"):
        module(x[:, :1], cache=cache)
    cache.reset()
    torch.testing.assert_close(module(x[:1], cache=cache), module(x[:1]))


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("shape", [(2, 7), (2, 1), (7,), (2, 3, 5)])
def test_added_values(shape, kv_heads):
    module, x = CausalSelfAttention(16, 4, num_kv_heads=kv_heads), torch.randn(*shape, 16)
    added = torch.randn(*shape, 4 * kv_heads, requires_grad=True)

    def expected():
        q, k, v = (F.linear(x, projection.weight) for projection in (module.q_proj, module.k_proj, module.v_proj))
        q, k, v = (tensor.unflatten(-1, (-1, 4)).transpose(-3, -2) for tensor in (q, k, v + added))
        gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return F.linear(gathered.transpose(-3, -2).flatten(-2), module.output_proj.weight)

    result = module(x, added_values=added)
    torch.testing.assert_close(result, expected(), atol=1e-6, rtol=1e-5)
    inputs = [added, *module.parameters()]
    for ours, exact in zip(
        torch.autograd.grad(result.square().sum(), inputs),
        torch.autograd.grad(expected().square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pieces", [(5,), (1, 1, 1, 1, 1), (3, 2)])
def test_the_cache_keeps_added_values(pieces):
    module, x = CausalSelfAttention(16, 4, RotaryEmbedding(10_000.0, 4, 16)), torch.randn(2, 5, 16)
    added, cache = torch.randn(2, 5, 16), LayerCache(5)
    parts = zip(x.split(pieces, dim=1), added.split(pieces, dim=1), strict=True)
    result = torch.cat([module(part, cache=cache, added_values=values) for part, values in parts], dim=1)
    torch.testing.assert_close(result, module(x, added_values=added), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(result, module(x), atol=0.1)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("shape", [(2, 7), (7,), (2, 3, 5)])
def test_head_gates_multiply_what_each_head_gathered(shape, kv_heads):
    module, x = CausalSelfAttention(16, 4, num_kv_heads=kv_heads), torch.randn(*shape, 16)
    gates = torch.randn(*shape, 4)
    q, k, v = (F.linear(x, projection.weight) for projection in (module.q_proj, module.k_proj, module.v_proj))
    q, k, v = (tensor.unflatten(-1, (-1, 4)).transpose(-3, -2) for tensor in (q, k, v))
    gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(-3, -2)
    expected = F.linear((gates[..., None] * gathered).flatten(-2), module.output_proj.weight)
    torch.testing.assert_close(module(x, head_gates=gates), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match=r"head_gates has .* one gate for each head"):
        module(x, head_gates=gates[..., :1])


class Adapted(Linear):
    """A projection with something added, as low-rank adapters are."""

    def forward(self, x):
        return super().forward(x) + 1


def adapt(module):
    module.v_proj = Adapted(16, 16)


@pytest.mark.parametrize(
    "change",
    [
        adapt,
        lambda module: module.v_proj.register_forward_hook(lambda module, inputs, output: output + 1),
        lambda module: module.q_proj.register_forward_pre_hook(lambda module, inputs: inputs[0] * 2),
        lambda module: setattr(module, "k_proj", torch.nn.Sequential(module.k_proj, torch.nn.Tanh())),
    ],
)
def test_changed_projections_act_with_a_cache_and_without(unchecked_shapes, change):
    module, x = CausalSelfAttention(16, 4), torch.randn(2, 6, 16)
    before = module(x)
    change(module)
    after = module(x)
    assert not torch.allclose(after, before, atol=1e-2)
    with torch.no_grad():
        torch.testing.assert_close(module(x, cache=LayerCache(6)), after)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(x), after)


@pytest.mark.parametrize("num_heads", [0, 3])
def test_heads_must_divide_the_width(num_heads):
    with pytest.raises(ValueError, match=f"num_heads={num_heads} does not divide d_model=16; choose a divisor"):
        CausalSelfAttention(16, num_heads)


@pytest.mark.parametrize("num_kv_heads", [0, 3, 8])
def test_heads_of_keys_must_divide_those_of_queries(num_kv_heads):
    with pytest.raises(ValueError, match=f"num_kv_heads={num_kv_heads} does not divide num_heads=4; choose a divisor"):
        CausalSelfAttention(16, 4, num_kv_heads=num_kv_heads)
