"""Records to Weights & Biases, on its service or offline."""

from __future__ import annotations

import contextlib
import importlib.util
import netrc
import os
import socket
import sys
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from trainer.loggers.background import BackgroundLogger
from trainer.loggers.protocol import Record, RunInfo, RunSummary, numbers_of

WandbMode = Literal["auto", "online", "offline", "disabled"]

_AXES = ("tokens", "seconds_total", "seconds_training", "progress")
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com", "forge.coreweave.com")
"""Hosts of wandb's own service, by the names that its versions use; a key for one of them serves for all."""
_REACH_SECONDS = 5.0
_NO_KEY = (
    "nothing is sent, because no API key is configured: run `wandb login`, set WANDB_API_KEY, or choose the mode "
    "offline and run `wandb sync` later"
)


def check_wandb(mode: WandbMode) -> None:
    """Check that wandb is installed if a mode needs it, for example before a text is prepared for hours.

    Raises:
        ModuleNotFoundError: If it is not.
    """
    if mode in ("online", "offline") and not _is_installed():
        raise ModuleNotFoundError(
            'wandb is not installed: pip install "scratchlm-trainer[wandb]", or from the root of the repository '
            'pip install "packages/trainer[wandb]"',
            name="wandb",
        )


def _is_installed() -> bool:
    return importlib.util.find_spec("wandb") is not None


