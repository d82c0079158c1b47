"""Pictures of a report: functions that return drawings, and `rendered`, which turns a drawing into a file."""

from tinystories.reporting.pictures.batches import batch_costs, batch_losses, batch_rates, batch_speeds
from tinystories.reporting.pictures.curves import AXIS_LABELS, CROSS, learning_curves
from tinystories.reporting.pictures.forest import differences
from tinystories.reporting.pictures.rates import rate_curve
from tinystories.reporting.pictures.style import DARK, LIGHT, Drawing, Theme, rendered

__all__ = [
    "AXIS_LABELS",
    "CROSS",
    "DARK",
    "LIGHT",
    "Drawing",
    "Theme",
    "batch_costs",
    "batch_losses",
    "batch_rates",
    "batch_speeds",
    "differences",
    "learning_curves",
    "rate_curve",
    "rendered",
]
