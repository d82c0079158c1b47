"""Compare every primitive with torch, at the sizes and against the tolerances of the assignment's tests.

    python packages/nnscratch/checks/tolerances.py

The table has one row per problem of the assignment, with the largest difference between the result of this package in
float32 and that of torch.nn, torch.nn.functional or torch.optim in float64 from the same inputs, relative to the value
where that is above 1. The exit status is 1 if a difference exceeds its tolerance, which is 1e-6 where the assignment
names none.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnscratch import (
    AdamW,
    CausalSelfAttention,
    Embedding,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    TransformerConfig,
    TransformerLM,
    clip_grad_norm,
    cosine_schedule,
    cross_entropy,
    scaled_dot_product_attention,
    softmax,
)

BATCH, QUERIES, KEYS = 4, 12, 16
CONFIG = TransformerConfig(
    vocab_size=10_000, context_length=16, d_model=64, num_layers=3, num_heads=4, d_ff=128, rope_theta=10_000.0
)


def rotated(x: Tensor) -> Tensor:
    """Return x of shape (..., length, d_k), rotated at positions 0, 1, … by products of complex numbers."""
    length, size = x.shape[-2:]
    angles = torch.outer(torch.arange(length), CONFIG.rope_theta ** -(torch.arange(0, size, 2).double() / size))
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def attention_of(weights: dict[str, Tensor], x: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
    """Return causal self-attention of x by torch.nn.functional, for weights named as in `CausalSelfAttention`."""
    q, k, v = (
        F.linear(x, weights[f"{name}_proj.weight"]).unflatten(-1, (CONFIG.num_heads, -1)).transpose(-3, -2)
        for name in "qkv"
    )
    gathered = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
    return F.linear(gathered.transpose(-3, -2).flatten(-2), weights["output_proj.weight"])


def feed_forward_of(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return SwiGLU of x by torch.nn.functional."""
    gate = F.silu(F.linear(x, weights["w1.weight"]))
    return F.linear(gate * F.linear(x, weights["w3.weight"]), weights["w2.weight"])


def norm_of(x: Tensor, weight: Tensor) -> Tensor:
    """Return RMSNorm of x by torch.nn.functional."""
    return F.rms_norm(x, x.shape[-1:], weight, eps=1e-5)


