"""The values of `nnscratch.accounting.report` as text."""

from collections.abc import Sequence
from typing import Any

PARTS = ("qkv", "attention", "output", "ffn", "lm_head")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of aligned columns, the first to the left and the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def sizes(models: dict[str, dict[str, Any]]) -> str:
    """Return the models side by side: sizes, parameters, and the share of each part in a forward pass."""
    header = ["model", "tokens", "layers", "d_model", "heads", "d_ff", "parameters", "float32", "forward"]
    rows = []
    for name, model in models.items():
        config = model["config"]
        numbers = [config[key] for key in ("context_length", "num_layers", "d_model", "num_heads", "d_ff")]
        row = [name, *(f"{number:,}" for number in numbers), f"{model['parameters']:,}"]
        row += [f"{model['parameter_bytes'] / 1e9:.2f} GB", f"{model['forward_flops'] / 1e12:.4g} TFLOP"]
        rows.append(row + [f"{100 * model['forward_share_by_part'][part]:.1f} %" for part in PARTS])
    return table([*header, *PARTS], rows)


def products(model: dict[str, Any]) -> str:
    """Return a model's matrix products for one sequence, with their operations and shares."""
    rows = []
    for item in model["matrix_products"]:
        shape = f"({item['rows']:,} x {item['inner']:,}) ({item['inner']:,} x {item['columns']:,})"
        share = f"{100 * item['flops'] / model['forward_flops']:.1f} %"
        rows.append([item["name"], item["part"], shape, f"{item['times']:,}", f"{item['flops']:,}", share])
    rows.append(["all", "", "", "", f"{model['forward_flops']:,}", "100.0 %"])
    return table(["matrix product", "part", "shapes", "times", "FLOP", "share"], rows)


def parameters(model: dict[str, Any]) -> str:
    """Return a model's parameters by part."""
    rows = [[name, f"{count:,}"] for name, count in model["parameters_by_part"].items()]
    return table(["part", "parameters"], [*rows, ["all", f"{model['parameters']:,}"]])


def training(report: dict[str, Any]) -> str:
    """Return memory and time of training as lines."""
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
