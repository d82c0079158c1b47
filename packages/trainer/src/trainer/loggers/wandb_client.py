"""The process that talks to wandb, seen from the run: what it is told, and what it answers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.checkpoints.single_file import CheckpointStore
from trainer.loggers.protocol import Record, RunInfo, numbers_of
from trainer.loggers.wandb_settings import wandb_url

if TYPE_CHECKING:
    from trainer.records.summary import Summary

_PROGRAM = Path(__file__).with_name("wandb_process.py")
_AXES = ("tokens", "seconds_total", "seconds_training", "progress")
_SECONDS_TO_END = 5


class WandbClient:
    """Starts the process and sends it everything, as one JSON object per line; for `BackgroundLogger`'s thread.

    Args:
        mode: "online" or "offline".
        settings: arguments of `wandb.init`.
        log_checkpoint: whether the best checkpoint becomes an artifact.
        connect_seconds: how long the service may take to answer.
        finish_seconds: how long the process may take to end by itself when this one is killed.
    """

    def __init__(
        self,
        *,
        mode: str,
        settings: Mapping[str, Any],
        log_checkpoint: bool,
        connect_seconds: float,
        finish_seconds: float,
    ) -> None:
        self.complaints: list[str] = []
        """What the user shall be warned about."""
        self._mode = mode
        self._settings = settings
        self._log_checkpoint = log_checkpoint
        self._seconds = {"connect_seconds": connect_seconds, "finish_seconds": finish_seconds}
        self._run_dir = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._failure: str | None = None
        self._is_complete = False
        self._directory: str | None = None

    def on_start(self, run: RunInfo) -> None:
        """Start the process and the run in it."""
        self._run_dir = run.run_dir.resolve()
        folder = self._run_dir / "wandb"
        folder.mkdir(exist_ok=True)
        self._failure, self._is_complete, self._directory = None, False, None
        with (folder / "messages.log").open("ab") as messages:
            self._process = subprocess.Popen(
                # -P: the folder of the program has a module that is called wandb, too.
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                env=_environment(folder, self._mode),
                start_new_session=True,  # Ctrl-C is for the run, which then closes this in order
            )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        self._send(
            "start",
            mode=self._mode,
            id=run.run_id,
            directory=str(self._run_dir),
            settings={**self._settings, "name": self._settings.get("name") or self._run_dir.name},
            config={**run.config, "environment": _without_diff(run.environment)},
            axes=_AXES,
            url=wandb_url(),
            command=sys.argv,
            pid=os.getpid(),
            **self._seconds,
        )

    def log(self, record: Record) -> None:
        """Send the numbers of a record, named by its event; those that are x-axes under their own name."""
        numbers = numbers_of(record)
        values = {name if name in _AXES else f"{record['event']}/{name}": value for name, value in numbers.items()}
        self._send("log", step=record["step"], values=values)

    def on_samples(self, step: int, texts: list[str]) -> None:
        """Send what the model wrote."""
        self._send("samples", step=step, texts=texts)

    def on_finish(self, summary: Summary) -> None:
        """Send what is known at the end."""
        self._is_complete = True
        picture = self._run_dir / "loss.png"
        best = CheckpointStore(self._run_dir / "checkpoints", keep=1).best() if self._log_checkpoint else None
        self._send(
            "finish",
            summary=summary.to_json(),
            step=summary.steps,
            picture=str(picture) if picture.exists() else None,
            checkpoint=None if best is None else str(best),
        )

    def close(self) -> None:
        """Let the process upload what is left and end."""
        if self._process is None:
            return
        if self._failure is None:
            self._send("close", exit_code=0 if self._is_complete else 1)
            self._process.wait()
        self._let_go()
        if self._failure is not None:
            raise ConnectionError(self._failure)

    def abandon(self) -> str | None:
        """End the process, and say how to upload what it did not."""
        if self._process is not None:
            self._process.kill()
            self._let_go()
        return None if self._directory is None else f"`wandb sync {self._directory}` uploads the rest"

    def _send(self, message: str, **values: Any) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError(f"{message} came before on_start: expected a call of on_start first")
        if self._failure is not None:
            raise ConnectionError(self._failure)
        try:
            process.stdin.write(json.dumps({"message": message, **values}, default=str).encode("utf-8") + b"\n")
            process.stdin.flush()
        except OSError as error:
            code = process.wait()
            self._let_go()
            reason = self._failure or f"its process ended with exit code {code}; see {self._run_dir / 'wandb'}"
            raise ConnectionError(reason) from error

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Take the answers, each a JSON object in a line, until the process ends."""
        if process.stdout is None:
            return
        with process.stdout as answers:
            for line in answers:
                answer = json.loads(line)
                self._directory = answer.get("directory", self._directory)
                self._failure = answer.get("failure", self._failure)
                if "complaint" in answer:
                    self.complaints.append(answer["complaint"])
                if "notice" in answer:
                    print(f"wandb: {answer['notice']}", file=sys.stderr, flush=True)

    def _let_go(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):  # what could not be sent is lost
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join(_SECONDS_TO_END)


def _without_diff(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What was changed in the code stays on this machine."""
    git = environment.get("git")
    short = {name: git[name] for name in ("commit", "dirty")} if git else None
    return {**environment, "git": short}


def _environment(folder: Path, mode: str) -> dict[str, str]:
    """Variables of the process: its files belong into the run directory, and its connections are its own."""
    variables = {
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "data"),
        **os.environ,
    }
    variables.pop("WANDB_SERVICE", None)  # of a wandb in this process
    if mode == "offline":
        variables.setdefault("WANDB_ERROR_REPORTING", "false")  # which would use the network
    return variables
