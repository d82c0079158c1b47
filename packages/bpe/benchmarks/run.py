"""Compare training and encoding with other libraries on real texts, all in one run.

    python packages/bpe/benchmarks/run.py [--quick] [--tasks NAME...] [--texts NAME...] [--json FILE]

Every measurement is a new process with one library, confined to as many cores as threads; figures are medians of
several, for which the libraries take turns. Before, each library runs once unmeasured, so that its files are in the
page cache and its Python files are compiled. The texts are in the page cache, too.

- "start" counts from the start of the process, from the first import to the ids: import, load the vocabulary from
  tokenizer.json, read the text, encode. For training: import, read, train.
- "cold" is the first call of a tokenizer, in a process where another tokenizer has encoded another text before.
- "warm" are later calls of the same tokenizer on the same text.

All ids are compared by their SHA-256; where they differ, the first difference is printed. Trainers break ties in
different ways, so the tokens they have in common are counted instead. Each library is called in its fastest way. For
arrays, bpe and `gigatoken` take bytes, as one text or ("gigatoken-batch") as documents in parallel; `tokenizers` and
`quicktok-v1` take documents. `tokenizers` 0.23 and, on several threads, `tiktoken` make only lists, also in the tables
of arrays. A library slower than 5 s is called twice and not three times; one slower than 10 s is measured in one
process only.

TinyStories, OpenWebText, the novels and the vocabularies come from ../shared/data beside the repository; the Russian
text and the Python code are made by make_corpus.py. A full run takes about an hour, `--quick` two minutes.
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
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from libraries import ENCODERS, EOT, SPECIAL_IDS, SPECIALS, TRAINERS
from make_corpus import other_text, write
from tables import machine, package_version, report

import bpe

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
TEXTS = {  # a file of DATA or a kind of make_corpus.py; tokens to train
    "TinyStories": ("tinystories_train.txt", 10_000),
    "OpenWebText": ("owt_train.txt", 32_000),
    "Russian": ("russian", 32_000),
    "Python code": ("code", 32_000),
    "English novels": ("english_novels_100.txt.gz", 32_000),
}
MADE_BYTES = {"russian": 38_000_000, "code": 40_000_000}
QUICK_BYTES, SPECIALS_BYTES = 500_000, 1_000_000
SPECIAL_TOKENS = 16_000
PATTERN_TEXTS = ["OpenWebText", "Russian", "Python code"]
LISTS = [name for name in ENCODERS if name not in ("gigatoken-batch", "quicktok-v1")]
ARRAYS = [name for name in LISTS if name != "tokenizers"]
VERY_SLOW_SECONDS = 10.0
INEXACT = {"iree-tokenizer"}
"""Libraries whose ids are known to differ: it merges some words in another order, and loses the end of some texts."""

Case = tuple[str, str, str, str, int, str]
"""Library, task, vocabulary (for training, its size), text, threads, mode."""


class Bench:
    """The texts and vocabularies in a folder, and the measurements made with them."""

    def __init__(self, folder: Path, candidate: str | None, quick: bool) -> None:
        self.folder, self.quick, self.candidate = folder, quick, candidate
        self.libraries = [
            name
            for name in dict.fromkeys([*ENCODERS, *TRAINERS])
            if (candidate if name == "tokenizers-rc" else package_version(name.removesuffix("-batch")))
        ]
        self.separators = {name: ids[EOT] for name, ids in SPECIAL_IDS.items()} | {"gpt2": 50_256}
        self.texts: dict[str, Path] = {}
        self.alphabets: dict[str, int] = {}
        (folder / "other.txt").write_text(other_text(), encoding="utf-8")
        (folder / "other.txt.plain").write_text(other_text(), encoding="utf-8")
        (folder / "ids").mkdir()

    def add_vocabularies(self) -> None:
        """Write the published vocabularies as tokenizer.json files.

        cl100k_base gets Llama 3's pattern, which splits alike and is the usual one in such files; `gigatoken` refuses
        the pattern that bpe writes for tiktoken's.
        """
        shutil.copy(DATA / "vocabularies" / "gpt2_tokenizer.json", self.folder / "gpt2.json")
        for name, pattern in (("cl100k_base", bpe.LLAMA3_PATTERN), ("o200k_base", bpe.O200K_PATTERN)):
            ranks = self.folder / f"{name}.tiktoken"
            shutil.copy(DATA / "vocabularies" / ranks.name, ranks)
            bpe.Tokenizer.from_tiktoken(ranks, pattern, SPECIAL_IDS[name]).save_huggingface(
                self.folder / f"{name}.json"
            )

    def add_text(self, name: str) -> None:
        """Write a text, and the same without separators for `gigabpe`."""
        source = TEXTS[name][0]
        path = self.folder / f"{name.replace(' ', '_')}.txt"
        if source in MADE_BYTES:
            write(source, QUICK_BYTES if self.quick else MADE_BYTES[source], path)
        else:
            with gzip.open(DATA / source) if source.endswith(".gz") else (DATA / source).open("rb") as file:
                path.write_bytes(file.read(QUICK_BYTES).rpartition(b"\n")[0] if self.quick else file.read())
        data = path.read_bytes().replace(EOT.encode(), b"")
        Path(f"{path}.plain").write_bytes(data)
        self.alphabets[name] = len(np.unique(np.frombuffer(data, dtype=np.uint8)))
        self.texts[name] = path

    def add_specials(self) -> None:
        """Write a text full of special tokens, their names, and the tokenizer.json that all load."""
        names = [EOT, *(f"<|special_{number}|>" for number in range(SPECIAL_TOKENS - 1))]
        source = DATA / "tinystories_train.txt"
        words = source.read_bytes()[:SPECIALS_BYTES].decode("utf-8", "ignore").split(" ")
        draw = np.random.default_rng(2026).integers(0, 4 * len(names), len(words)).tolist()
        text = " ".join(word + (names[at] if at < len(names) else "") for word, at in zip(words, draw, strict=True))
        path = self.folder / "Special_tokens.txt"
        path.write_text(text, encoding="utf-8")
        Path(f"{path}.specials").write_text("\n".join(names), encoding="utf-8")
        bpe.train(path, SPECIAL_TOKENS + 1256, names).save_huggingface(f"{path}.json")
        self.texts["Special tokens"], self.alphabets["Special tokens"] = path, 256

    def measure(self, case: Case) -> dict[str, Any]:
        """Return the measurement of a worker in a separate process."""
        library, task, vocabulary, text, threads, mode = case
        size = vocabulary if task in ("train", "specials") else 0
        options = {
            "library": library,
            "task": task,
            "mode": mode,
            "text": self.texts[text],
            "threads": threads,
            "vocabulary": self.folder / vocabulary,
            "vocab_size": size,
            "alphabet": self.alphabets[text],
            "separator": self.separators.get(vocabulary, 0),
            "other": self.folder / "other.txt",
            "folder": self.folder / "ids",
        }
        path = os.pathsep.join(filter(None, sys.path))
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        python = sys.executable
        if library == "tokenizers-rc":
            python = str(self.candidate)
        else:
            environment["PYTHONPATH"] = path
        command = [python, Path(__file__).with_name("worker.py"), *(f"{key}={value}" for key, value in options.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"{case} failed:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def cases(self, tasks: list[str], threads: list[int]) -> list[Case]:
        """Return all measurements of one round, with the libraries in turns."""
        found: list[Case] = []

        def add(libraries: list[str], task: str, vocabulary: str, text: str, count: int, *modes: str) -> None:
            for mode in modes:
                found.extend((name, task, vocabulary, text, count, mode) for name in libraries)

        for text in [name for name in self.texts if name in TEXTS]:
            for count in threads:
                # iree-tokenizer has one thread. On one thread, documents do not make gigatoken faster.
                fit = [name for name in LISTS if count == 1 or name != "iree-tokenizer"]
                arrays = [name for name in fit if name in ARRAYS] + (["gigatoken-batch"] if count > 1 else [])
                if "array" in tasks:
                    add(arrays, "array", "gpt2", text, count, "start", "steady")
                if "list" in tasks:
                    add(fit, "list", "gpt2", text, count, "start", "steady")
                if "file" in tasks:
                    add(["bpe", "gigatoken"], "file", "gpt2", text, count, "start", "steady")
                if "train" in tasks:
                    size = str(2_000 if self.quick else TEXTS[text][1])
                    add(list(TRAINERS), "train", size, text, count, "start", "steady")
            if "patterns" in tasks and (text in PATTERN_TEXTS or self.quick):
                for vocabulary in list(SPECIAL_IDS)[: 1 if self.quick else None]:
                    libraries = [*ARRAYS, "quicktok-v1", "tokenizers"]
                    add(libraries, "array", vocabulary, text, 1, "start", "steady")
        if "specials" in tasks:
            add(list(SPECIALS), "specials", str(SPECIAL_TOKENS + 1256), "Special tokens", 1, "steady")
        return [case for case in found if case[0] in self.libraries]

    def difference(self, run: dict[str, Any], own: dict[str, Any]) -> str:
        """Return the first ids that differ from ours, with their tokens."""
        theirs, ours = (np.load(self.folder / "ids" / f"{one['digest']}.npy") for one in (run, own))
        both = min(len(theirs), len(ours))
        unequal = np.flatnonzero(theirs[:both] != ours[:both])
        at = int(unequal[0]) if len(unequal) else both
        source = self.texts["Special tokens"] if run["task"] == "specials" else self.folder / run["vocabulary"]
        if at == len(theirs):
            return f"{len(theirs):,} ids, not {len(ours):,}; the end is missing, all others are equal"
        tokenizer = bpe.Tokenizer.from_huggingface(f"{source}.json")
        shown = [[tokenizer.id_to_token(int(id_)) for id_ in ids[at : at + 4]] for ids in (theirs, ours)]
        return f"{len(theirs):,} ids, not {len(ours):,}; the first that differ are {shown[0]}, not {shown[1]}"


def compare(bench: Bench, runs: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Count the tokens in common of trainers; return a line for each difference in ids, and if one is unexpected."""
    notes: dict[tuple[str, str, str], str] = {}
    unexpected = False
    own = {(run["vocabulary"], run["text"]): run for run in reversed(runs) if run["library"] == "bpe"}
    for run in runs:
        ours = own.get((run["vocabulary"], run["text"]), run)
        key = run["library"], run["vocabulary"], run["text"]
        if run["task"] == "train":
            run["common"] = len(set(run["learned"]) & set(ours["learned"])) / max(1, len(set(ours["learned"])))
            if len(run["learned"]) != len(ours["learned"]):
                notes[key] = f"{len(run['learned'])} merges, not {len(ours['learned'])}"
        elif run["digest"] != ours["digest"]:
            run["other_ids"] = True
            unexpected = unexpected or run["library"] not in INEXACT
            if key not in notes:
                notes[key] = bench.difference(run, ours)
    for run in runs:
        run.pop("learned", None)
    lines = [f"{library}, vocabulary {name}, {text}: {note}" for (library, name, text), note in notes.items()]
    return lines, unexpected


