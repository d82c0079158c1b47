"""Loss as a function of compute: measured runs, a power law fitted to them, and its uncertainty."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MIN_RUNS = 3
"""Fewest runs to fit: two parameters, and one more to estimate the uncertainty."""
PACKAGED = Path(__file__).with_name("measurements.json")


@dataclass(frozen=True)
class Measurement:
    """A finished run whose sizes were chosen by its budget."""

    device: str
    """Name of the device; with several processes followed by " x N"."""
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
    """Floating-point operations of the whole training: tokens times those of a forward and backward pass."""
    flops_per_second: float
    training_share: float
    """Seconds of training divided by the time limit."""
    loss: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class Prediction:
    """A predicted loss with its 95 % interval, valid if the fitted law continues to hold."""

    loss: float
    low: float
    high: float
    extrapolation: float
    """Compute divided by the largest that was measured; at most 1 within the measurements."""


def read_measurements(path: Path) -> list[Measurement]:
    """Read a JSON list of measurements.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else.
    """
    try:
        return [Measurement(**value) for value in json.loads(path.read_text("utf-8"))]
    except (TypeError, json.JSONDecodeError) as error:
        names = ", ".join(Measurement.__dataclass_fields__)
        raise ValueError(f"{path} ({error}): expected a JSON list of objects with {names}") from error


def measured_on(device: str, dataset: str, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements of one device and data set; the start of the device's name is enough.

    Raises:
        ValueError: If the names of several devices start like this.
    """
    of_data = [one for one in measurements if one.dataset == dataset]
    found = [one for one in of_data if one.device == device]
    found = found or [one for one in of_data if one.device.startswith(device)]
    if len(names := sorted({one.device for one in found})) > 1:
        raise ValueError(f"{device} fits several measured devices: expected one of {', '.join(names)}")
    return found


def write_measurements(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write measurements for `read_measurements`."""
    from trainer import write_atomically

    text = json.dumps([asdict(one) for one in measurements], indent=2, allow_nan=False)
    write_atomically(path, text.encode("utf-8") + b"\n")


def predict_loss(measurements: Sequence[Measurement], flops: float) -> Prediction:
    """Predict the loss at a compute, by a least-squares fit of ln loss = a + b · ln flops.

    The interval is that of a single new run (Student's t with n - 2 degrees of freedom). A power law has no floor: far
    beyond the measurements, the true loss is higher.

    Raises:
        ValueError: If there are fewer than three runs, or all have the same compute.
    """
    from trainer.experiments.comparison import CONFIDENCE, student_quantile

    count = len(measurements)
    if count < MIN_RUNS:
        raise ValueError(f"{count} measured runs: expected at least {MIN_RUNS}, with different limits")
    x = [math.log(one.flops) for one in measurements]
    y = [math.log(one.loss) for one in measurements]
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
    largest = max(one.flops for one in measurements)
    return Prediction(math.exp(middle), math.exp(middle - half), math.exp(middle + half), flops / largest)


def nearest_speed(measurements: Sequence[Measurement], time_limit_seconds: float) -> tuple[float, float]:
    """Return operations per second and training share of the run whose limit is nearest, by ratio."""
    nearest = min(measurements, key=lambda one: abs(math.log(one.time_limit_seconds / time_limit_seconds)))
    return nearest.flops_per_second, nearest.training_share
