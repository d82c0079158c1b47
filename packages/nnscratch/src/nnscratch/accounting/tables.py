"""Output of `python -m nnscratch.accounting`: reports of plain values for JSON, and the same values as text tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnscratch.accounting.activations import handout_activation_values
from nnscratch.accounting.flops import adamw_flops, flops_by_part, flops_per_token, matrix_products, training_seconds
from nnscratch.accounting.memory import cache_memory, largest_batch_size, memory_estimate
from nnscratch.accounting.parameters import count_parameters, parameters_by_part
from nnscratch.config import TransformerConfig

SECONDS_PER_DAY = 86_400
PARTS = ("qkv", "attention", "output", "ffn", "lm_head")


@dataclass(frozen=True)
class Training:
    """Settings of a training run, and its device."""

    batch_size: int
    """Sequences per step."""
    steps: int
    optimizer: str
    memory_gb: float
    """Memory of the device, in 10⁹ bytes."""
    flops_per_second: float
    mfu: float
    """Share of `flops_per_second` that training achieves."""
    bytes_per_value: int = 4
    checkpoint_blocks: bool = False
    """Keep the inputs of blocks and compute the blocks again in the backward pass."""


def model_report(config: TransformerConfig) -> dict[str, Any]:
    """Return parameters and FLOPs of a model at its context length; bytes are those of float32."""
    length = config.context_length
    parts = flops_by_part(config)
    per_token = flops_per_token(config)
    return {
        "config": config.to_dict(),
        "parameters": count_parameters(config),
        "parameters_by_part": parameters_by_part(config),
        "parameter_bytes": 4 * count_parameters(config),
        "cache_bytes_per_sequence": cache_memory(config),
        "forward_flops": round(per_token * length),
        "forward_flops_by_part": {name: round(flops * length) for name, flops in parts.items()},
        "forward_share_by_part": {name: flops / per_token for name, flops in parts.items()},
        "training_flops_per_token": flops_per_token(config, backward=True),
        "matrix_products": [asdict(product) | {"flops": product.flops} for product in matrix_products(config)],
    }


def training_report(config: TransformerConfig, training: Training) -> dict[str, Any]:
    """Return memory and time of training, with activations as in this package and as in the assignment."""
    size = training.bytes_per_value
    estimate = memory_estimate(
        config,
        1,
        optimizer=training.optimizer,
        bytes_per_value=size,
        checkpoint_blocks=training.checkpoint_blocks,
    )
    memory = training.memory_gb * 1e9
    kept = {
        "kept by this package": estimate.activations,
        "the assignment's list": handout_activation_values(config) * size,
    }
    seconds = training_seconds(
        config,
        steps=training.steps,
        batch_size=training.batch_size,
        flops_per_second=training.flops_per_second,
        mfu=training.mfu,
    )
    return {
        **asdict(training),
        "parameter_bytes": estimate.parameters,
        "gradient_bytes": estimate.gradients,
        "optimizer_state_bytes": estimate.optimizer_state,
        "fixed_bytes": estimate.fixed,
        "activations": [
            {
                "counted": name,
                "bytes_per_sequence": per_sequence,
                "bytes_at_batch_size": estimate.fixed + training.batch_size * per_sequence,
                "largest_batch_size": largest_batch_size(estimate.fixed, per_sequence, memory),
            }
            for name, per_sequence in kept.items()
        ],
        "adamw_step_flops": adamw_flops(config) if training.optimizer == "adamw" else None,
        "training_step_flops": flops_per_token(config, backward=True) * config.context_length * training.batch_size,
        "tokens": training.steps * training.batch_size * config.context_length,
        "training_days": seconds / SECONDS_PER_DAY,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns, the first flush left and the others flush right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def sizes(models: dict[str, dict[str, Any]]) -> str:
    """Return a table of models with their sizes, parameters, and the share of each part in a forward pass."""
    header = ["model", "tokens", "layers", "d_model", "heads", "d_ff", "parameters", "float32", "cache", "forward"]
    rows = []
    for name, model in models.items():
        config = model["config"]
        numbers = [config[key] for key in ("context_length", "num_layers", "d_model", "num_heads", "d_ff")]
        row = [name, *(f"{number:,}" for number in numbers), f"{model['parameters']:,}"]
        row += [f"{model[key] / 1e9:.2f} GB" for key in ("parameter_bytes", "cache_bytes_per_sequence")]
        row += [f"{model['forward_flops'] / 1e12:.4g} TFLOP"]
        rows.append(row + [f"{100 * model['forward_share_by_part'][part]:.1f} %" for part in PARTS])
    return table([*header, *PARTS], rows)


def products(model: dict[str, Any]) -> str:
    """Return a table of the matrix products for one sequence, with their FLOPs and shares."""
    rows = []
    for item in model["matrix_products"]:
        shape = f"({item['rows']:,} x {item['inner']:,}) ({item['inner']:,} x {item['columns']:,})"
        share = f"{100 * item['flops'] / model['forward_flops']:.1f} %"
        rows.append([item["name"], item["part"], shape, f"{item['times']:,}", f"{item['flops']:,}", share])
    rows.append(["all", "", "", "", f"{model['forward_flops']:,}", "100.0 %"])
    return table(["matrix product", "part", "shapes", "times", "FLOP", "share"], rows)


def parameters(model: dict[str, Any]) -> str:
    """Return a table of the parameters by part."""
    rows = [[name, f"{count:,}"] for name, count in model["parameters_by_part"].items()]
    return table(["part", "parameters"], [*rows, ["all", f"{model['parameters']:,}"]])


def training(report: dict[str, Any]) -> str:
    """Return memory and time of training as lines of text."""
    batch, memory = report["batch_size"], report["memory_gb"]
    kinds = (("parameters", "parameter_bytes"), ("gradients", "gradient_bytes"), ("state", "optimizer_state_bytes"))
    lines = [
        f"{report['optimizer']}, {report['bytes_per_value']} bytes per value: "
        + " + ".join(f"{name} {report[key] / 1e9:.2f} GB" for name, key in kinds)
    ]
    rows = [
        [
            item["counted"],
            f"{item['bytes_per_sequence'] / 1e9:.3f} GB x batch + {report['fixed_bytes'] / 1e9:.2f} GB",
            f"{item['bytes_at_batch_size'] / 1e9:,.1f} GB",
            f"{item['largest_batch_size']:,}",
        ]
        for item in report["activations"]
    ]
    lines.append(table(["activations", "peak memory", f"at batch {batch:,}", f"largest batch in {memory:g} GB"], rows))
    if report["adamw_step_flops"] is not None:
        lines.append(f"a step of AdamW: {report['adamw_step_flops']:,} FLOP, 14 per parameter")
    lines.append(f"forward and backward pass of a step: {report['training_step_flops'] / 1e12:,.1f} TFLOP")
    speed = f"{100 * report['mfu']:g} % of {report['flops_per_second'] / 1e12:g} TFLOP/s"
    tokens = f"{report['tokens'] / 1e9:,.1f} billion tokens"
    lines.append(f"{report['steps']:,} steps, {tokens}, at {speed}: {report['training_days']:,.1f} days")
    return "\n".join(lines)
