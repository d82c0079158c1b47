"""Tables of the measurements of `run.py`, and a description of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

Run = dict[str, Any]
PACKAGES = ["gigatoken", "gigabpe", "tokenizers", "iree-tokenizer", "quicktok-v1", "tiktoken", "rustbpe"]
TASKS = {
    "array": "encoding a text to an array",
    "list": "encoding a string to a list",
    "file": "encoding a file to a file",
    "train": "training from a file",
    "specials": "16,000 special tokens, seconds",
}
CLOCKS = {
    "start": "seconds from the start of a process",
    "cold": "first call of a tokenizer, MB/s",
    "warm": "later calls, MB/s",
}


def package_version(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    if name == "bpe":
        import bpe

        return bpe.__version__
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Return the model of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return the facts that figures depend on: processor, cores, system, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in ["bpe", "numpy", "regex", *PACKAGES]},
    }


def machine_line(facts: dict[str, Any] | None = None) -> str:
    """Return the facts that figures depend on in one line."""
    facts = facts or machine()
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number)
    return f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}, {versions}"


def seconds_of(runs: Sequence[Run], case: tuple[str, str, str, int], library: str, clock: str) -> float | None:
    """Return the median seconds by one clock of a library at (task, vocabulary, text, threads), or None."""
    found = [run for run in runs if (*_case(run), run["library"]) == (*case, library)]
    if not found and case[0] == "array":  # of a library that makes only lists
        found = [run for run in runs if (*_case(run), run["library"]) == ("list", *case[1:], library)]
    seconds = [value for run in found for value in run["seconds"].get(clock, [])]
    return median(seconds) if seconds else None


def has_other_ids(runs: Sequence[Run], case: tuple[str, str, str, int], library: str) -> bool:
    """Return whether a library made other ids than bpe at (task, vocabulary, text, threads)."""
    return any(run.get("other_ids") for run in runs if (*_case(run), run["library"]) == (*case, library))


def _case(run: Run) -> tuple[str, str, str, int]:
    return run["task"], run["vocabulary"], run["text"], run["threads"]


def cases(runs: Sequence[Run], task: str) -> list[tuple[str, str, str, int]]:
    """Return (task, vocabulary, text, threads) of each row of a task, in the order of measurement."""
    return list(dict.fromkeys(_case(run) for run in runs if run["task"] == task))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with the first column aligned left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def table(runs: Sequence[Run], task: str, clock: str) -> str:
    """Return a table of one task and clock: rows of texts, columns of libraries, each with its seconds over ours."""
    rows = cases(runs, task)
    sizes = {run["text"]: run["bytes"] / 1e6 for run in runs}
    every = dict.fromkeys(run["library"] for run in runs)
    columns = [name for name in every if any(seconds_of(runs, case, name, clock) for case in rows)]
    lines = [["text", "MB", "vocabulary", "threads", *columns]]
    for case in rows:
        _, vocabulary, text, threads = case
        own = seconds_of(runs, case, "bpe", clock)
        line = [text, f"{sizes[text]:.1f}", vocabulary, str(threads)]
        for name in columns:
            seconds = seconds_of(runs, case, name, clock)
            speed = clock in ("cold", "warm") and task != "train"
            value = "" if seconds is None else f"{sizes[text] / seconds:.0f}" if speed else f"{seconds:.3f}"
            ratio = f" {seconds / own:6.2f}x" if seconds and own and name != "bpe" else ""
            mark = "≠" if value and has_other_ids(runs, case, name) else ""
            line.append(mark + value + ratio)
        lines.append(line)
    return aligned(lines)


def memory_table(runs: Sequence[Run]) -> str:
    """Return the median peak memory of training processes, and the tokens that others have in common with ours."""
    rows = cases(runs, "train")
    names = list(dict.fromkeys(run["library"] for run in runs if run["task"] == "train"))
    lines = [["text", "vocabulary", "threads", *names, "tokens in common"]]
    for case in rows:
        line = [case[2], case[1], str(case[3])]
        for name in names:
            peaks = [run["peak_mb"] for run in runs if _case(run) == case and run["library"] == name]
            line.append(f"{median(peaks):,.0f}" if peaks else "")
        common = [run["common"] for run in runs if _case(run) == case and run["library"] != "bpe"]
        lines.append([*line, f"{min(common):.1%}" if common else ""])
    return aligned(lines)


def report(results: dict[str, Any]) -> str:
    """Return all tables, with the machine and the versions."""
    runs = results["runs"]
    lines = [
        "",
        "Columns: the library's figure, and its seconds divided by bpe's (above 1: bpe is faster).",
        "≠: other ids.",
    ]
    for task, title in TASKS.items():
        found = dict.fromkeys(clock for run in runs if run["task"] == task for clock in run["seconds"])
        for clock in found:
            name = "in a process that has trained before, seconds" if task == "train" and clock == "warm" else clock
            lines += ["", f"{title[0].upper()}{title[1:]}: {CLOCKS.get(name, name)}", "", table(runs, task, clock)]
        if task == "train" and found:
            lines += ["", "Training: peak memory of the process, MB", "", memory_table(runs)]
    lines += ["", machine_line(results["machine"])]
    lines += [f"{results['date']}; processes per median: {results['repeats']}"]
    return "\n".join([*lines, *results["notes"]])
