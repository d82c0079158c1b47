"""Time generation with and without the cache, and one prompt at a time beside a batch, and print tokens per second.

    OMP_NUM_THREADS=2 python benchmarks/generation.py [--models base small] [--rounds 5] [--new-tokens 256] …

The kinds take turns, so that whatever else the machine does falls on all of them; the figures are medians over the
rounds. Tokens are drawn greedily unless a temperature is given; the weights are random, as they do not matter here.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from nnscratch import TransformerConfig, TransformerLM, generate

MODELS = {
    "base": TransformerConfig(
        vocab_size=10_000, context_length=512, d_model=512, num_layers=4, num_heads=16, d_ff=1344
    ),
    "small": TransformerConfig(vocab_size=10_000, context_length=512, d_model=128, num_layers=4, num_heads=4, d_ff=344),
}


def in_turns(functions: dict[str, Callable[[int], object]], new_tokens: int, rounds: int) -> dict[str, float]:
    """Return the median seconds that each takes for `new_tokens`, called in turns after a short call to warm up."""
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
    """Measure one model and print a line for each kind and the two ratios that matter."""
    torch.manual_seed(0)
    model = TransformerLM(config)
    size, length, new = options.batch_size, options.prompt_tokens, options.new_tokens
    prompts = torch.randint(config.vocab_size, (size, length))
    ragged = [row[index * length // (2 * size) :] for index, row in enumerate(prompts)]
    sampling = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p, "seed": 0}

    def call(prompts: Tensor | list[Tensor], use_cache: bool = True) -> Callable[[int], object]:
        return lambda new: generate(model, prompts, max_new_tokens=new, use_cache=use_cache, **sampling)

    anew, alone, batch, differing = "one prompt, no cache", "one prompt", f"batch of {size}", f"{size} of many lengths"
    functions = {anew: call(prompts[:1], use_cache=False), alone: call(prompts[:1]), batch: call(prompts)}
    functions[differing] = call(ragged)
    seconds = in_turns(functions, new, options.rounds)
    rates = {name: new * (1 if name in (anew, alone) else size) / seconds[name] for name in functions}
    for name, rate in rates.items():
        print(f"  {name:24}{rate:10.1f} tokens/s", flush=True)
    print(f"  the cache is {rates[alone] / rates[anew]:.1f} times as fast as computing all positions for each token")
    print(f"  a batch of {size} has {rates[batch] / rates[alone]:.1f} times the throughput of one prompt at a time")


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
