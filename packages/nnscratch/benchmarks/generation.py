"""Measure tokens per second of generation: with and without the cache, with 8-bit weights, for one prompt and a batch.

    OMP_NUM_THREADS=2 python benchmarks/generation.py [--models base small] [--rounds 5] [--new-tokens 256] …

The variants alternate, so that other load on the machine affects all alike; figures are medians over the rounds.
Decoding is greedy unless a temperature is given. The weights are random, which does not affect the speed.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from nnscratch import TransformerConfig, TransformerLM, generate, quantize_int8

MODELS = {
    "base": TransformerConfig(
        vocab_size=10_000, context_length=512, d_model=512, num_layers=4, num_heads=16, d_ff=1344
    ),
    "small": TransformerConfig(vocab_size=10_000, context_length=512, d_model=128, num_layers=4, num_heads=4, d_ff=344),
}


def in_turns(functions: dict[str, Callable[[int], object]], new_tokens: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each function for `new_tokens`, alternating after a short warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function(min(8, new_tokens))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function(new_tokens)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def report(config: TransformerConfig, options: argparse.Namespace) -> None:
    """Measure one model, and print a row per variant and the two ratios of interest."""
    torch.manual_seed(0)
    model = TransformerLM(config)
    size, length, new = options.batch_size, options.prompt_tokens, options.new_tokens
    prompts = torch.randint(config.vocab_size, (size, length))
    ragged = [row[index * length // (2 * size) :] for index, row in enumerate(prompts)]
    sampling = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p, "seed": 0}

    def call(
        prompts: Tensor | list[Tensor], use_cache: bool = True, model: TransformerLM = model
    ) -> Callable[[int], object]:
        return lambda new: generate(model, prompts, max_new_tokens=new, use_cache=use_cache, **sampling)

    uncached, alone, batch, mixed = (
        "one prompt, no cache",
        "one prompt",
        f"batch of {size}",
        f"{size} of many lengths",
    )
    functions = {uncached: call(prompts[:1], use_cache=False), alone: call(prompts[:1]), batch: call(prompts)}
    functions[mixed] = call(ragged)
    quantized = quantize_int8(model)
    alone_int8, batch_int8 = f"{alone}, int8", f"{batch}, int8"
    functions |= {alone_int8: call(prompts[:1], model=quantized), batch_int8: call(prompts, model=quantized)}
    seconds = in_turns(functions, new, options.rounds)
    single = (uncached, alone, alone_int8)
    rates = {name: new * (1 if name in single else size) / seconds[name] for name in functions}
    for name, rate in rates.items():
        print(f"  {name:24}{rate:10.1f} tokens/s", flush=True)
    print(
        f"  the cache is {rates[alone] / rates[uncached]:.1f} times as fast as recomputing all positions for each token"
    )
    print(f"  a batch of {size} has {rates[batch] / rates[alone]:.1f} times the throughput of one prompt at a time")
    print(f"  8-bit weights are {rates[alone_int8] / rates[alone]:.2f} times as fast for one prompt, and ", end="")
    print(f"{rates[batch_int8] / rates[batch]:.2f} times for the batch")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    for name, value in {"rounds": 5, "new-tokens": 256, "prompt-tokens": 16, "batch-size": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--temperature", type=float, default=0.0, help="default 0, greedy")
    parser.add_argument("--top-k", type=int, help="default: all tokens")
    parser.add_argument("--top-p", type=float, help="default: all tokens")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, float32, eager")
    print(f"{options.new_tokens} new tokens after {options.prompt_tokens}, {options.rounds} rounds")
    for name in options.models:
        print(f"{name}: {MODELS[name]}")
        report(MODELS[name], options)


if __name__ == "__main__":
    main()
