"""The commands and programs of a page, and their execution on small inputs."""

import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import small_runs
from simulated_clock import simulated_clock

import bpe
from nnscratch import TransformerConfig, TransformerLM, export_huggingface
from tinystories.recipes import PRESETS
from tinystories.texts import CORPUS

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]*) -->\n)?^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SESSION = re.compile(r"^def (\w+)\(session", re.MULTILINE)

TINY = replace(small_runs.TINY, steps=8, evaluations=2)
"""Stands in for the preset of a CPU."""
TINY_FLAGS = [
    word
    for name in "vocab_size context_length d_model num_layers num_heads d_ff steps batch_size evaluations".split()
    for word in (f"--{name.replace('_', '-')}", str(getattr(TINY, name)))
]
"""The same for processes that read the presets themselves."""
TINY_SPEEDRUN = "vocab_size=300 context_length=16 d_model=16 num_layers=2 num_heads=2 d_ff=40 batch_size=2".split()
SMALLER = {
    " --vocab-size 4096 --d-model 256 --num-layers 6 --num-heads 8 --d-ff 688": " --d-model 24 --d-ff 64",
    " --steps 1000": " --steps 4",
    " --steps 200": " --steps 4",
    " --steps 300": " --steps 6",
    "batch-sweep": "batch-sweep --batch-sizes 1 2 --tokens 640",
    " --time-limit 2m": " --time-limit 40s",
    " --time-limit 5m": " --time-limit 40s",
}
"""Parts of commands that would take minutes, and what replaces them."""


@dataclass(frozen=True)
class Block:
    """A block of commands or a program of a page."""

    language: str
    code: str
    reason: str | None
    """Why it cannot run in a test, or None."""
    line: int
    """Line of the page at which the code begins, from 1."""


def blocks(page):
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(match[2], match[3], match[1], text.count("\n", 0, match.start(3)) + 1) for match in BLOCK.finditer(text)
    ]


def commands(code):
    """The command lines of a block, without comments; a backslash joins lines."""
    lines = code.replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines if (words := line.partition("  #")[0].strip()) for part in words.split("&&")]


def make_inputs(folder):
    """Write what the pages assume: two texts, a table, and a published model."""
    write_stories(folder / "stories.txt", 120)
    write_stories(folder / "other_stories.txt", 40)
    (folder / "web.jsonl").write_text('{"text": "The cat had a hat."}\n{"text": "The hat had a cat."}\n' * 9, "utf-8")
    tokenizer = bpe.train_from_iterator(["Gravity is a force that pulls a hat down."] * 9, vocab_size=280)
    tokenizer.save_pretrained(folder / "words")
    config = TransformerConfig(
        vocab_size=280, context_length=64, d_model=16, num_layers=1, num_heads=2, d_ff=40, tie_embeddings=True
    )
    export_huggingface(TransformerLM(config), folder / "words", folder / "SmolLM2-135M")


def write_stories(path, number):
    names = ["Mia", "Tom", "Ben", "Lily", "Sam"]
    stories = [f"{names[i % 5]} had {i} red balls. {names[(i + 1) % 5]} took one home." for i in range(number)]
    path.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories), "utf-8")


@contextlib.contextmanager
def small_machine(monkeypatch):
    """Small presets and composed texts, no network, and neither pictures nor processes, which take longer than runs."""
    for name in ("cpu-ablations", "cpu-quick"):
        monkeypatch.setitem(PRESETS, name, TINY)
    monkeypatch.setattr("tinystories.commands.ablations.machine_jobs", lambda machine: 1)
    for module in ("html", "pictures"):  # html first: imported later, it would keep the fake
        monkeypatch.setattr(f"trainer.experiments.reporting.{module}.rendered", lambda drawing, theme, form: b"")
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sizes = {"sample_train_bytes": 30_000, "sample_valid_bytes": 5_000}
    before = {name: getattr(CORPUS, name) for name in sizes}
    try:
        for name, size in sizes.items():
            object.__setattr__(CORPUS, name, size)
        yield
    finally:
        for name, size in before.items():
            object.__setattr__(CORPUS, name, size)


def run_command(line):
    """Run a command line as the page shows it, on small inputs, in this process where that is possible.

    Raises:
        AssertionError: If it fails.
    """
    for part, smaller in SMALLER.items():
        line = line.replace(part, smaller)
    words = shlex.split(line)
    if words[0] == "cd":
        os.chdir(words[1])
    elif words[:2] == ["pip", "install"]:
        check_installation(words[2:])
    elif words[0] == "source":
        assert words == ["source", ".venv/bin/activate"]
    elif words[:2] == ["nox", "-s"]:
        run_session(words[2], words[words.index("--") + 1 :] if "--" in words else [])
    elif words[:2] == ["python", "-m"]:
        run_module(words[2], words[3:])
    elif words[0] == "torchrun":
        module = words.index("-m")
        program = [sys.executable, "-m", "torch.distributed.run", *words[1 : module + 3], *words[module + 3 :]]
        subprocess.run([*program, *TINY_FLAGS], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    else:
        subprocess.run(["bash", "-c", line], check=True)


def check_installation(words):
    """Check that an installation names paths and extras of this repository; nothing is installed."""
    for word in words:
        path, _, extra = word.partition("[")
        if path.startswith("packages/"):
            declared = (ROOT / path / "pyproject.toml").read_text("utf-8")
            assert not extra or f"\n{extra.rstrip(']')} = [" in declared, word


def run_session(name, arguments):
    """Run what a session runs, if it is the main experiment; of others only the name is checked."""
    assert name.partition("(")[0] in SESSION.findall((ROOT / "noxfile.py").read_text("utf-8"))
    if name == "ablations":
        run_module("tinystories.run", ["ablations", *arguments])


def run_module(module, arguments):
    """Run `python -m` in this process."""
    is_timed = module == "owt_leaderboard" or ("--time-limit" in arguments[1:] and module == "tinystories.run")
    if module == "owt_leaderboard":
        arguments = [*arguments, "--set", *TINY_SPEEDRUN]
    elif is_timed:
        steps = TINY_FLAGS.index("--steps")
        arguments = [*arguments, *TINY_FLAGS[:steps], *TINY_FLAGS[steps + 2 :]]
    if arguments[:1] == ["ablations"] and "--seeds" not in arguments:
        arguments = [*arguments, "--seeds", "1"]
    before, code = sys.argv, None
    with simulated_clock(draws=False) if is_timed else contextlib.nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runpy warns of modules that are imported already
        try:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = before
    assert not code, f"python -m {shlex.join([module, *arguments])} ended with {code}"
