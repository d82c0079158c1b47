"""Measured runs that follow a power law."""

import math
from dataclasses import replace

from owt_leaderboard.budget import Measurement

ONE = Measurement(
    device="NVIDIA H100",
    dataset="owt",
    time_limit_seconds=60.0,
    vocab_size=32_000,
    context_length=512,
    num_layers=8,
    d_model=512,
    batch_size=64,
    parameters=41_000_000,
    tokens=100_000_000,
    tokens_per_second=2e6,
    flops=1e16,
    flops_per_second=4e14,
    training_share=0.9,
    loss=4.0,
    bits_per_byte=1.3,
)


def law(flops):
    return 400 * flops**-0.12


def measured(*flops, noise=()):
    errors = [*noise, *[0.0] * len(flops)]
    return [
        replace(ONE, flops=value, loss=law(value) * math.exp(error), time_limit_seconds=value / 1e14)
        for value, error in zip(flops, errors, strict=False)
    ]
