"""Pictures of a report: functions that return drawings, and `rendered`, which turns a drawing into a file."""

from tinystories.reporting.pictures.batches import batch_costs as batch_costs
from tinystories.reporting.pictures.batches import batch_losses as batch_losses
from tinystories.reporting.pictures.batches import batch_rates as batch_rates
from tinystories.reporting.pictures.batches import batch_speeds as batch_speeds
from tinystories.reporting.pictures.curves import AXIS_LABELS as AXIS_LABELS
from tinystories.reporting.pictures.curves import CROSS as CROSS
from tinystories.reporting.pictures.curves import learning_curves as learning_curves
from tinystories.reporting.pictures.forest import differences as differences
from tinystories.reporting.pictures.rates import rate_curve as rate_curve
from tinystories.reporting.pictures.style import DARK as DARK
from tinystories.reporting.pictures.style import LIGHT as LIGHT
from tinystories.reporting.pictures.style import Drawing as Drawing
from tinystories.reporting.pictures.style import rendered as rendered
