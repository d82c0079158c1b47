"""Peak FLOP/s by device, and model FLOPs utilisation (MFU)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

# Dense products of bfloat16 or float16 with float32 sums, in TFLOP/s, from NVIDIA's data sheets and architecture
# papers. The first entry that occurs in the device's name counts.
_TERAFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "GH200": 989.4,
    "H200 NVL": 835.0,
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "H800": 989.4,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 6000 Ada": 364.2,
    "RTX A6000": 154.8,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}

_FLOAT16_TERAFLOPS = {"T4": 65.0, "V100-PCIE": 112.0, "V100-SXM2": 125.0}  # devices without bfloat16

# Slower variants and slices of a device, whose names contain the same words.
_OTHERS = re.compile(r"\b(Laptop|Max-Q|MIG|SUPER|Ti|D)\b")


def peak_flops(name: str, dtype: torch.dtype) -> float | None:
    """Return the peak FLOP/s of a device in products of this dtype, or None if it is not known.

    Args:
        name: The name from `torch.cuda.get_device_name`.
        dtype: The dtype of the factors; only bfloat16 and float16 are in the table.
    """
    if dtype not in (torch.bfloat16, torch.float16) or _OTHERS.search(name):
        return None
    known = _TERAFLOPS if dtype == torch.bfloat16 else _TERAFLOPS | _FLOAT16_TERAFLOPS
    for part, teraflops in known.items():
        if re.search(rf"\b{part}\b", name):
            return teraflops * 1e12
    return None


@dataclass(frozen=True)
class Speed:
    """The two numbers that convert tokens per second into a utilisation (Chowdhery et al. 2022, appendix B)."""

    flops_per_token: float | None
    """Operations of a forward and backward pass for one token; None if the caller gave no number."""
    peak_flops: float | None
    """Peak FLOP/s of all devices together; None if not known."""

    def utilisation(self, tokens_per_second: float | None) -> float | None:
        """Return the MFU, from 0 to 1, or None if one of the numbers is not known."""
        if tokens_per_second is None or self.flops_per_token is None or self.peak_flops is None:
            return None
        return tokens_per_second * self.flops_per_token / self.peak_flops
