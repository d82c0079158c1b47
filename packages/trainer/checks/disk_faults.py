"""Make every system call of a training run on its files fail in turn, and see that nothing is lost.

For each fault, a run either goes on and ends as if nothing had happened, or stops with an error that names the file.
The same call without the fault then ends bit for bit like a run without any. disk_faults.c makes the calls fail below
Python, so that safetensors, which is written in Rust, is covered. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import builtins
import ctypes
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 16
SETTINGS: dict[str, Any] = {"steps": 12, "checkpoint_interval": 4, "eval_interval": 6, "log_interval": 3}
SETTINGS |= {"keep_checkpoints": 1, "lr": lambda step: 1e-2 if step < 6 else 1.0}  # the best evaluation is not the last
READING = ("open", "read", "close", "mmap")
LIBRARY = "DISK_FAULTS_LIBRARY"
ERROR = re.compile(r"(\w+Error): (.*)")


@dataclass(frozen=True)
class Failure:
    """Way in which a call fails."""

    error: int
    shortens: bool = False
    """A write first writes half of its bytes; it fails only if the failure persists."""
    persists: bool = False
    """Later calls that write, create or rename fail, too."""

    def __str__(self) -> str:
        name = "half written" if self.shortens else errno.errorcode[self.error]
        return name + (f", then {errno.errorcode[self.error]}" * self.shortens + " for good") * self.persists


ONCE, FULL = Failure(errno.EIO), Failure(errno.ENOSPC, persists=True)
FAILURES = {
    "write": [ONCE, FULL, Failure(errno.EIO, shortens=True), Failure(errno.ENOSPC, shortens=True, persists=True)],
    "create": [ONCE, FULL, Failure(errno.EACCES)],
    "mkdir": [ONCE, FULL],
    "rename": [ONCE, FULL, Failure(errno.EACCES)],
    "fsync": [ONCE, FULL, Failure(errno.EDQUOT)],
    "truncate": [ONCE, FULL],
    "close": [ONCE, Failure(errno.EDQUOT)],
    "open": [ONCE, Failure(errno.EMFILE)],
    "read": [ONCE],
    "mmap": [ONCE, Failure(errno.ENOMEM)],
    "unlink": [ONCE, Failure(errno.EACCES)],
    "rmdir": [ONCE, Failure(errno.EACCES)],
}


def train(run_dir: Path, number: int | None = None, failure: Failure = ONCE, **settings: Any) -> tuple[int, str]:
    """Train in another process; return its exit code and standard error.

    Args:
        run_dir: Run directory; the calls go to a file beside it.
        number: The call that fails, from 1; 0 fails none, and None does not count them either.
        failure: The way in which it fails.
        settings: Further settings of the run.
    """
    from small_runs import start  # only in the process that has loaded the library

    def arm() -> None:
        import trainer.records.reporter

        trainer.records.reporter.draw_losses = lambda *_: True  # drawing takes longer than the run
        if number is None:
            return
        if number:
            warnings.simplefilter("default")
        file = os.open(calls_of(run_dir), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        library = ctypes.CDLL(os.environ[LIBRARY])
        arguments = (failure.error, failure.shortens, failure.persists, file)
        library.arm(os.fsencode(run_dir), ctypes.c_long(number), *arguments)

    process = start(run_dir, run_dir.with_suffix(".output"), WIDTH, arm, **SETTINGS | settings)
    code, _, errors = process.end()
    return code, errors


def must(result: tuple[int, str]) -> None:
    """End this process if a process without faults has failed."""
    code, errors = result
    if code != 0:
        sys.exit(errors)


def calls_of(run_dir: Path) -> Path:
    """Return the file with the calls of the last process that counted them."""
    return run_dir.with_suffix(".calls")


@dataclass(frozen=True)
class Variant:
    """Runs of one kind."""

    settings: dict[str, Any]
    whole: Path
    """A run without faults."""
    begun: Path | None = None
    """A run to resume; None to begin a new one."""

    def train(self, run_dir: Path, number: int, failure: Failure = ONCE) -> tuple[int, str]:
        """Train from the beginning of the variant on, as `train`."""
        if self.begun is not None:
            shutil.copytree(self.begun, run_dir)
        return train(run_dir, number, failure, **self.settings)

    def faults(self, run_dir: Path) -> list[tuple[int, Failure]]:
        """Return the faults to try: the number of a call and its failure, for all calls of an undisturbed run."""
        if self.begun is not None:
            must(self.train(run_dir, 0))
            shutil.rmtree(run_dir)
        file = calls_of(self.whole if self.begun is None else run_dir)
        calls = [line.partition(" ")[0] for line in file.read_text().splitlines()]
        print(len(calls), "calls of an undisturbed run:", *Counter(calls).most_common())
        # A checkpoint that cannot be read while a run resumes is set aside, so the end has one more file.
        tried = [call if self.begun is None or call not in READING else None for call in calls]
        return [(number, failure) for number, call in enumerate(tried, 1) for failure in FAILURES.get(call or "", [])]


def try_fault(run_dir: Path, variant: Variant, number: int, failure: Failure) -> tuple[str, str]:
    """Train with a fault, and again without it if the run stopped; return what came out, and what is wrong about it."""
    from small_runs import damages

    code, errors = variant.train(run_dir, number, failure)
    if code == 0:
        return "went on", compare(run_dir, variant.whole)
    found = ERROR.fullmatch(errors.strip().splitlines()[-1])
    if found is None or str(run_dir) not in found[2]:
        return "stopped", f"expected an error that names a file:\n{errors}"
    if not issubclass(getattr(builtins, found[1], Exception), OSError):
        return "stopped", f"expected an OSError:\n{errors}"
    damaged = [line for line in damages(run_dir) if not line.startswith("leftover")]
    code, errors_of_second = train(run_dir, **variant.settings)
    if code != 0:
        return "stopped", f"it cannot resume:\n{errors}\n{errors_of_second}"
    return "stopped", "; ".join([*damaged, *filter(None, [compare(run_dir, variant.whole)])])


def compare(run_dir: Path, whole: Path) -> str:
    """Return the differences of the ends of two runs; a failed rename may have left more checkpoints."""
    from small_runs import differences

    kept = [{path.name for path in (run / "checkpoints").iterdir()} for run in (run_dir, whole)]
    missing = [f"checkpoint {name} is missing" for name in kept[1] - kept[0]]
    return "; ".join(missing + differences(run_dir, whole))


def main() -> None:
    """Fail each call, compare the ends, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, help="a random sample of so many faults; by default all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if LIBRARY not in os.environ:
            library = str(Path(directory, "disk_faults.so"))
            source = Path(__file__).with_suffix(".c")
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(source), "-ldl"], check=True)
            environment = {**os.environ, LIBRARY: library, "LD_PRELOAD": library}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
        sys.exit(run_all(Path(directory), arguments.faults, arguments.seed))