class WandbLogger(BackgroundLogger):
    """Sends configuration, metrics, samples, learning curve and summary of a run to wandb; training never waits for it.

    A background thread imports wandb and makes all calls. Its files are in the run directory, under `wandb/`. If the
    service cannot be reached, one warning says so, and the run is kept offline for `wandb sync`. A resumed run
    continues the same wandb run. Metrics are named `train/loss`, `eval/loss`, …, over wandb's step, which is the
    optimizer step; `tokens`, `seconds_total` and `seconds_training` serve as other x-axes.

    Args:
        mode: "online", "offline", "disabled" or "auto". "auto" follows WANDB_MODE and `wandb offline`; otherwise it is
            online if an API key is configured, and disabled if not, which one line says. It never prompts.
        project: The wandb project; None is WANDB_PROJECT, or wandb's default.
        name: The name of the run; None is the name of its directory.
        entity: The user or team; None is the default one.
        group: Groups runs that belong together.
        tags: Labels to find runs by.
        log_checkpoint: Also upload the best checkpoint as an artifact; allow `close_seconds` enough for it.
        connect_seconds: How long the service may take to answer at the start; training does not wait.
        close_seconds: How long the end of the run waits for uploads.

    Raises:
        ValueError: If the mode is unknown, or a number is not above 0.
        ModuleNotFoundError: If wandb is not installed and `mode` is "online" or "offline".
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
        check_wandb(mode)
        self._reason: str | None = None
        if mode == "auto":
            mode, self._reason = _resolve_auto(is_installed=_is_installed())
        self._run = _WandbRun(
            mode,
            {"project": project, "name": name, "entity": entity, "group": group, "tags": list(tags)},
            log_checkpoint=log_checkpoint,
            connect_seconds=connect_seconds,
        )
        super().__init__(self._run, close_seconds=close_seconds)

    @property
    def mode(self) -> WandbMode:
        """The mode in use; "auto" is decided at the latest when the run starts."""
        return self._run.mode

    def on_start(self, run: RunInfo) -> None:
        """Start the wandb run, or continue it."""
        super().on_start(run)
        if self._reason is not None:
            _print_notice(f"{self._reason}; metrics are in {run.run_dir / 'metrics.jsonl'}")

    def log(self, record: Record) -> None:
        """Send a record of training or evaluation."""
        if record["event"] != "notice":
            self._warn_here()
            super().log(record)

    def close(self) -> None:
        """Wait for uploads, but no longer than `close_seconds`."""
        if self.mode != "disabled":
            super().close()
            self._warn_here()

    def _call(self, method: str, *arguments: Any, can_drop: bool = False) -> None:
        if self.mode != "disabled":
            super()._call(method, *arguments, can_drop=can_drop)

    def _warn_here(self) -> None:
        """Pass on the thread's warnings: filters of warnings are only reliable in the caller's thread."""
        while self._run.complaints:
            warnings.warn(self._run.complaints.pop(0), RuntimeWarning, stacklevel=4)


class _WandbRun:
    """The wandb run; all methods but `abandon` are called in the background thread."""

    def __init__(
        self, mode: WandbMode, arguments: Mapping[str, Any], *, log_checkpoint: bool, connect_seconds: float
    ) -> None:
        self.mode = mode
        self.complaints: list[str] = []
        """Warnings for the user."""
        self._arguments = arguments
        self._log_checkpoint = log_checkpoint
        self._connect_seconds = connect_seconds
        self._info: RunInfo | None = None
        self._run: Any = None
        self._directory: str | None = None
        self._last_step = 0
        self._is_complete = False
        self._variables: list[str] = []

    def on_start(self, run: RunInfo) -> None:
        self._info, self._run, self._directory, self._is_complete = run, None, None, False
        folder = run.run_dir.resolve() / "wandb"
        folder.mkdir(exist_ok=True)
        # Whatever wandb writes belongs in the run directory, and an offline run must not use the network.
        defaults = {"WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_DATA_DIR": str(folder / "data")}
        defaults |= {"WANDB_ERROR_REPORTING": "false"} if self.mode == "offline" else {}
        self._variables = [name for name in defaults if name not in os.environ]
        os.environ.update({name: defaults[name] for name in self._variables})
        settings = _start_service()
        if self.mode == "auto":
            self.mode = _mode_of(settings)
        if self.mode == "disabled":
            _print_notice(f"{_NO_KEY}; metrics are in {run.run_dir / 'metrics.jsonl'}")
            return
        complaint = None
        if self.mode == "online" and not _has_key(settings):
            complaint = (
                "no API key for wandb is configured: run `wandb login` or set WANDB_API_KEY"  # wandb would prompt
            )
        elif self.mode == "online":
            try:
                _check_reachable(settings.base_url)
                self._run = self._init("online", init_timeout=self._connect_seconds, resume=True)
            except Exception as error:
                complaint = f"wandb cannot be reached ({type(error).__name__}: {error})".replace("\n", " ")
                _stop_service()  # it would refuse the id of the run that failed to start
                _start_service()
        if self._run is None:
            self._run = self._init("offline")
        for name in _AXES:  # x-axes need no charts of their own
            self._run.define_metric(name, hidden=True)
        path = Path(self._run.dir).parent
        self._directory = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        later = f"`wandb sync {self._directory}` uploads it"
        if complaint is not None:
            self.complaints.append(f"{complaint}; the run is kept offline, and {later}")
        else:
            _print_notice(f"the run is kept offline; {later}" if self.mode == "offline" else f"run {self._run.url}")

    def log(self, record: Record) -> None:
        numbers = numbers_of(record)
        values = {name if name in _AXES else f"{record['event']}/{name}": value for name, value in numbers.items()}
        self._log(record["step"], values)

    def on_samples(self, step: int, texts: list[str]) -> None:
        import wandb

        rows = [[step, index, text] for index, text in enumerate(texts)]
        self._log(step, {"samples": wandb.Table(columns=["step", "index", "text"], data=rows)})

    def on_finish(self, summary: RunSummary) -> None:
        import wandb

        if self._run is None or self._info is None:
            return
        picture = self._info.run_dir / "loss.png"
        if picture.exists():
            self._log(self._last_step, {"loss_curve": wandb.Image(str(picture))})
        checkpoint = self._info.best_checkpoint() if self._log_checkpoint else None
        if checkpoint is not None:
            # The names of artifacts take no other characters.
            name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self._run.name or self._run.id)
            artifact = wandb.Artifact(f"{name}-checkpoint", type="model", metadata={"step": summary.steps})
            artifact.add_dir(str(checkpoint.resolve()), policy="immutable", skip_cache=True)  # no copies
            self._run.log_artifact(artifact, aliases=["best"])
        self._run.log({}, step=self._last_step, commit=True)  # or the last row would overwrite the summary
        self._run.summary.update(summary.to_json())
        self._is_complete = True

    def close(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if self._is_complete else 1)
            self._run = None
            _stop_service()
        for name in self._variables:
            os.environ.pop(name, None)

    def abandon(self) -> str | None:
        """Say how to upload what wandb did not."""
        return None if self._directory is None else f"`wandb sync {self._directory}` uploads the rest"

    def _init(self, mode: Literal["online", "offline"], *, resume: bool = False, **settings: Any) -> Any:
        import wandb

        assert self._info is not None
        return wandb.init(
            mode=mode,
            id=self._info.run_id,
            dir=str(self._info.run_dir.resolve()),
            config={**self._info.config, "environment": _without_diff(self._info.environment)},
            resume="allow" if resume else None,
            reinit="create_new",  # runs that the program has of its own stay as they are
            settings=wandb.Settings(silent=True, console="off", **settings),
            **{**self._arguments, "name": self._arguments["name"] or self._info.run_dir.resolve().name},
        )

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if self._info is None:
            raise RuntimeError("a record came before on_start: expected a call of on_start first")
        # A resumed run makes some steps again, and wandb has their records already.
        if self._run is not None and step >= self._run.starting_step:
            self._last_step = step
            self._run.log(values, step=step)


def _start_service() -> Any:
    """Start wandb's service process, and return the user's settings.

    The service waits for uploads, without a limit, in an exit function of this process. This function removes the exit
    function, because `close` has a limit of its own; the service ends soon after its parent process.
    """
    import wandb

    hooks = sys.exit, sys.excepthook
    setup = wandb.setup(wandb.Settings(silent=True))
    remove_exit_function = getattr(setup.ensure_service(), "_cleanup", None)
    if remove_exit_function is not None:
        remove_exit_function()
    sys.exit, sys.excepthook = hooks  # which wandb replaces
    return setup.settings


def _stop_service() -> None:
    """Wait until everything is on the disk, and stop the service unless the program has a wandb run of its own."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


