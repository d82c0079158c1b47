"""Records to Weights & Biases, on its service or offline."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import Any, Literal, get_args

from trainer.loggers.background import BackgroundLogger
from trainer.loggers.protocol import Record, RunInfo
from trainer.loggers.wandb_client import WandbClient
from trainer.loggers.wandb_settings import find_wandb_key, wandb_mode_setting

WandbMode = Literal["auto", "online", "offline", "disabled"]


class WandbLogger(BackgroundLogger):
    """Keeps configuration, metrics, samples, learning curve and summary of a run in wandb, which is never waited for.

    wandb runs in a process of its own, fed by a thread: whatever happens there, training goes on, and the process is
    ended when it does not finish in time. Its files are in the run directory, under `wandb/`. A service that cannot be
    reached is warned about once, and the run is kept offline for `wandb sync`. A resumed run continues the same run
    there. Metrics are named `train/loss`, `eval/loss`, …, over wandb's step, which is the optimizer step; `tokens`,
    `seconds_total` and `seconds_training` are there as other x-axes.

    Args:
        mode: "online", "offline", "disabled", or "auto": what WANDB_MODE or `wandb offline` says, else online if an API
            key is configured, else nothing, and one line says so. It never prompts.
        project: None is WANDB_PROJECT, or what wandb chooses.
        name: how the run is called; None is the name of its directory.
        entity: the user or team; None is the default one.
        group: groups runs that belong together.
        tags: labels to find runs by.
        log_checkpoint: also keep the best checkpoint, as an artifact; give `close_seconds` enough for its upload.
        connect_seconds: how long the service may take to answer at the start; training does not wait.
        close_seconds: how long the end of the run waits for what is not yet uploaded.

    Raises:
        ValueError: a mode that there is not, or a number that is not above 0.
        ModuleNotFoundError: wandb is not installed and `mode` is "online" or "offline".
    """

    def __init__(
        self,
        mode: WandbMode = "auto",
        *,
        project: str | None = None,
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        log_checkpoint: bool = False,
        connect_seconds: float = 60.0,
        close_seconds: float = 30.0,
    ) -> None:
        if mode not in get_args(WandbMode):
            raise ValueError(f"mode is {mode!r}: expected one of {', '.join(map(repr, get_args(WandbMode)))}")
        if not connect_seconds > 0:
            raise ValueError(f"connect_seconds is {connect_seconds!r}: expected a number above 0")
        installed = importlib.util.find_spec("wandb") is not None
        if mode in ("online", "offline") and not installed:
            raise ModuleNotFoundError(
                'wandb is not installed: pip install "scratchlm-trainer[wandb]", or from the root of the repository '
                'pip install "packages/trainer[wandb]"',
                name="wandb",
            )
        self._reason: str | None = None
        if mode == "auto":
            mode, self._reason = _resolve_auto(installed=installed)
        self.mode = mode
        """What "auto" came to, or what was given."""
        self._client = WandbClient(
            mode=mode,
            settings={"project": project, "name": name, "entity": entity, "group": group, "tags": list(tags)},
            log_checkpoint=log_checkpoint,
            connect_seconds=connect_seconds,
            finish_seconds=close_seconds,
        )
        super().__init__(self._client, close_seconds=close_seconds)

    def on_start(self, run: RunInfo) -> None:
        """Start the run in wandb, or continue it."""
        super().on_start(run)
        if self._reason is not None:
            print(f"wandb: {self._reason}; metrics are in {run.run_dir / 'metrics.jsonl'}", file=sys.stderr)

    def log(self, record: Record) -> None:
        """Pass on a record of training or evaluation."""
        if record["event"] != "notice":
            self._tell()
            super().log(record)

    def close(self) -> None:
        """Wait for what is not uploaded yet, but no longer than `close_seconds`."""
        if self.mode != "disabled":
            super().close()
            self._tell()

    def _call(self, method: str, *arguments: Any, can_drop: bool = False) -> None:
        if self.mode != "disabled":
            super()._call(method, *arguments, can_drop=can_drop)

    def _tell(self) -> None:
        """Warn here, and not in the thread, about what the process says."""
        while self._client.complaints:
            warnings.warn(self._client.complaints.pop(0), RuntimeWarning, stacklevel=4)


def _resolve_auto(*, installed: bool) -> tuple[WandbMode, str | None]:
    """The mode, and if it is a surprise that nothing is sent, why."""
    asked = wandb_mode_setting()
    key = find_wandb_key()
    if asked in ("disabled", "dryrun", "offline", "online") and (asked == "disabled" or installed):
        modes: dict[str, WandbMode] = {"disabled": "disabled", "online": "online"}
        return modes.get(asked, "offline"), None
    if key is None:
        return "disabled", (
            "nothing is sent, because no API key is configured: run `wandb login`, set WANDB_API_KEY, or choose the "
            "mode offline and run `wandb sync` later"
        )
    if not installed:
        return "disabled", (
            f"nothing is sent, because it is not installed though {key} has a key: "
            'pip install "scratchlm-trainer[wandb]"'
        )
    return "online", None