def make_variants(directory: Path) -> dict[str, Variant]:
    """Return new runs that save in the foreground and in the background, and one that a kill ended in a save."""
    variants = {
        "foreground": Variant({"save_in_background": False}, directory / "foreground"),
        "background": Variant({}, directory / "background"),
    }
    for variant in variants.values():
        must(variant.train(variant.whole, 0))
    begun = shutil.copytree(directory / "background", directory / "begun")
    (begun / "summary.json").unlink()
    last = begun / "checkpoints" / "step_0000012"
    (last / "meta.json").unlink()
    last.rename(last.with_name(f".aside-{last.name}"))
    return variants | {"resumed": Variant({}, directory / "background", begun)}


def run_all(directory: Path, most: int | None, seed: int) -> int:
    """Try the faults; return the exit code."""
    faults, outcomes, run_dir = [], Counter[str](), directory / "run"
    for name, variant in make_variants(directory).items():
        print(f"{name}: ", end="")
        faults += [(name, variant, *fault) for fault in variant.faults(run_dir)]
    for name, variant, number, failure in faults if most is None else random.Random(seed).sample(faults, most):
        outcome, problem = try_fault(run_dir, variant, number, failure)
        shutil.rmtree(run_dir)
        if not (failed := calls_of(run_dir).read_text().splitlines()[number - 1 : number]):
            continue  # the order of calls in two threads varies a little
        outcomes.update([outcome, *["wrong"] * bool(problem)])
        print(f"{name}, {failed[0]}: {failure}: {outcome}{': WRONG: ' if problem else ''}{problem}", flush=True)
    count = outcomes["went on"] + outcomes["stopped"]
    print(f"{count} faults: {outcomes['went on']} runs went on, {outcomes['stopped']} stopped and resumed;", end=" ")
    print(f"{outcomes['wrong']} were wrong" if outcomes["wrong"] else "all ended bit for bit like a run without any")
    return int(outcomes["wrong"] > 0)


if __name__ == "__main__":
    main()
