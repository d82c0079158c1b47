"""Time training steps of nnscratch beside the same model built from torch.nn, in one run, and print the ratios.

    OMP_NUM_THREADS=2 python benchmarks/run.py [--rounds 20] [--batch-size 32] …

The two take turns, so that whatever else the machine does falls on both; the figures are medians.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import nnscratch
from nnscratch import AdamW, TransformerConfig, TransformerLM, linear_cross_entropy, scaled_dot_product_attention


class PeerBlock(nn.Module):
    """The block in the words of torch.nn, with one product for q, k, v and one for both inputs of the gate."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.heads = config.num_heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.gate_and_value = nn.Linear(width, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """Return the residual stream after the block; `turns` are the rotary embedding's complex numbers."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        q, k = (torch.view_as_real(torch.view_as_complex(t.unflatten(-1, (-1, 2))) * turns).flatten(-2) for t in (q, k))
        gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(gathered.transpose(1, 2).flatten(-2))
        gate, value = self.gate_and_value(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Peer(nn.Module):
    """The same architecture as `TransformerLM`, built from torch.nn."""

    turns: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(PeerBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        frequencies = config.rope_theta ** -(torch.arange(0, config.head_size, 2) / config.head_size)
        angles = torch.outer(torch.arange(config.context_length), frequencies)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        x = self.embedding(inputs)
        for block in self.blocks:
            x = block(x, self.turns[: inputs.shape[1]])
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def side_by_side(ours: Callable[[], None], peer: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both, called in turns after two rounds to warm up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 2):
        for function, times in zip((ours, peer), seconds, strict=True):
            start = time.perf_counter()
            function()
            if index >= 2:
                times.append(time.perf_counter() - start)
    return median(seconds[0]), median(seconds[1])


def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    """Forward, backward, update."""
    model.loss(*batch).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def differentiated(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], None]:
    """Return a call of the function with its backward pass."""

    def call() -> None:
        output = function(*inputs)
        output.backward(torch.ones_like(output))
        for tensor in inputs:
            tensor.grad = None

    return call


def primitives(config: TransformerConfig, batch_size: int) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Return, by name, forward and backward of a primitive here and in torch."""

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, requires_grad=True)

    rows, width, length = batch_size * config.context_length, config.d_model, config.context_length
    ids = torch.randint(config.vocab_size, (rows,))
    norm, peer_norm = nnscratch.RMSNorm(width), nn.RMSNorm(width, eps=1e-5)
    x = numbers(rows, width)
    heads = [numbers(batch_size, config.num_heads, length, config.head_size) for _ in range(3)]
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    weight = numbers(config.vocab_size, width)
    hidden = numbers(rows, width)
    scores = numbers(batch_size, config.num_heads, length, length)
    return {
        "RMSNorm": (differentiated(norm, x), differentiated(peer_norm, x)),
        "softmax": (
            differentiated(lambda z: nnscratch.softmax(z, -1), scores),
            differentiated(lambda z: F.softmax(z, -1), scores),
        ),
        "attention with a mask": (
            differentiated(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask), *heads),
            differentiated(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), *heads),
        ),
        "linear and cross-entropy": (
            differentiated(lambda h, w: linear_cross_entropy(h, w, ids), hidden, weight),
            differentiated(lambda h, w: F.cross_entropy(F.linear(h, w), ids), hidden, weight),
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "rounds": 20,
        "batch-size": 32,
        "vocab-size": 2048,
        "context-length": 128,
        "d-model": 128,
        "num-layers": 4,
        "num-heads": 4,
        "d-ff": 344,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    options = vars(parser.parse_args())
    rounds, batch_size = options.pop("rounds"), options.pop("batch_size")
    config = TransformerConfig(**options)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, float32, eager")
    print(f"{config}, batch size {batch_size}, {rounds} rounds")
    print(f"{'':28}{'nnscratch':>12}{'torch':>12}{'ratio':>8}")

    def report(name: str, ours: Callable[[], None], peer: Callable[[], None]) -> None:
        our_seconds, peer_seconds = side_by_side(ours, peer, rounds)
        milliseconds = f"{1e3 * our_seconds:9.2f} ms{1e3 * peer_seconds:9.2f} ms"
        print(f"{name:28}{milliseconds}{our_seconds / peer_seconds:8.2f}", flush=True)

    batch = tuple(torch.randint(config.vocab_size, (2, batch_size, config.context_length)))
    model, peer = TransformerLM(config), Peer(config)
    optimizer, peer_optimizer = AdamW(model.parameters()), torch.optim.AdamW(peer.parameters(), fused=True)
    report(
        "training step",
        lambda: training_step(model, optimizer, batch),
        lambda: training_step(peer, peer_optimizer, batch),
    )
    report("forward and backward", lambda: model.loss(*batch).backward(), lambda: peer.loss(*batch).backward())
    report("optimizer step", lambda: optimizer.step(), lambda: peer_optimizer.step())
    for name, (ours, theirs) in primitives(config, batch_size).items():
        report(name, ours, theirs)


if __name__ == "__main__":
    main()
