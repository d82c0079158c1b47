"""Draw a bar chart of the measurements that `run.py --json FILE` wrote.

    python figure.py FILE OUT.svg|OUT.png [--threads N]

Seconds from the start of a process, from the first import. Left: training a vocabulary from a file. Right: encoding a
text with GPT-2's vocabulary to an array, or to a list if a library makes only lists.
Libraries that made other ids are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import Run, cases, has_other_ids, seconds_of

OURS, THEIRS, INK = "#2f7ed8", "#9aa0a6", "#7a7f85"  # readable on white and on black
CAP = 4.0
"""Longer bars than so many times our longest one are cut and hatched."""
NAMES = {"tokenizers-rc": "tokenizers 1.0rc"}
Bar = tuple[str, float]


def bars(runs: list[Run], case: tuple[str, str, str, int]) -> list[Bar]:
    """Return the name and seconds of each library at a text, the fastest way to call each, the fastest first."""
    found: dict[str, float] = {}
    for library in dict.fromkeys(run["library"] for run in runs):
        seconds = seconds_of(runs, case, library, "start")
        name = library.removesuffix("-batch")
        name = NAMES.get(name, name)
        if seconds and not has_other_ids(runs, case, library):
            found[name] = min(seconds, found.get(name, seconds))
    return sorted(found.items(), key=lambda bar: bar[1])


def draw(axes: Any, groups: list[tuple[str, list[Bar]]], title: str) -> None:
    """Draw groups of horizontal bars with their values and without an axis; very long bars are cut and marked."""
    limit = max(value for _, found in groups for name, value in found if name == "bpe") * CAP
    most = min(limit, max(value for _, found in groups for _, value in found))
    position = 0.0
    for heading, found in groups:
        axes.text(0, position - 0.75, heading, color=INK, fontsize=9, fontweight="bold", va="center")
        for name, value in found:
            own = name == "bpe"
            length = min(value, most)
            axes.barh(
                position, length, height=0.72, color=OURS if own else THEIRS, hatch="" if value == length else "//"
            )
            style = {"va": "center", "fontsize": 9, "color": INK, "fontweight": "bold" if own else "normal"}
            axes.text(-most * 0.02, position, name, ha="right", **style)
            axes.text(length + most * 0.02, position, f"{value:.2f} s", **style)
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

    runs = json.loads(options.json.read_text(encoding="utf-8"))["runs"]
    threads = options.threads or max(run["threads"] for run in runs)
    plural = "thread" if threads == 1 else "threads"
    panels = []
    for title, task in (
        (f"Import, read and train, {threads} {plural}", "train"),
        (f"Import, load GPT-2's vocabulary, read and encode, {threads} {plural}", "array"),
    ):
        rows = [case for case in cases(runs, task) if case[3] == threads and (task == "train" or case[1] == "gpt2")]
        groups = [(case[2], bars(runs, case)) for case in rows]
        if groups:
            panels.append((title, groups))
    if not panels:
        parser.error(f"{options.json} has no measurement with {threads} threads; choose another number")
    rows_drawn = max(sum(len(found) + 1.3 for _, found in groups) for _, groups in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 0.24 * rows_drawn + 0.6), squeeze=False)
    for axis, (title, groups) in zip(axes[0], panels, strict=True):
        draw(axis, groups, title)
    figure.tight_layout(w_pad=4)
    metadata = {"Date": None} if options.out.suffix == ".svg" else {}
    figure.savefig(options.out, transparent=True, dpi=160, bbox_inches="tight", metadata=metadata)


if __name__ == "__main__":
    main()
