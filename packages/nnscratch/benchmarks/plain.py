"""Time the fast code beside `nnscratch.reference` and print the ratios, for docs/from-maths-to-kernel.

    OMP_NUM_THREADS=1 python benchmarks/plain.py [--pairs 15] [--only RoPE softmax]

The sizes are those of the assignment's base model at batch size 8, in float32. A pair is one call of each, in changing
order, so that other load on the machine affects both alike. Times are the CPU time of the process. "Kept" counts the
tensors that a forward pass holds for its backward pass, without parameters and inputs.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch import Tensor

from nnscratch import (
    AdamW,
    Muon,
    RotaryEmbedding,
    functional,
    linear_cross_entropy,
    losses,
    next_token_probabilities,
    reference,
)
from nnscratch.attention_kernels import causal_attention

BATCH, LENGTH, WIDTH, HEADS, INNER, VOCAB = 8, 256, 512, 16, 1344, 10_000
Call = Callable[[], object]


def numbers(*shape: int) -> Tensor:
    """Return normal numbers that need a gradient."""
    return torch.randn(shape, requires_grad=True)


def layers() -> dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]]:
    """Return the plain function, the fast function and the arguments of both, by name."""
    rows = BATCH * LENGTH
    ids = torch.randint(VOCAB, (rows,))
    x, heads = numbers(rows, WIDTH), [numbers(BATCH, HEADS, LENGTH, WIDTH // HEADS) for _ in range(3)]
    w1, w2, w3 = numbers(INNER, WIDTH), numbers(WIDTH, INNER), numbers(INNER, WIDTH)
    positions = torch.arange(LENGTH)
    causal = positions[:, None] >= positions
    rope = RotaryEmbedding(10_000.0, WIDTH // HEADS, LENGTH)

    def fast_swiglu(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
        return functional.linear(functional.silu_gate(functional.linear(x, w1), functional.linear(x, w3)), w2)

    return {
        "linear": (reference.linear, functional.linear, [x, numbers(WIDTH, WIDTH)]),
        "embedding": (
            lambda w: reference.embedding(ids, w),
            lambda w: functional.embedding(ids, w),
            [numbers(VOCAB, WIDTH)],
        ),
        "RMSNorm": (reference.rms_norm, lambda x, gain: functional.rms_norm(x, gain, 1e-5), [x, numbers(WIDTH)]),
        "RoPE": (lambda q: reference.rotate(q, positions), rope, heads[:1]),
        "SwiGLU": (reference.swiglu, fast_swiglu, [x, w1, w2, w3]),
        "gate of SwiGLU": (
            lambda a, b: reference.silu(a) * b,
            functional.silu_gate,
            [numbers(rows, INNER), numbers(rows, INNER)],
        ),
        "softmax": (lambda z: reference.softmax(z, -1), lambda z: functional.softmax(z, -1), [numbers(rows, LENGTH)]),
        "causal attention": (lambda q, k, v: reference.attention(q, k, v, causal), causal_attention, heads),
        "cross-entropy": (
            lambda z: reference.cross_entropy(z, ids),
            lambda z: losses.cross_entropy(z, ids),
            [numbers(rows, VOCAB)],
        ),
        "output layer and loss": (
            lambda h, w: reference.cross_entropy(reference.linear(h, w), ids),
            lambda h, w: linear_cross_entropy(h, w, ids),
            [x, numbers(VOCAB, WIDTH)],
        ),
    }


def kept_bytes(function: Callable[..., Tensor], inputs: list[Tensor]) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, beside the inputs."""
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = function(*inputs)
    output.sum().backward()
    return sum(size for address, size in kept.items() if address not in {x.data_ptr() for x in inputs})


def differentiated(function: Callable[..., Tensor], inputs: list[Tensor]) -> Call:
    """Return a call of the function and its backward pass."""

    def call() -> None:
        output = function(*inputs)
        output.backward(torch.ones_like(output))
        for tensor in inputs:
            tensor.grad = None

    return call


