"""What a run left in its directory, read back for tables and pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinystories.experiments import VARIANTS


@dataclass(frozen=True)
class Curve:
    """One quantity over a run; the three lists have equal length, and None marks a loss that was not finite."""

    steps: list[int]
    seconds: list[float]
    losses: list[float | None]


@dataclass(frozen=True)
class Result:
    """One finished run."""

    name: str
    directory: Path
    recipe: dict[str, Any]
    summary: dict[str, Any]
    valid: Curve
    train: Curve
    sample: str | None
    """The last text that the model wrote in training."""

    @property
    def what(self) -> str:
        """The variant in a few words."""
        return VARIANTS[self.name].what if self.name in VARIANTS else self.name

    @property
    def divergence(self) -> str:
        """When and how the run diverged, or "no"."""
        if not self.summary["diverged"]:
            return "no"
        step = self.summary["diverged_at_step"]
        return "yes: ends above its start" if step is None else f"yes: not finite at step {step:,}"


def read_result(directory: Path) -> Result:
    """Read one run.

    Raises:
        FileNotFoundError: the run is not finished (it has no `summary.json`).
    """
    from trainer import read_config, read_metrics

    path = directory / "summary.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} is not a finished run: it has no summary.json; run the same command again"
        )
    records = read_metrics(directory)
    samples = directory / "samples.jsonl"
    texts = samples.read_text("utf-8").splitlines() if samples.exists() else []
    return Result(
        name=directory.name,
        directory=directory,
        recipe=read_config(directory)["recorded"]["recipe"],
        summary=json.loads(path.read_text("utf-8")),
        valid=_curve(records, "eval"),
        train=_curve(records, "train"),
        sample=json.loads(texts[-1])["text"] if texts else None,
    )


def finished_runs(directory: Path) -> list[Path]:
    """The finished runs of an experiment, the known variants first and in their order.

    Raises:
        FileNotFoundError: there is none.
    """
    found = {path.parent.name: path.parent for path in directory.glob("*/summary.json")}
    if not found:
        raise FileNotFoundError(f"{directory} holds no finished run; python -m tinystories.run ablations makes some")
    known = [name for name in VARIANTS if name in found]
    return [found[name] for name in known + sorted(found.keys() - known)]


def _curve(records: list[dict[str, Any]], event: str) -> Curve:
    chosen = [record for record in records if record["event"] == event]
    return Curve(
        [record["step"] for record in chosen],
        [record["seconds_total"] for record in chosen],
        [record["loss"] for record in chosen],
    )
