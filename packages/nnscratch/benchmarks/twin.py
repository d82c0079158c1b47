"""The same language model in torch.nn, with joint products for q, k, v and for both inputs of the gate."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnscratch import TransformerConfig


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate adjacent pairs: by complex numbers, or in real arithmetic for the compiler, which fuses only that."""
    if torch.compiler.is_compiling():
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


class TwinBlock(nn.Module):
    """Transformer block in torch.nn."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.heads = config.num_heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.gate_and_value = nn.Linear(width, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the residual stream after the block."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(gathered.transpose(1, 2).flatten(-2))
        gate, value = self.gate_and_value(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Twin(nn.Module):
    """Transformer language model in torch.nn, with all logits in memory for the loss."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(TwinBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        frequencies = config.rope_theta ** -(torch.arange(0, config.d_k, 2) / config.d_k)
        angles = torch.outer(torch.arange(config.context_length), frequencies)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        x = self.embedding(inputs)
        for block in self.blocks:
            x = block(x, self.cos[: inputs.shape[1]], self.sin[: inputs.shape[1]])
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())
