"""How the loss falls with compute: measured runs, a power law fitted to them, and how far it can be trusted."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEAST_RUNS = 3  # two parameters, and something left to tell the uncertainty
PACKAGED = Path(__file__).with_name("measurements.json")


@dataclass(frozen=True)
class Measurement:
    """One run whose sizes were chosen by its budget."""

    device: str
    """The device's name; with several processes followed by " x N"."""
    dataset: str
    time_limit_seconds: float
    vocab_size: int
    context_length: int
    num_layers: int
    d_model: int
    batch_size: int
    parameters: int
    """Of the matrices and the output layer."""
    tokens: int
    tokens_per_second: float
    flops: float
    """Of the whole training: tokens times the operations of a forward and backward pass."""
    flops_per_second: float
    training_share: float
    """Seconds of training by the limit."""
    loss: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class Prediction:
    """A loss, and the interval that holds it with 95 % probability if the law goes on as it was measured."""

    loss: float
    low: float
    high: float
    beyond: float
    """By how much the compute exceeds the largest that was measured; at most 1 inside of what was measured."""


def read_measurements(path: Path) -> list[Measurement]:
    """Read a JSON list of measurements.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    try:
        return [Measurement(**value) for value in json.loads(path.read_text("utf-8"))]
    except (TypeError, json.JSONDecodeError) as error:
        names = ", ".join(Measurement.__dataclass_fields__)
        raise ValueError(f"{path} ({error}): expected a JSON list of objects with {names}") from error


def measured_on(device: str, dataset: str, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Those of one device and data set; the device is given by its name or the beginning of its name.

    Raises:
        ValueError: several devices have names that begin so.
    """
    of_data = [one for one in measurements if one.dataset == dataset]
    found = [one for one in of_data if one.device == device] or [
        one for one in of_data if one.device.startswith(device)
    ]
    if len(names := sorted({one.device for one in found})) > 1:
        raise ValueError(f"{device} is the beginning of several measured devices: expected one of {', '.join(names)}")
    return found


def write_measurements(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write them, for `read_measurements`."""
    from trainer import write_atomically

    text = json.dumps([asdict(one) for one in measurements], indent=2, allow_nan=False)
    write_atomically(path, text.encode("utf-8") + b"\n")


def predict_loss(measurements: Sequence[Measurement], flops: float) -> Prediction:
    """Predict the loss after so many operations, by ln loss = a + b · ln operations, fitted by least squares.

    The interval is that of a single new run (Student's t with n - 2 degrees of freedom). A straight line knows no
    floor: far beyond the measurements the true loss is higher.

    Raises:
        ValueError: there are fewer than three runs, or all have the same compute.
    """
    from trainer.experiments.comparison import CONFIDENCE, student_quantile

    count = len(measurements)
    if count < LEAST_RUNS:
        raise ValueError(f"{count} measured runs: expected at least {LEAST_RUNS}, with different limits")
    x = [math.log(one.flops) for one in measurements]
    y = [math.log(one.loss) for one in measurements]
    mean_x, mean_y = math.fsum(x) / count, math.fsum(y) / count
    spread = math.fsum((value - mean_x) ** 2 for value in x)
    if spread < 1e-12:
        raise ValueError("all measured runs have the same compute: expected different limits")
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residual = math.fsum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True)) / (count - 2)
    place = math.log(flops) - mean_x
    middle = mean_y + slope * place
    half = student_quantile((1 + CONFIDENCE) / 2, count - 2) * math.sqrt(residual * (1 + 1 / count + place**2 / spread))
    largest = max(one.flops for one in measurements)
    return Prediction(math.exp(middle), math.exp(middle - half), math.exp(middle + half), flops / largest)


def nearest_speed(measurements: Sequence[Measurement], time_limit_seconds: float) -> tuple[float, float]:
    """Operations per second and share of training of the run whose limit is nearest, by ratio."""
    nearest = min(measurements, key=lambda one: abs(math.log(one.time_limit_seconds / time_limit_seconds)))
    return nearest.flops_per_second, nearest.training_share


def measurement_of(run_dir: Path, dataset: str) -> Measurement:
    """What a finished run has measured.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: it has no final loss, or no time was taken.
    """
    from owt_leaderboard.budget.sizing import computing_parameters, flops_per_training_token
    from owt_leaderboard.run.decisions import read_beginning
    from trainer import TokenDataset, read_config

    config = read_config(run_dir)
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text("utf-8"))
    environment = json.loads((run_dir / "environment.json").read_text("utf-8"))
    beginning = read_beginning(run_dir)
    if beginning is None or summary["final_valid_loss"] is None or not summary["tokens_per_second"]:
        raise ValueError(f"{run_dir} has no final loss: expected a finished run of this app")
    recipe = beginning.recipe
    vocab_size = TokenDataset(config["recorded"]["valid_tokens"]).vocab_size
    if vocab_size is None:
        raise ValueError(f"{config['recorded']['valid_tokens']} does not tell the size of the vocabulary")
    operations = flops_per_training_token(recipe, vocab_size)
    processes = environment.get("processes") or 1
    limit = float(beginning.asked["time_limit_seconds"])
    return Measurement(
        device=environment["device_name"] + (f" x {processes}" if processes > 1 else ""),
        dataset=dataset,
        time_limit_seconds=limit,
        vocab_size=vocab_size,
        context_length=recipe.context_length,
        num_layers=recipe.num_layers,
        d_model=recipe.d_model,
        batch_size=recipe.batch_size,
        parameters=computing_parameters(recipe, vocab_size),
        tokens=summary["tokens"],
        tokens_per_second=summary["tokens_per_second"],
        flops=summary["tokens"] * operations,
        flops_per_second=summary["tokens_per_second"] * operations,
        training_share=summary["seconds_training"] / limit,
        loss=summary["final_valid_loss"],
        bits_per_byte=summary["bits_per_byte"],
    )
