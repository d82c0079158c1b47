"""Pairs of our primitives and those of torch, for timing forward and backward passes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import nnscratch
from nnscratch import TransformerConfig
from nnscratch.attention_kernels import causal_attention

Pair = tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]


class TorchSwiGLU(nn.Module):
    """SwiGLU with one product for both inputs of the gate."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_and_value, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for every vector."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


def primitives(config: TransformerConfig, batch_size: int, device: str) -> dict[str, Pair]:
    """Return our function, the one of torch, and the arguments of both, by name."""
    width, length, heads = config.d_model, config.context_length, config.num_heads
    rows = batch_size * length

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, requires_grad=True)

    x = numbers(batch_size, length, width)
    ids = torch.randint(config.vocab_size, (rows,), device=device)
    split = [numbers(batch_size, heads, length, config.d_k) for _ in range(3)]
    visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    weight, hidden = numbers(config.vocab_size, width), numbers(rows, width)
    logits = numbers(rows, config.vocab_size)
    pairs: dict[str, Pair] = {
        "Linear": (nnscratch.Linear(width, width), nn.Linear(width, width, bias=False), [x]),
        "Embedding": (nnscratch.Embedding(config.vocab_size, width), nn.Embedding(config.vocab_size, width), [ids]),
        "RMSNorm": (nnscratch.RMSNorm(width), nn.RMSNorm(width, eps=1e-5), [x]),
        "SwiGLU": (nnscratch.SwiGLU(width, config.d_ff), TorchSwiGLU(width, config.d_ff), [x]),
        "softmax": (lambda z: nnscratch.softmax(z, -1), lambda z: F.softmax(z, -1), [numbers(rows, length)]),
        "causal attention": (
            causal_attention,
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            split,
        ),
        "attention with a mask": (
            lambda q, k, v: nnscratch.scaled_dot_product_attention(q, k, v, visible),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, visible),
            split,
        ),
        "cross-entropy": (lambda z: nnscratch.cross_entropy(z, ids), lambda z: F.cross_entropy(z, ids), [logits]),
        "linear and cross-entropy": (
            lambda h, w: nnscratch.linear_cross_entropy(h, w, ids),
            lambda h, w: F.cross_entropy(F.linear(h, w), ids),
            [hidden, weight],
        ),
    }
    for ours, theirs, _ in pairs.values():
        for function in (ours, theirs):
            if isinstance(function, nn.Module):
                function.to(device)
    return pairs


def differentiated(
    function: Callable[..., Tensor], inputs: list[Tensor], compiled: bool, dtype: torch.dtype, device: str
) -> Callable[[], None]:
    """Return a call of the function and its backward pass, under autocast if `dtype` is narrow."""
    run = torch.compile(function, fullgraph=True) if compiled else function

    def call() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            output = run(*inputs)
        output.backward(torch.ones_like(output))
        for tensor in inputs:
            tensor.grad = None

    return call
