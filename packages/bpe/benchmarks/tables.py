"""Tables of the measurements of `run.py`, and a description of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from peers import TASKS

Run = dict[str, Any]
LIBRARIES = ["gigabpe", "rustbpe", "gigatoken", "tiktoken", "tokenizers"]
TITLES = {
    "train": "Training: seconds from a file to merges, and the time of the others relative to bpe",
    "array": "Encoding a string to an array of ids (encode_to_numpy), MB/s cold / warm, bpe's speed relative to others",
    "file": "Encoding a file to a file of ids (encode_file), MB/s cold / warm, and bpe's speed relative to the other",
    "list": "Encoding a string to a list of ids (encode), MB/s cold / warm, and bpe's speed relative to others",
}
NONE = "n/a"


def package(library: str) -> str:
    """Return the distribution of a library of `TASKS`."""
    return library.removesuffix("-batch")


def library_version(library: str) -> str | None:
    """Return the version of a library, or None if it is not installed."""
    if library == "bpe":
        import bpe

        return bpe.__version__
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Return the model of the processor."""
    file = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in file.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return the facts that figures depend on: processor, cores, system, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ["bpe", "numba", "numpy", *LIBRARIES]
    return {
        "processor": processor() if Path("/proc/cpuinfo").exists() else platform.processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: library_version(name) or "not installed" for name in packages},
    }


def machine_line() -> str:
    """Return the facts that figures of this package depend on, in one line."""
    facts = machine()
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("bpe", "numba", "numpy"))
    return f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}, {versions}"


def seconds_of(runs: Sequence[Run], task: str, text: str, threads: int, library: str) -> tuple[float, float] | None:
    """Return the median seconds of first and later calls (equal for training), or None without a measurement."""
    found = [
        run["seconds"]
        for run in runs
        if (run["task"], run["text"], run["threads"], run["library"]) == (task, text, threads, library)
    ]
    if not found:
        return None
    later = [seconds for calls in found for seconds in calls[1:]]
    cold = median(calls[0] for calls in found)
    return cold, median(later) if later else cold


def cases(runs: Sequence[Run], task: str) -> list[tuple[str, int, int, int]]:
    """Return the text, its size, the size of the vocabulary and the threads of each row of a table."""
    rows = ((run["text"], run["bytes"], run["vocab_size"], run["threads"]) for run in runs if run["task"] == task)
    return sorted(dict.fromkeys(rows), key=lambda row: (row[0], row[3]))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with the first column aligned left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def training_table(runs: Sequence[Run]) -> str:
    """Return the table for training."""
    peers = TASKS["train"][1:]
    header = ["text", "MB", "vocabulary", "threads", "bpe s"]
    header += [f"{peer} s" for peer in peers] + [f"{peer}/bpe" for peer in peers]
    rows = [[*header, "bpe peak MB", "tokens in common"]]
    for text, size, vocab_size, threads in cases(runs, "train"):
        times = {name: seconds_of(runs, "train", text, threads, name) for name in TASKS["train"]}
        own = times["bpe"]
        row = [text, f"{size / 1e6:.1f}", f"{vocab_size:,}", str(threads)]
        row += [f"{time[0]:.2f}" if time else NONE for time in times.values()]
        row += [f"{time[0] / own[0]:.2f}x" if own and (time := times[peer]) else NONE for peer in peers]
        mine = [run for run in runs if (run["task"], run["text"], run["threads"]) == ("train", text, threads)]
        peak = median([run["peak_mb"] for run in mine if run["library"] == "bpe"] or [0.0])
        common = [run["common"] for run in mine if run["library"] != "bpe"]
        rows.append([*row, f"{peak:,.0f}", f"{min(common):.1%}" if common else NONE])
    return aligned(rows)


def encoding_table(runs: Sequence[Run], task: str) -> str:
    """Return the table for one task of encoding."""
    libraries = TASKS[task]
    peers = list(dict.fromkeys(package(library) for library in libraries if library != "bpe"))
    rows = [["text", "MB", "threads", *libraries, *(f"bpe/{peer}" for peer in peers)]]
    for text, size, _, threads in cases(runs, task):
        times = {library: seconds_of(runs, task, text, threads, library) for library in libraries}
        row = [text, f"{size / 1e6:.1f}", str(threads)]
        for time in times.values():
            row.append(f"{size / 1e6 / time[0]:.0f} / {size / 1e6 / time[1]:.0f}" if time else NONE)
        own = times["bpe"]
        for peer in peers:
            # The faster way to call the same library, separately for cold and warm.
            others = [time for library in libraries if package(library) == peer and (time := times[library])]
            if own and others:
                cold, warm = (min(time[which] for time in others) / own[which] for which in (0, 1))
                row.append(f"{cold:.2f}x / {warm:.2f}x")
            else:
                row.append(NONE)
        rows.append(row)
    return aligned(rows)


def report(results: dict[str, Any]) -> str:
    """Return all tables, with the machine and the versions."""
    runs = results["runs"]
    lines = []
    for task, title in TITLES.items():
        if any(run["task"] == task for run in runs):
            lines += ["", title, "", training_table(runs) if task == "train" else encoding_table(runs, task)]
    facts = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines += ["", f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}"]
    lines += [f"{versions}; {results['date']}; processes per median: {results['repeats']}"]
    for name in LIBRARIES:
        if facts["versions"][name] == "not installed":
            lines.append(f"{name} is not installed, so its columns are {NONE}: pip install {name}")
    return "\n".join(lines)
