"""Losses and text of one small seeded model, as numbers: a change that moves them must be meant."""

import pytest
import torch

from nnscratch import AdamW, CombinedOptimizer, Muon, TransformerConfig, TransformerLM, generate

GOLDEN = {
    ("pre", "swiglu", "adamw"): (
        [4.447902, 4.285129, 4.130545, 3.984966, 3.848398, 3.720129, 3.598966, 3.483584],
        [19, 46, 36, 58, 30, 8, 57, 13, 8, 14, 57, 46],
        [19, 51, 5, 56, 45, 58, 8, 25, 19, 19, 46, 45],
    ),
    ("post", "silu", "muon"): (
        [4.423682, 4.284122, 4.1516, 4.026661, 3.909463, 3.799671, 3.6965, 3.598936],
        [39, 21, 39, 21, 39, 51, 48, 8, 34, 48, 8, 34],
        [21, 56, 3, 52, 48, 58, 4, 29, 22, 22, 48, 56],
    ),
    ("none", "relu_squared", "adamw"): (
        [9.962142, 6.559065, 5.498404, 4.982502, 4.658491, 4.430214, 4.258464, 4.122181],
        [1, 58, 1, 4, 40, 14, 14, 14, 27, 29, 3, 22],
        [3, 48, 4, 58, 49, 58, 4, 28, 19, 26, 46, 54],
    ),
}
"""The losses of eight steps, the greedy continuation and a sampled one, for each choice of norm, FFN and optimizer."""


def train(norm, ffn, optimizer_name):
    """Eight steps on the same sixteen windows of an arithmetic text."""
    torch.manual_seed(7)
    config = TransformerConfig(
        vocab_size=61, context_length=24, d_model=32, num_layers=2, num_heads=4, d_ff=64, norm=norm, ffn=ffn
    )
    model = TransformerLM(config)
    tokens = (torch.arange(16)[:, None] * 7 + torch.arange(25) * torch.arange(25) * 3) % 61
    matrices = [parameter for parameter in model.layers.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if all(parameter is not matrix for matrix in matrices)]
    if optimizer_name == "adamw":
        optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    else:
        optimizer = CombinedOptimizer([Muon(matrices, lr=0.02), AdamW(others, lr=3e-3)])
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("choice", GOLDEN, ids="-".join)
def test_losses_and_continuations(choice):
    losses, greedy, sampled = GOLDEN[choice]
    model, measured = train(*choice)
    assert measured == pytest.approx(losses, abs=2e-4)  # products are summed in another order on other CPUs
    prompt = torch.tensor([[0, 3, 12]])
    assert generate(model, prompt, max_new_tokens=12, temperature=0.0)[0, 3:].tolist() == greedy
    assert generate(model, prompt, max_new_tokens=12, top_p=0.9, seed=5)[0, 3:].tolist() == sampled
