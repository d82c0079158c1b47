"""Style of the pictures: a light and a dark theme, colours, and labels at the ends of lines."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^Dv"
SIZE = (5.6, 4.4)  # inches
DPI = 240


@dataclass(frozen=True)
class Theme:
    """Colours on a light or a dark background."""

    ground: str
    ink: str
    faint: str
    """Grids and secondary points."""
    bad: str
    """Divergence and failure."""
    good: str
    neutral: str
    colours: tuple[str, ...]
    """Distinct for most colour-blind readers (after Okabe and Ito, 2008)."""


LIGHT = Theme(
    ground="#ffffff",
    ink="#1d2430",
    faint="#8a93a3",
    bad="#b3261e",
    good="#00745a",
    neutral="#59657a",
    colours=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98700", "#3a9ad9", "#7a4fb5", "#8c5a3c"),
)
DARK = Theme(
    ground="#151a22",
    ink="#e7ebf2",
    faint="#77829a",
    bad="#ff8a80",
    good="#4cd3a5",
    neutral="#a7b2c6",
    colours=("#56b4e9", "#ff9248", "#2fd0a0", "#f0a5cf", "#f0c419", "#8fc7ff", "#b99bf2", "#d7a583"),
)

Drawing = Callable[["Figure", Theme], None]
"""Draws into an empty figure."""


def rendered(drawing: Drawing, theme: Theme, form: Literal["png", "svg"]) -> bytes:
    """Render a drawing as the content of a file."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, object] = {
        "axes.edgecolor": theme.faint,
        "axes.facecolor": theme.ground,
        "axes.grid": True,
        "axes.labelcolor": theme.ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": theme.ground,
        "font.size": 10.5,
        "grid.alpha": 0.25,
        "grid.color": theme.faint,
        "legend.frameon": False,
        "savefig.facecolor": theme.ground,
        "svg.hashsalt": "trainer",  # makes the bytes reproducible
        "text.color": theme.ink,
        "text.parse_math": False,  # dollar signs in names are literal
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=SIZE, layout="constrained")
        drawing(figure, theme)
        content = io.BytesIO()
        figure.savefig(content, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else {})
    return content.getvalue()


def colour(theme: Theme, number: int) -> str:
    """The colour of the line with this number."""
    return theme.colours[number % len(theme.colours)]


def gradient(theme: Theme, share: float) -> str:
    """A colour of a scale from cold to warm at `share` (0 to 1), without colours too close to the background."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["plasma"](0.8 * share if theme is LIGHT else 0.4 + 0.6 * share))


def marker(number: int) -> str:
    """The marker of the line with this number; it changes when the colours repeat."""
    return MARKERS[number // len(LIGHT.colours) % len(MARKERS)]


def label_ends(axes: "Axes", ends: list[tuple[float, float, str, str]]) -> None:
    """Write the name of every line to the right of the axes, in order and without overlap.

    Args:
        axes: Axes with final limits.
        ends: x, y, name and colour of every line.
    """
    if not ends:
        return
    low, high = axes.get_ylim()
    x_low, x_high = axes.get_xlim()
    height = 0.8 * SIZE[1] * 72  # of the axes, in points, approximately
    gap = 12 / height
    wanted = sorted(
        ((min(max((y - low) / (high - low), 0.0), 1.0), (x - x_low) / (x_high - x_low), name, tint))
        for x, y, name, tint in ends
    )
    places = _spread_out([place for place, *_ in wanted], gap)
    for place, (y, x, name, tint) in zip(places, wanted, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.025, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=tint,
            va="center",
            fontsize=9.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": tint, "alpha": 0.45, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        )


def _spread_out(places: list[float], gap: float) -> list[float]:
    """Move ascending places as little as needed to be `gap` apart, from the bottom up and then back from the top."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else max(place, 0.0))
    top = 1.0
    for number in reversed(range(len(moved))):
        moved[number] = min(moved[number], top)
        top = moved[number] - gap
    return moved