def main() -> None:
    """Measure, print the tables, and exit 1 if ids differ for no known reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ["array", "list", "file", "train", "specials", "patterns"]
    parser.add_argument("--quick", action="store_true", help="a smoke run: 0.5 MB of one text, one process each")
    parser.add_argument("--tasks", nargs="+", choices=every, default=every)
    parser.add_argument("--texts", nargs="+", choices=list(TEXTS), help="default: all")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, help="processes per figure (default: 5)")
    parser.add_argument("--candidate", metavar="PYTHON", help="interpreter of an environment with tokenizers 1.0.0rc3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all measurements")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no folder {DATA}: the texts and vocabularies are read from there")
    repeats = options.repeats or (1 if options.quick else 5)
    print(__doc__.partition("\n\n")[2].partition("\n\n")[2], flush=True)
    runs: list[dict[str, Any]] = []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.candidate, options.quick)
        bench.add_vocabularies()
        for name in options.texts or (["OpenWebText"] if options.quick else TEXTS):
            bench.add_text(name)
        if "specials" in options.tasks:
            bench.add_specials()
        cases = bench.cases(options.tasks, options.threads)
        bench.texts["other"], bench.alphabets["other"] = Path(folder, "other.txt"), 256
        for library, task, vocabulary, _, _, _ in {case[:2]: case for case in cases if case[1] != "specials"}.values():
            bench.measure((library, task, "1000" if task == "train" else vocabulary, "other", 1, "start"))
        slow: set[Case] = set()
        for repeat in range(repeats):
            for case in cases:
                if case in slow:
                    continue
                print(f"round {repeat + 1} of {repeats}: {', '.join(map(str, case))}", file=sys.stderr, flush=True)
                names = ("library", "task", "vocabulary", "text", "threads", "mode")
                run = dict(zip(names, case, strict=True)) | {"bytes": bench.texts[case[3]].stat().st_size}
                runs.append(run | bench.measure(case))
                if max(max(values) for values in runs[-1]["seconds"].values()) > VERY_SLOW_SECONDS:
                    slow.add(case)
        differences, unexpected = compare(bench, runs)
        hashes = {name: sha256(path.read_bytes()).hexdigest() for name, path in bench.texts.items()}
    missing = [name for name in dict.fromkeys([*ENCODERS, *TRAINERS]) if name not in bench.libraries]
    notes = [f"load average before the run: {load:.1f}"]
    notes += [f"not measured, because not installed: {', '.join(missing)}"] if missing else []
    if any(run["compiler"] for run in runs if run["library"] == "bpe"):
        notes.append("bpe imported Numba in some processes: install its wheel, or run python -m bpe.building")
    notes += ["all ids are equal" if not differences else "Differences:", *differences]
    results = {"date": time.strftime("%Y-%m-%d"), "repeats": repeats, "machine": machine(), "notes": notes}
    if options.candidate:
        command = [options.candidate, "-c", "import tokenizers; print(tokenizers.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results["machine"]["versions"]["tokenizers-rc"] = done.stdout.strip()
    results |= {"sha256_of_texts": hashes, "runs": runs}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(report(results))
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
