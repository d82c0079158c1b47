"""Compare training and encoding with other libraries on the real texts in ../shared/data beside the repository.

    python packages/bpe/benchmarks/run.py [--only train|encode] [--quick] [--texts NAME...] [--json FILE]

Every figure is the median of several processes, each running one library; the libraries take turns. Each process has
as many cores as threads. The text is in the page cache. Before the clock starts, another tokenizer compiles the kernels
and starts the thread pools on another text; loading a vocabulary is not counted. "Cold" is the first call of a
tokenizer, "warm" are later calls on the same text. CPython has cached the UTF-8 of a string beforehand. Training is
timed from the path of a plain file to the merges, of which every library learns the same number; because other
libraries break ties differently, the tokens in common are counted instead of compared. Encoding uses GPT-2's
vocabulary, and all ids must be equal. `gigatoken` is called in two ways: with one text, and with documents in parallel,
whose separators it drops; ratios refer to the faster way. A library slower than 5 s is called twice, not three times,
and one slower than 10 s in one process only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import TASKS
from tables import library_version, machine, package, report

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
VOCABULARY_SIZES = {"english_novels_100": 32_000, "tinystories_train": 10_000, "owt_train": 32_000}
TEXTS = ["english_novels_100.txt.gz", "tinystories_train.txt", "owt_train.txt", "torture_mix.txt"]
QUICK_TEXTS = ["tinystories_train.txt", "torture_mix.txt"]
QUICK_BYTES = 2_000_000
VERY_SLOW_SECONDS = 10.0


def unpack(name: str, folder: Path, limit: int | None) -> Path:
    """Write a decompressed text, or its first lines, to `folder`."""
    source = DATA / name
    target = folder / name.removesuffix(".gz")
    with gzip.open(source) if name.endswith(".gz") else source.open("rb") as text, target.open("wb") as file:
        if limit is None:
            shutil.copyfileobj(text, file, 1 << 20)
        else:
            file.write(text.read(limit).rpartition(b"\n")[0])
    return target


def measure(library: str, task: str, path: Path, threads: int, vocab_size: int) -> dict[str, Any]:
    """Return the measurement of a worker in a separate process."""
    worker = Path(__file__).with_name("worker.py")
    arguments = [library, task, str(path), str(threads)]
    options = [f"--vocab-size={vocab_size}", f"--vocabularies={DATA / 'vocabularies'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(worker), *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{library} failed at {task} of {path.name} with {threads} threads:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def chosen(only: str | None, texts: list[Path], threads: list[int]) -> list[tuple[str, str, Path, int]]:
    """Return library, task, text and threads of each measurement, with the libraries in turns."""
    cases = []
    for path in texts:
        for count in threads:
            for task, libraries in TASKS.items():
                if only not in (None, "train" if task == "train" else "encode"):
                    continue
                if task == "train" and path.stem not in VOCABULARY_SIZES:
                    continue
                installed = [library for library in libraries if library_version(package(library))]
                cases += [(library, task, path, count) for library in installed]
    return cases


def compare(runs: list[dict[str, Any]]) -> list[str]:
    """Add the share of tokens in common to the runs of training; return a line for each difference in ids."""
    differences = []
    reference = {(run["task"], run["text"]): run for run in runs if run["library"] == "bpe"}
    for run in runs:
        expected = reference.get((run["task"], run["text"]), run)
        name = f"{run['library']} on {run['text']}"
        if run["task"] == "train":
            run["common"] = len(set(run["learned"]) & set(expected["learned"])) / max(1, len(set(expected["learned"])))
            if len(run["learned"]) != len(expected["learned"]):
                differences.append(f"{name} learned {len(run['learned'])} merges, bpe {len(expected['learned'])}")
        elif run["digest"] != expected["digest"]:
            differences.append(f"{name} ({run['task']}): {run['tokens']} ids, not bpe's {expected['tokens']} ids")
    for run in runs:
        run.pop("learned", None)
    return sorted(set(differences))


def main() -> None:
    """Measure, print the tables, and exit 1 if ids differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["train", "encode"])
    parser.add_argument("--quick", action="store_true", help="2 MB of two texts, one repeat, two threads")
    parser.add_argument("--texts", nargs="+", metavar="NAME", help=f"of {', '.join(TEXTS)}")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2")
    parser.add_argument("--repeats", type=int, help="processes per figure (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all measurements")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no folder {DATA}: the texts are read from there")
    names = options.texts or (QUICK_TEXTS if options.quick else TEXTS)
    for name in names:
        if not (DATA / name).exists():
            sys.exit(f"no text {name!r} in {DATA}; choose of {', '.join(TEXTS)}")
    threads = options.threads or ([2] if options.quick else [1, 2])
    repeats = options.repeats or (1 if options.quick else 3)
    print("\n".join(__doc__.splitlines()[4:]), flush=True)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [unpack(name, Path(folder), QUICK_BYTES if options.quick else None) for name in names]
        cases = chosen(options.only, paths, threads)
        too_slow: set[tuple[str, str, Path, int]] = set()
        for repeat in range(repeats):
            for case in cases:
                if case in too_slow:
                    continue
                library, task, path, count = case
                vocab_size = 2_000 if options.quick else VOCABULARY_SIZES.get(path.stem, 0)
                print(f"repeat {repeat + 1}: {library}, {task}, {path.name}, {count} threads", file=sys.stderr)
                run: dict[str, Any] = {
                    "library": library,
                    "task": task,
                    "text": path.stem,
                    "threads": count,
                    "repeat": repeat,
                }
                run |= {"bytes": path.stat().st_size, "vocab_size": vocab_size}
                run |= measure(library, task, path, count, vocab_size)
                runs.append(run)
                if run["seconds"][0] > VERY_SLOW_SECONDS:
                    too_slow.add(case)
    differences = compare(runs)
    results = {"date": time.strftime("%Y-%m-%d"), "repeats": repeats, "machine": machine(), "runs": runs}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(report(results))
    if differences:
        sys.exit("\nDifferent results:\n" + "\n".join(differences))


if __name__ == "__main__":
    main()
