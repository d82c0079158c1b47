"""Check the time limit with real processes: a run alone, one beside a busy program, one stopped, one killed, resumed.

Each must end by itself within the limit and leave at most 5 % of it unused. Time is measured from outside, from the
start of the process to its end, without the preparation of the data, which happens beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainer import parse_duration

MAX_UNUSED = 0.05


class Run:
    """A run of the command in processes of its own, and the seconds of the limit that they take."""

    def __init__(self, arguments: list[str], out: Path) -> None:
        self._command = [sys.executable, "-m", "owt_leaderboard", *arguments, "--out", str(out)]
        self.out = out
        self.seconds = 0.0
        self._began = 0.0

    def start(self) -> subprocess.Popen[str]:
        """Start the next process of the run."""
        self._began = time.monotonic()
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait(self, process: subprocess.Popen[str]) -> None:
        """Wait for the end of the process and add its time."""
        output = process.communicate()[0]
        seconds = time.monotonic() - self._began
        prepared = re.search(r"data prepared in ([\d.]+) s", output)
        self.seconds += seconds - (float(prepared[1]) if prepared else 0.0)
        if process.returncode not in (0, -signal.SIGKILL):
            sys.exit(f"the run in {self.out} failed with exit code {process.returncode}:\n{output}")


def plain(run: Run, limit: float) -> str:
    """Let the run end undisturbed."""
    run.wait(run.start())
    return "undisturbed"


def beside_a_busy_program(run: Run, limit: float) -> str:
    """Keep one core busy during the whole run."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        run.wait(run.start())
    finally:
        busy.kill()
        busy.wait()
    return "one core kept busy by another process"


def stopped(run: Run, limit: float, seconds: float) -> str:
    """Stop the process in the middle for a while."""
    process = run.start()
    time.sleep(limit / 2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    run.wait(process)
    return f"stopped by SIGSTOP after {limit / 2:.0f} s, for {seconds:.0f} s"


def killed(run: Run, limit: float, down: float) -> str:
    """Kill the process in the middle, wait, and run the same command again."""
    process = run.start()
    time.sleep(limit / 2)
    process.kill()
    run.wait(process)
    time.sleep(down)
    run.wait(run.start())
    sessions = json.loads((run.out / "sessions.json").read_text("utf-8"))["sessions"]
    recorded = sessions[-1]["seconds_down_before"]
    return f"killed after {limit / 2:.0f} s, down for {down:.0f} s ({recorded:.1f} s recorded), resumed"


def main() -> None:
    """Make the four runs and print a table; the exit code is 1 if one of them misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", default="3m")
    parser.add_argument("--stop-seconds", type=float, default=20.0)
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--valid-dataset")
    parser.add_argument("--recipe", default="speedrun")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--out", type=Path, help="directory in which the runs are kept; by default they are not")
    options = parser.parse_args()
    limit, rows = parse_duration(options.time_limit), []
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        arguments = ["--time-limit", options.time_limit, "--recipe", options.recipe, "--dataset", options.dataset]
        arguments += ["--valid-dataset", options.valid_dataset] if options.valid_dataset else []
        arguments += ["--data-dir", str(out / "data"), *(["--set", *options.set] if options.set else [])]
        prepare(arguments, out)
        for name, action in (
            ("plain", plain),
            ("busy", beside_a_busy_program),
            ("stopped", lambda run, limit: stopped(run, limit, options.stop_seconds)),
            ("killed", lambda run, limit: killed(run, limit, options.stop_seconds)),
        ):
            run = Run(arguments, out / name)
            what = action(run, limit)
            summary = json.loads((run.out / "summary.json").read_text("utf-8"))
            within = run.seconds <= limit and run.seconds >= (1 - MAX_UNUSED) * limit
            has_entry = (run.out / "entry.md").exists()
            rows.append(within and has_entry)
            cells = [name, what, f"{run.seconds:.1f} s of {limit:.0f} s", f"{run.seconds / limit - 1:+.1%}"]
            cells += [f"{summary['final_valid_loss']:.4f}", "yes" if has_entry else "NO", "ok" if within else "MISSED"]
            print(f"| {' | '.join(cells)} |", flush=True)
    sys.exit(0 if all(rows) else 1)


def prepare(arguments: list[str], out: Path) -> None:
    """Prepare the data, which does not count, by a run too short for anything else, and print the head of the table."""
    too_short = ["--time-limit", "1.1s", *arguments[2:], "--out", str(out / "preparing")]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}
    command = [sys.executable, "-m", "owt_leaderboard", *too_short]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "data prepared" not in done.stdout:
        sys.exit(f"the data could not be prepared:\n{done.stdout}{done.stderr}")
    print(
        "| run | what happened | spent, of the limit | difference | loss | entry | |\n|---|---|---|---|---|---|---|",
        flush=True,
    )


if __name__ == "__main__":
    main()
