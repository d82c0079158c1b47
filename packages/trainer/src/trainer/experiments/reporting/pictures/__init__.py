"""Pictures of a report: functions that return drawings, and `rendered`, which turns a drawing into a file."""

from trainer.experiments.reporting.pictures.batches import batch_costs as batch_costs
from trainer.experiments.reporting.pictures.batches import batch_losses as batch_losses
from trainer.experiments.reporting.pictures.batches import batch_rates as batch_rates
from trainer.experiments.reporting.pictures.batches import batch_speeds as batch_speeds
from trainer.experiments.reporting.pictures.curves import AXIS_LABELS as AXIS_LABELS
from trainer.experiments.reporting.pictures.curves import CROSS as CROSS
from trainer.experiments.reporting.pictures.curves import learning_curves as learning_curves
from trainer.experiments.reporting.pictures.forest import differences as differences
from trainer.experiments.reporting.pictures.rates import rate_curve as rate_curve
from trainer.experiments.reporting.pictures.style import DARK as DARK
from trainer.experiments.reporting.pictures.style import LIGHT as LIGHT
from trainer.experiments.reporting.pictures.style import Drawing as Drawing
from trainer.experiments.reporting.pictures.style import rendered as rendered