def decoding() -> tuple[Call, Call]:
    """Return the plain and the fast output layer of one decoding step."""
    x, weight = torch.randn(1, WIDTH), torch.randn(VOCAB, WIDTH)

    def without_gradients(function: Callable[..., Tensor]) -> Call:
        def call() -> None:
            with torch.inference_mode():
                for _ in range(20):  # one takes about a millisecond
                    function(x, weight)

        return call

    return without_gradients(reference.linear), without_gradients(functional.linear)


def nucleus() -> tuple[Call, Call]:
    """Return the plain and the fast probabilities of one next token with top-p, from logits with a peak."""
    logits = 4 * torch.randn(1, VOCAB)

    def plain() -> None:
        for _ in range(20):
            reference.next_token_probabilities(logits[0], 1.0, 0.9)

    def fast() -> None:
        for _ in range(20):
            next_token_probabilities(logits, 1.0, top_p=0.9)

    return plain, fast


def adamw_steps() -> tuple[Call, Call]:
    """Return the plain and the fast update of the matrices of a block."""
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in [(WIDTH, WIDTH)] * 4 + [(INNER, WIDTH)] * 3]
    for param in params:
        param.grad = torch.randn_like(param)
    plain = [[param.detach().clone(), torch.zeros_like(param), torch.zeros_like(param)] for param in params]

    def call() -> None:
        for param, state in zip(params, plain, strict=True):
            weight, m, v = state
            state[:] = reference.adamw(weight, param.grad, m, v, 10, lr=1e-3)

    return call, AdamW(params, lr=1e-3).step


def muon_steps() -> tuple[Call, Call]:
    """Return the update of the matrices of a block as the page about Muon writes it, and the fast one."""
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in [(WIDTH, WIDTH)] * 4 + [(INNER, WIDTH)] * 3]
    for param in params:
        param.grad = torch.randn_like(param)
    copies = [param.detach().clone() for param in params]
    means = [torch.zeros_like(param) for param in params]

    def call() -> None:
        for param, source, mean in zip(copies, params, means, strict=True):
            mean.lerp_(source.grad, 1 - 0.95)
            x = source.grad.lerp(mean, 0.95)
            tall = x.shape[0] > x.shape[1]
            x = x.T if tall else x
            x = x / x.norm()
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            param.mul_(1 - 1e-3 * 0.1)
            param.sub_(1e-3 * max(1, param.shape[0] / param.shape[1]) ** 0.5 * (x.T if tall else x))

    return call, Muon(params).step


def compare(name: str, plain: Call, fast: Call, pairs: int, note: str = "") -> None:
    """Time pairs of calls and print the medians, and the median and quartiles of the ratios."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(pairs + 2):
        for which in ((0, 1), (1, 0))[index % 2]:
            begin = time.process_time()
            (plain, fast)[which]()
            if index >= 2:
                seconds[which].append(time.process_time() - begin)
    ratios = [slow / quick for slow, quick in zip(*seconds, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    times = f"{1e3 * median(seconds[0]):10.2f} ms{1e3 * median(seconds[1]):10.2f} ms"
    print(f"{name:24}{times}{median(ratios):8.2f} ({low:.2f} to {high:.2f})  {note}".rstrip(), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of calls (default 15)")
    parser.add_argument("--only", nargs="*", help="names of the rows to measure (default all)")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, {options.pairs} pairs")
    print(f"{'':24}{'plain':>13}{'fast':>13}   ratio (quartiles)  kept for the backward pass, plain and fast")
    for name, (plain, fast, inputs) in layers().items():
        if not options.only or name in options.only:
            kept = [f"{kept_bytes(function, inputs) / 1e6:.1f} MB" for function in (plain, fast)]
            for tensor in inputs:
                tensor.grad = None
            calls = differentiated(plain, inputs), differentiated(fast, inputs)
            compare(name, *calls, options.pairs, ", ".join(kept))
    updates = {"AdamW of a block": adamw_steps, "Muon of a block": muon_steps}
    for name, pair in {"20 decoding products": decoding, "20 times top-p": nucleus, **updates}.items():
        if not options.only or name in options.only:
            compare(name, *pair(), options.pairs)


if __name__ == "__main__":
    main()
