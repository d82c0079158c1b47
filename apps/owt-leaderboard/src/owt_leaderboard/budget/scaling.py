"""Loss as a function of compute: measured runs, a power law fitted to these runs, and its uncertainty."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MIN_RUNS = 3
"""Minimum number of runs for a fit: two for its parameters, and one more to estimate the uncertainty."""
PACKAGED = Path(__file__).with_name("measurements.json")
"""File of the measurements that are installed with the app."""


@dataclass(frozen=True)
class Measurement:
    """Sizes, speed and loss of a finished run; the sizes depend on its device and time limit."""

    device: str
    """Name of the device; with N processes, followed by " x N"."""
    dataset: str
    time_limit_seconds: float
    vocab_size: int
    context_length: int
    num_layers: int
    d_model: int
    batch_size: int
    parameters: int
    """Parameters of the matrices and the output layer."""
    tokens: int
    tokens_per_second: float
    flops: float
    """Floating-point operations of the whole training: tokens times the operations per token, forward and backward."""
    flops_per_second: float
    training_share: float
    """Seconds of training divided by the time limit."""
    loss: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class Prediction:
    """Predicted loss with its 95 % interval, valid if the fitted law continues to hold."""

    loss: float
    low: float
    high: float
    extrapolation: float
    """Compute divided by the largest measured compute; above 1, the prediction is an extrapolation."""


def read_measurements(path: Path) -> list[Measurement]:
    """Read a JSON list of measurements.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file contains anything else.
    """
    try:
        return [Measurement(**value) for value in json.loads(path.read_text("utf-8"))]
    except (TypeError, json.JSONDecodeError) as error:
        names = ", ".join(Measurement.__dataclass_fields__)
        raise ValueError(f"{path} ({error}): expected a JSON list of objects with {names}") from error


def measured_on(device: str, dataset: str, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements of one device and data set; the beginning of the device's name is enough.

    Raises:
        ValueError: If the names of several devices begin with `device`.
    """
    on_dataset = [run for run in measurements if run.dataset == dataset]
    found = [run for run in on_dataset if run.device == device]
    found = found or [run for run in on_dataset if run.device.startswith(device)]
    if len(names := sorted({run.device for run in found})) > 1:
        raise ValueError(f"{device} fits several measured devices: expected one of {', '.join(names)}")
    return found


def write_measurements(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write measurements as JSON, which `read_measurements` reads."""
    from trainer import write_atomically

    text = json.dumps([asdict(run) for run in measurements], indent=2, allow_nan=False)
    write_atomically(path, text.encode("utf-8") + b"\n")


def predict_loss(measurements: Sequence[Measurement], flops: float) -> Prediction:
    """Predict the loss of a run with this much compute, by a least-squares fit of ln loss = a + b · ln flops.

    The interval is the prediction interval of a single new run (Student's t with n - 2 degrees of freedom). A power law
    has no lower bound, but the loss has one: far beyond the measurements, the prediction is too low.

    Raises:
        ValueError: If there are fewer than three runs, or all have the same compute.
    """
    from trainer.experiments.comparison import CONFIDENCE, student_quantile

    count = len(measurements)
    if count < MIN_RUNS:
        raise ValueError(f"{count} measured runs: expected at least {MIN_RUNS}, with different limits")
    x = [math.log(run.flops) for run in measurements]
    y = [math.log(run.loss) for run in measurements]
    mean_x, mean_y = math.fsum(x) / count, math.fsum(y) / count
    spread = math.fsum((value - mean_x) ** 2 for value in x)
    if spread < 1e-12:
        raise ValueError("all measured runs have the same compute: expected different limits")
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residual = math.fsum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True)) / (count - 2)
    offset = math.log(flops) - mean_x
    middle = mean_y + slope * offset
    half = student_quantile((1 + CONFIDENCE) / 2, count - 2) * math.sqrt(
        residual * (1 + 1 / count + offset**2 / spread)
    )
    largest = max(run.flops for run in measurements)
    return Prediction(math.exp(middle), math.exp(middle - half), math.exp(middle + half), flops / largest)


def nearest_speed(measurements: Sequence[Measurement], time_limit_seconds: float) -> tuple[float, float]:
    """Return FLOP per second and training share of the run whose time limit is nearest to this one, by ratio."""
    nearest = min(measurements, key=lambda run: abs(math.log(run.time_limit_seconds / time_limit_seconds)))
    return nearest.flops_per_second, nearest.training_share
