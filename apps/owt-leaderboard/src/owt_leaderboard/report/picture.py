"""Picture of an entry: losses against wall-clock seconds, with the limit marked."""

import io
from collections.abc import Sequence

Curve = Sequence[tuple[float, float | None]]
"""Pairs of seconds and loss; None where a loss was not finite."""


def picture_bytes(training: Curve, validation: Curve, *, limit: float, title: str) -> bytes:
    """Draw both curves and the limit, and return a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve, name, color, width, marker in (
        (training, "training", "tab:blue", 1.0, ""),
        (validation, "validation (the last on more text)", "tab:orange", 2.0, "o"),
    ):
        finite = [(seconds, loss) for seconds, loss in curve if loss is not None]
        seconds, losses = zip(*finite, strict=True) if finite else ((), ())
        axes.plot(seconds, losses, color=color, lw=width, marker=marker, ms=4, label=name)
    axes.axvline(limit, color="black", ls="--", lw=1, label=f"limit, {limit:,.0f} s")
    axes.set_xlim(0, 1.03 * limit)
    axes.set_xlabel("wall-clock seconds, everything except the preparation of the data")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
