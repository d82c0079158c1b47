"""Measure the peak memory of training steps of one model in this process, and print it in MB.

    python memory.py ours|torch eager|compiled float32|bfloat16 [DEVICE] [sizes as JSON]

On a GPU the figure is the memory allocated by torch, on a CPU the resident memory beyond that of a process that has
only imported torch.
"""

import json
import sys
from pathlib import Path

import torch


def resident(field: str) -> float:
    """Return a memory figure of this process in MB (Linux): VmRSS, the current, or VmHWM, the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(field)


def main() -> None:
    """Measure the steps that the arguments describe."""
    which, mode, dtype, device, sizes = sys.argv[1:6]
    before = resident("VmRSS") if device == "cpu" else 0.0
    from steps import make_step

    step = make_step(which, mode == "compiled", getattr(torch, dtype), device, json.loads(sizes))
    for _ in range(2):
        step()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # Reset the peak, which includes the compiler.
        step()
        print(resident("VmHWM") - before)
    else:
        torch.cuda.reset_peak_memory_stats()
        step()
        print(torch.cuda.max_memory_allocated() / 1e6)


if __name__ == "__main__":
    main()