def block_of(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return a pre-norm block of x by torch.nn.functional."""
    x = x + attention_of(below(weights, "attn."), norm_of(x, weights["ln1.weight"]), rotated)
    return x + feed_forward_of(below(weights, "ffn."), norm_of(x, weights["ln2.weight"]))


def logits_of(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Return the logits of the model by torch.nn.functional."""
    x = F.embedding(ids, weights["token_embeddings.weight"])
    for layer in range(CONFIG.num_layers):
        x = block_of(below(weights, f"layers.{layer}."), x)
    return F.linear(norm_of(x, weights["ln_final.weight"]), weights["lm_head.weight"])


def below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def exact(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a module in float64."""
    return {name: weight.double() for name, weight in module.state_dict().items()}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference: absolute for values up to 1, relative above, as float32 rounds."""
    expected = theirs.detach().double()
    return float(((ours.detach().double() - expected).abs() / expected.abs().clamp(min=1)).max())


def layers() -> Iterator[tuple[str, float, float]]:
    """Compare the layers: (problem, largest difference, tolerance)."""
    x = torch.randn(BATCH, QUERIES, CONFIG.d_model)
    ids = torch.randint(CONFIG.vocab_size, (BATCH, QUERIES))
    linear, embedding = Linear(CONFIG.d_model, CONFIG.d_ff), Embedding(CONFIG.vocab_size, CONFIG.d_model)
    yield "linear", difference(linear(x), F.linear(x.double(), exact(linear)["weight"])), 1e-6
    yield "embedding", difference(embedding(ids), F.embedding(ids, exact(embedding)["weight"])), 1e-6
    norm = RMSNorm(CONFIG.d_model)
    nn.init.normal_(norm.weight)
    yield "rmsnorm", difference(norm(x), norm_of(x.double(), exact(norm)["weight"])), 1e-6
    gate = SwiGLU(CONFIG.d_model, CONFIG.d_ff)
    yield "positionwise_feedforward", difference(gate(x), feed_forward_of(exact(gate), x.double())), 1e-5
    rope = RotaryEmbedding(CONFIG.rope_theta, CONFIG.d_model, CONFIG.context_length)
    yield "rope", difference(rope(x), rotated(x.double())), 1e-6
    yield "softmax", max(difference(softmax(y, -1), F.softmax(y.double(), -1)) for y in (x, x + 100)), 1e-6
    yield "scaled_dot_product_attention", max(map(masked_attention, ((BATCH,), (2, BATCH)))), 1e-6
    attention = [CausalSelfAttention(CONFIG.d_model, CONFIG.num_heads, rope) for rope in (None, rope_of_heads())]
    ways = zip(attention, (lambda y: y, rotated), strict=True)
    errors = [difference(ours(x), attention_of(exact(ours), x.double(), rotate)) for ours, rotate in ways]
    yield "multihead_self_attention", max(errors), 1e-6


def rope_of_heads() -> RotaryEmbedding:
    """Return the rotary embedding of the model's heads."""
    return RotaryEmbedding(CONFIG.rope_theta, CONFIG.d_model // CONFIG.num_heads, CONFIG.context_length)


def masked_attention(batch: tuple[int, ...]) -> float:
    """Compare attention under a random mask, for inputs with these batch dimensions."""
    q, k, v = (torch.randn(*batch, length, CONFIG.d_model) for length in (QUERIES, KEYS, KEYS))
    mask = (torch.rand(*batch, QUERIES, KEYS) < 0.5) | torch.eye(QUERIES, KEYS, dtype=torch.bool)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask)
    return difference(scaled_dot_product_attention(q, k, v, mask), expected)


def model() -> Iterator[tuple[str, float, float]]:
    """Compare the block and the model, at full and at half length."""
    lm = TransformerLM(CONFIG)
    x, block = torch.randn(BATCH, QUERIES, CONFIG.d_model), lm.layers[0]
    yield "transformer_block", difference(block(x), block_of(exact(block), x.double())), 1e-6
    ids = torch.randint(CONFIG.vocab_size, (BATCH, CONFIG.context_length))
    cut = (ids, ids[:, : CONFIG.context_length // 2])
    yield "transformer_lm", max(difference(lm(part), logits_of(exact(lm), part)) for part in cut), 1e-4


def training() -> Iterator[tuple[str, float, float]]:
    """Compare the loss, the optimizer, the schedule and clipping."""
    logits, targets = torch.randn(8, 5), torch.randint(5, (8,))
    scaled = [(scale * logits, targets) for scale in (1, 1000)]
    errors = [difference(cross_entropy(*pair), F.cross_entropy(pair[0].double(), pair[1])) for pair in scaled]
    yield "cross_entropy", max(errors), 1e-4
    yield "adamw", adamw(), 1e-4
    settings = {"max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 7, "decay_steps": 21}
    rates = torch.tensor([cosine_schedule(step, **settings) for step in range(25)], dtype=torch.float64)
    wave = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 14)) / 2 for step in range(15)]
    by_hand = torch.tensor([*(step / 7 for step in range(7)), *wave, *[0.1] * 3], dtype=torch.float64)
    yield "learning_rate_schedule", difference(rates, by_hand), 1e-6
    ours = [nn.Parameter(torch.randn(5, 5)) for _ in range(6)]
    theirs = [nn.Parameter(parameter.detach().double()) for parameter in ours]
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):  # the last has no gradient
        one.grad = torch.randn(5, 5)
        other.grad = one.grad.double()
    clip_grad_norm(ours, 1e-2)
    nn.utils.clip_grad_norm_(theirs, 1e-2)
    pairs = zip(ours[:-1], theirs[:-1], strict=True)
    yield "gradient_clipping", max(difference(one.grad, other.grad) for one, other in pairs), 1e-6


def adamw() -> float:
    """Compare the weights after 1,000 steps of AdamW on a small regression."""
    settings = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    inputs, ours = torch.rand(1000, 4, 3), nn.Linear(3, 2, bias=False)
    theirs = copy.deepcopy(ours).double()
    for module, optimizer in (
        (ours, AdamW(ours.parameters(), **settings)),
        (theirs, torch.optim.AdamW(theirs.parameters(), **settings)),
    ):
        for x in inputs.to(module.weight.dtype):
            target = torch.stack((x[:, 0] + x[:, 1], -x[:, 2]), 1)
            optimizer.zero_grad()
            ((target - module(x)) ** 2).sum().backward()
            optimizer.step()
    return difference(ours.weight, theirs.weight)


def main() -> int:
    """Print one row per problem; return 1 if a difference exceeds its tolerance."""
    torch.manual_seed(0)
    rows = [*layers(), *model(), *training()]
    print(f"{'problem':<30}{'largest difference':>20}{'allowed':>12}")
    for problem, largest, allowed in rows:
        print(f"{problem:<30}{largest:>20.1e}{allowed:>12.0e}")
    return int(any(not largest <= allowed for _, largest, allowed in rows))


if __name__ == "__main__":
    sys.exit(main())
