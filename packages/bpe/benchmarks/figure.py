"""Draw a bar chart of the measurements that `run.py --json FILE` wrote.

    python figure.py FILE OUT.svg|OUT.png [--threads N]

Left: seconds of training. Right: MB/s of encoding to an array, or to lists if a library makes only lists.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import Run, cases, seconds_of

OURS, THEIRS, INK = "#2f7ed8", "#9aa0a6", "#7a7f85"  # readable on white and on black
LABELS = {"english_novels_100": "English novels", "tinystories_train": "TinyStories", "owt_train": "OpenWebText"}
PEERS = {"train": ["gigabpe", "rustbpe", "tokenizers"], "encode": ["gigatoken", "tiktoken", "tokenizers"]}
Bar = tuple[str, float, str]


def training_bars(runs: list[Run], text: str, threads: int) -> list[Bar]:
    """Return name, seconds and label of each bar of a text."""
    times = {name: seconds_of(runs, "train", text, threads, name) for name in ["bpe", *PEERS["train"]]}
    return [(name, time[0], f"{time[0]:.2f} s") for name, time in times.items() if time]


def encoding_bars(runs: list[Run], text: str, threads: int, which: int) -> list[Bar]:
    """Return name, MB/s and label of each bar of a text; `which` is 0 for first calls, 1 for later calls."""
    size = next(run["bytes"] for run in runs if run["text"] == text)
    bars = []
    for name in ["bpe", *PEERS["encode"]]:
        task = "list" if name == "tokenizers" else "array"
        ways = [name, "gigatoken-batch"] if name == "gigatoken" else [name]
        times = [time[which] for way in ways if (time := seconds_of(runs, task, text, threads, way))]
        if times:
            speed = size / 1e6 / min(times)
            bars.append((name, speed, f"{speed:.0f} MB/s"))
    return bars


def draw(axes: Any, groups: list[tuple[str, list[Bar]]], title: str) -> None:
    """Draw groups of horizontal bars with their values and without an axis."""
    most = max(value for _, bars in groups for _, value, _ in bars)
    position = 0.0
    for heading, bars in groups:
        axes.text(0, position - 0.75, heading, color=INK, fontsize=9, fontweight="bold", va="center")
        for name, value, label in bars:
            own = name == "bpe"
            axes.barh(position, value, height=0.72, color=OURS if own else THEIRS)
            weight = "bold" if own else "normal"
            axes.text(-most * 0.02, position, name, ha="right", va="center", fontsize=9, color=INK, fontweight=weight)
            axes.text(value + most * 0.02, position, label, va="center", fontsize=9, color=INK, fontweight=weight)
            position += 1
        position += 1.3
    axes.set_ylim(position - 1.3, -1.3)
    axes.set_xlim(0, most * 1.25)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.axis("off")


def main() -> None:
    """Read the measurements and write the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, help="default: the largest number measured")
    options = parser.parse_args()
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bpe"  # equal figures give an identical file
    from matplotlib import pyplot as plt

    results = json.loads(options.json.read_text(encoding="utf-8"))
    runs = results["runs"]
    threads = options.threads or max(run["threads"] for run in runs)
    panels = []
    for title, task, which in (
        (f"Training, seconds, {threads} threads", "train", 0),
        (f"Encoding with GPT-2's vocabulary, first call, {threads} threads", "array", 0),
        (f"… later calls, {threads} threads", "array", 1),
    ):
        texts = dict.fromkeys(text for text, _, _, count in cases(runs, task) if count == threads and text in LABELS)
        groups = [
            (
                LABELS[text],
                training_bars(runs, text, threads) if task == "train" else encoding_bars(runs, text, threads, which),
            )
            for text in texts
        ]
        if groups:
            panels.append((title, groups))
    if not panels:
        parser.error(f"{options.json} has no measurement with {threads} threads of {', '.join(LABELS)}; choose others")
    rows = max(sum(len(bars) + 1.3 for _, bars in groups) for _, groups in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 0.26 * rows + 0.6), squeeze=False)
    for axis, (title, groups) in zip(axes[0], panels, strict=True):
        draw(axis, groups, title)
    figure.tight_layout(w_pad=4)
    metadata = {"Date": None} if options.out.suffix == ".svg" else {}
    figure.savefig(options.out, transparent=True, dpi=160, bbox_inches="tight", metadata=metadata)


if __name__ == "__main__":
    main()
