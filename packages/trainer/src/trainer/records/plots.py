"""Learning curves of a run as a picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.support.files import write_atomically

_CURVES = (("train", "training", "tab:blue", 1.0, ""), ("eval", "validation", "tab:orange", 2.0, "o"))
_AXES = (("step", "optimizer steps"), ("seconds_total", "seconds, everything included"))


def draw_losses(records: Sequence[Mapping[str, Any]], path: Path, title: str) -> bool:
    """Draw training and validation loss against steps and seconds; losses that are not finite are crosses at the top.

    Returns:
        True if the picture was drawn; without matplotlib there is a warning instead.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        warnings.warn(
            f"matplotlib is not installed, so {path.name} is not drawn; pip install scratchlm-trainer[plots]",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (quantity, label) in zip(figure.subplots(1, len(_AXES), sharey=True), _AXES, strict=True):
        for event, name, color, width, marker in _CURVES:
            points = [(record[quantity], record["loss"]) for record in records if record["event"] == event]
            finite = [(x, y) for x, y in points if y is not None]
            axes.plot(
                *zip(*finite, strict=True) if finite else ((), ()),
                color=color,
                lw=width,
                marker=marker,
                ms=4,
                label=name,
            )
            broken = [x for x, y in points if y is None]
            if broken:
                axes.plot(
                    broken,
                    [0.97] * len(broken),
                    "x",
                    color=color,
                    transform=axes.get_xaxis_transform(),
                    label=f"{name}: not finite",
                )
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("loss (nats per token)")
    figure.axes[0].legend()
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(path, picture.getvalue())
    return True
