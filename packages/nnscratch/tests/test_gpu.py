"""Comparison of a CUDA device with the CPU; run by `pytest -m gpu` on a machine with a GPU."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch import (
    AdamW,
    ReLUSquaredFeedForward,
    TransformerConfig,
    TransformerLM,
    clip_grad_norm,
    generate,
    linear_cross_entropy,
    losses,
)
from nnscratch.attention_kernels.triton_operator import flash_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
]

CONFIG = TransformerConfig(vocab_size=97, context_length=64, d_model=64, num_layers=2, num_heads=4, d_ff=168)


def model_and_tokens():
    torch.manual_seed(0)
    return TransformerLM(CONFIG), torch.randint(97, (4, 65))


def test_loss_and_gradients_are_those_of_the_cpu():
    model, tokens = model_and_tokens()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model, tokens = model.cuda(), tokens.cuda()
    on_gpu = model.loss(tokens[:, :-1], tokens[:, 1:])
    on_gpu.backward()
    torch.testing.assert_close(on_gpu.cpu(), loss, atol=1e-4, rtol=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.cpu(), expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_in_bfloat16_memorizes_a_batch(compiled, unchecked_shapes):
    model, tokens = model_and_tokens()
    model, tokens = model.cuda(), tokens.cuda()
    optimizer = AdamW(model.parameters(), lr=3e-3)
    loss_of = torch.compile(model.loss) if compiled else model.loss
    losses = []
    for _ in range(60):
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("soft_cap", [None, 15.0])
def test_the_loss_is_one_graph(soft_cap, unchecked_shapes):
    """A graph break, such as at the choice of a kernel, costs more than the compiler gains, and is silent."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = TransformerLM(replace(CONFIG, qk_norm=True, logit_soft_cap=soft_cap)).cuda()
    tokens = torch.randint(97, (4, 65), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        expected = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss = torch.compile(model.loss, fullgraph=True, dynamic=False)(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(loss, expected, atol=3e-2, rtol=3e-2)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_in_chunks(monkeypatch, compiled, unchecked_shapes):
    """The weight's gradient is the sum of those of three chunks, added in float32 by a product of torch's for CUDA."""
    torch.compiler.reset()
    monkeypatch.setattr(losses, "_GPU_CHUNK_LOGITS", 128 * 1000)
    hidden, weight = (torch.randn(rows, 64, device="cuda").bfloat16().requires_grad_() for rows in (384, 1000))
    targets = torch.randint(1000, (384,), device="cuda")
    function = torch.compile(linear_cross_entropy, fullgraph=True) if compiled else linear_cross_entropy
    function(hidden, weight, targets).backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = torch.autograd.grad(F.cross_entropy(exact[0] @ exact[1].T, targets), exact)
    for tensor, right in zip((hidden, weight), expected, strict=True):
        assert (tensor.grad - right).norm() <= 1e-2 * right.norm()


@pytest.mark.parametrize("kv_heads", [4, 1])
def test_attention_with_the_heads_of_large_models(kv_heads):
    heads = (4, kv_heads, kv_heads)
    q, k, v = (torch.randn(2, number, 512, 128, device="cuda").bfloat16().requires_grad_() for number in heads)
    output = flash_attention(q, k, v)
    grad = torch.randn_like(output)
    exact = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    expected = F.scaled_dot_product_attention(*exact, is_causal=True, enable_gqa=True)
    expected_grads = torch.autograd.grad(expected, exact, grad.double())
    torch.testing.assert_close(output.double(), expected, atol=3e-2, rtol=3e-2)
    for found, right in zip(torch.autograd.grad(output, (q, k, v), grad), expected_grads, strict=True):
        torch.testing.assert_close(found.double(), right, atol=6e-2, rtol=3e-2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("d_model", "d_ff"), [(1024, 4096), (80, 272)])
def test_a_feed_forward_network_with_squared_relu(monkeypatch, d_model, d_ff, compiled, unchecked_shapes):
    torch.compiler.reset()
    layer = ReLUSquaredFeedForward(d_model, d_ff, "cuda")
    x = torch.randn(3, 1000, d_model, device="cuda", requires_grad=True)
    expected = F.linear(F.relu(F.linear(x.double(), layer.w1.weight.double())).square(), layer.w2.weight.double())
    grad = torch.randn_like(x)
    inputs = (x, *layer.parameters())
    right = [expected, *torch.autograd.grad(expected, inputs, grad.double())]
    errors = []
    for fused in (False, True):
        monkeypatch.setattr(ReLUSquaredFeedForward, "fused", fused)
        with torch.autocast("cuda", torch.bfloat16):
            y = (torch.compile(layer, fullgraph=True) if compiled else layer)(x)
        found = [y, *torch.autograd.grad(y, inputs, grad.to(y.dtype))]
        assert [tensor.dtype for tensor in found] == [torch.bfloat16, *[torch.float32] * 3]
        errors.append([(tensor - other).norm() / other.norm() for tensor, other in zip(found, right, strict=True)])
    assert all(ours <= 1.1 * plain for plain, ours in zip(*errors, strict=True))
    assert max(errors[1]) <= 1e-2


def test_greedy_generation_is_that_of_the_cpu():
    model, tokens = model_and_tokens()
    expected = generate(model, tokens[:, :8], max_new_tokens=20, temperature=0.0)
    found = generate(model.cuda(), tokens[:, :8].cuda(), max_new_tokens=20, temperature=0.0)
    assert torch.equal(found.cpu(), expected)
