"""The process that talks to wandb; `WandbClient` starts it, tells it what to do in lines of JSON, and may kill it.

It is no part of the training process, because wandb waits for its service at exits, replaces hooks of the interpreter,
and hangs where the network does. As a program it imports nothing of this package.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import traceback
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

_REACH_SECONDS = 5.0


class WandbRun:
    """One wandb run, from `start` to `close`.

    Args:
        answer: answer(**values) tells the training process something: a "notice" for the user, a "complaint" to warn
            about, the "directory" of wandb's files.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._run: Any = None
        self._last_step = 0
        self.finish_seconds = 30.0

    def start(self, message: Mapping[str, Any]) -> None:
        """Begin or continue the run; offline if the service cannot be reached."""
        import wandb

        self.finish_seconds = message["finish_seconds"]
        sys.argv = message["command"] or [""]  # which wandb records
        program = sys.argv[0]
        arguments = {
            "id": message["id"],
            "dir": message["directory"],
            "config": message["config"],
            **message["settings"],
        }
        settings = {
            "silent": True,
            "console": "off",
            "program": program,
            "program_relpath": Path(program).name,
            "x_stats_pid": message["pid"],
        }
        known = getattr(wandb.Settings, "model_fields", settings)
        settings = {name: value for name, value in settings.items() if name in known and value}
        complaint = None
        if message["mode"] == "online":
            try:
                _check_reachable(message["url"])
                online = wandb.Settings(**settings, init_timeout=message["connect_seconds"])
                self._run = wandb.init(mode="online", resume="allow", settings=online, **arguments)
            except Exception as error:
                traceback.print_exc()
                wandb.teardown()
                complaint = f"wandb cannot be reached ({type(error).__name__}: {error})".replace("\n", " ")
        if self._run is None:
            self._run = wandb.init(mode="offline", settings=wandb.Settings(**settings), **arguments)
        # The x-axes, which need no charts of their own.
        for name in message["axes"]:
            self._run.define_metric(name, hidden=True)
        path = Path(self._run.dir).parent
        directory = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        later = f"`wandb sync {directory}` uploads it"
        if complaint is not None:
            self._answer(directory=directory, complaint=f"{complaint}; the run is kept offline, and {later}")
        elif message["mode"] == "offline":
            self._answer(directory=directory, notice=f"the run is kept offline; {later}")
        else:
            self._answer(directory=directory, notice=f"run {self._run.url}")

    def log(self, message: Mapping[str, Any]) -> None:
        """Log the values of one step."""
        # A resumed run makes some steps again; those that wandb has are the same.
        if message["step"] >= self._run.starting_step:
            self._last_step = message["step"]
            self._run.log(message["values"], step=message["step"])

    def samples(self, message: Mapping[str, Any]) -> None:
        """Log texts as a table."""
        import wandb

        rows = [[message["step"], index, text] for index, text in enumerate(message["texts"])]
        table = wandb.Table(columns=["step", "index", "text"], data=rows)
        self.log({"step": message["step"], "values": {"samples": table}})

    def finish(self, message: Mapping[str, Any]) -> None:
        """Keep the summary, the picture and the checkpoint."""
        import wandb

        if message["picture"] is not None:
            self.log({"step": self._last_step, "values": {"loss_curve": wandb.Image(message["picture"])}})
        if message["checkpoint"] is not None:
            # The names of artifacts take no other characters.
            name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self._run.name or self._run.id)
            artifact = wandb.Artifact(f"{name}-checkpoint", type="model", metadata={"step": message["step"]})
            artifact.add_dir(message["checkpoint"], policy="immutable", skip_cache=True)  # no copies
            self._run.log_artifact(artifact, aliases=["best"])
        self._run.log({}, step=self._last_step, commit=True)  # or the last row would replace what follows
        self._run.summary.update(message["summary"])

    def close(self, message: Mapping[str, Any]) -> None:
        """Upload what is left."""
        if self._run is not None:
            self._run.finish(exit_code=message["exit_code"])


def main() -> int:
    """Do what the lines of the standard input say; 0 if all went well."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the end comes by the standard input
    answers = _take_standard_output()

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values).encode("utf-8") + b"\n")
        answers.flush()

    run = WandbRun(answer)
    closing = {"message": "close", "exit_code": 1}
    try:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            getattr(run, message["message"])(message)
            if message["message"] == "close":
                return 0
    except Exception as error:
        traceback.print_exc()
        answer(failure=f"{type(error).__name__}: {error}")
    # The training process is gone, or something failed: wandb shall show it, but not for ever.
    timer = threading.Timer(run.finish_seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    run.close(closing)
    return 1


def _take_standard_output() -> IO[bytes]:
    """Return the standard output for the answers alone; what others print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _check_reachable(url: str) -> None:
    """Find out in a moment what wandb would find out in a minute: that there is no network."""
    parts = urlsplit(url)
    if urllib.request.getproxies() or parts.hostname is None:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname, port), timeout=_REACH_SECONDS).close()


if __name__ == "__main__":
    raise SystemExit(main())