def _check_reachable(url: str) -> None:
    """Notice at once that there is no network, for which wandb would wait until its timeout."""
    parts = urlsplit(url)
    if parts.hostname is not None and not urllib.request.getproxies():
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_REACH_SECONDS).close()


def _resolve_auto(*, is_installed: bool) -> tuple[WandbMode, str | None]:
    """Return the mode as far as it shows without importing wandb, and the reason if nothing will be sent."""
    asked = os.environ.get("WANDB_MODE")
    if asked == "disabled":
        return "disabled", None
    hints = [name for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE") if os.environ.get(name)]
    hints += [str(file) for file in (*_netrc_files(), _settings_file()) if file.is_file()]
    if not hints and not asked:
        return "disabled", _NO_KEY
    if not is_installed:
        return "disabled", (
            f"nothing is sent, because it is not installed though {(hints or ['WANDB_MODE'])[0]} is set up: "
            'pip install "scratchlm-trainer[wandb]"'
        )
    return "auto", None


def _mode_of(settings: Any) -> WandbMode:
    """Return the mode that the user's settings ask for; online only if there is an API key."""
    if settings.mode in ("offline", "dryrun"):
        return "offline"
    if settings.mode == "disabled":
        return "disabled"
    has_asked = os.environ.get("WANDB_MODE") == "online"
    return "online" if has_asked or _has_key(settings) else "disabled"


def _has_key(settings: Any) -> bool:
    if settings.api_key or settings.identity_token_file:
        return True
    host = urlsplit(settings.base_url).netloc
    hosts = _HOSTS if host in _HOSTS else (host,)
    for file in _netrc_files():
        with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
            entries = netrc.netrc(file).hosts
            if any(host in entries and entries[host][2] for host in hosts):
                return True
    return False


def _netrc_files() -> list[Path]:
    if given := os.environ.get("NETRC"):
        return [Path(given).expanduser()]
    return [Path("~", name).expanduser() for name in (".netrc", "_netrc")]


def _settings_file() -> Path:
    return Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb", "settings").expanduser()


def _without_diff(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment without changes to the code, which stay on this machine."""
    git = environment.get("git")
    return {**environment, "git": {name: git[name] for name in ("commit", "dirty")} if git else None}


def _print_notice(message: str) -> None:
    print(f"wandb: {message}", file=sys.stderr, flush=True)
