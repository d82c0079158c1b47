"""The learning curve of one run."""

import json
from pathlib import Path
from typing import Any


def draw_losses(metrics_path: Path, picture_path: Path) -> bool:
    """Draw training and validation loss against steps and seconds; False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    records = [json.loads(line) for line in metrics_path.read_text("utf-8").splitlines()]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2, sharey=True), ("step", "seconds_total"), ("optimizer steps", "seconds"), strict=True
    ):
        _draw(axes, records, "train", key, {"color": "#9bb8d3", "label": "training"})
        _draw(axes, records, "eval", key, {"color": "#0072B2", "marker": "o", "markersize": 4, "label": "validation"})
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("loss (nats per token)")
    figure.axes[0].legend(frameon=False)
    temporary = picture_path.with_name(f".{picture_path.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(picture_path)
    return True


def _draw(axes: Any, records: list[dict[str, Any]], event: str, key: str, style: dict[str, Any]) -> None:
    points = [
        (record[key], record["loss"]) for record in records if record["event"] == event and record["loss"] is not None
    ]
    if points:
        axes.plot(*zip(*points, strict=True), **style)
