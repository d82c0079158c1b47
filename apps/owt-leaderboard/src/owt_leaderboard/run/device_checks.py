"""Checks of a machine before a run: its disk, and its kernels against float64."""

import copy
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from nnscratch.speedrun import Recipe, make_model, with_settings

if TYPE_CHECKING:
    import torch
    from torch import nn

Verdict = Literal["ok", "warning", "failed"]
_WRITTEN = 2**26
_WINDOWS = 2
_NOISE = 0.3
# Largest relative errors, by the norm. On a CPU, widths of 128 to 1,024 and windows of 256 and 512 have at most
# 0.016 in bfloat16, 0.002 in float16 and 8e-7 in float32. A wrong kernel has an error of about 1.
_TOLERANCE = {"torch.float32": 1e-3, "torch.bfloat16": 0.05, "torch.float16": 0.01}


class Check(NamedTuple):
    """Result of one check."""

    name: str
    verdict: Verdict
    text: str


def write_speed(directory: Path, size: int = _WRITTEN) -> float:
    """Return the bytes per second that reach the disk of a directory, from one file that is removed again.

    Raises:
        OSError: If it cannot be written.
    """
    content = os.urandom(size)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        began = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return size / (time.perf_counter() - began)


def check_disk(directory: Path, checkpoint: int, kept: int) -> tuple[Check, float]:
    """Compare free space and write speed with the checkpoints of a run.

    Args:
        directory: Existing directory on the disk of the run.
        checkpoint: Bytes of a checkpoint.
        kept: Checkpoints that exist at once, at most.

    Returns:
        The result, and the bytes written per second.
    """
    free, needed = shutil.disk_usage(directory).free, kept * checkpoint
    text = f"{free / 1e9:.1f} GB free, and {kept} checkpoints of {checkpoint / 1e9:.2f} GB need {needed / 1e9:.1f} GB"
    if free < needed + _WRITTEN:
        return Check("disk", "failed", f"{text}: free some, or choose another disk with --out"), 0.0
    speed = write_speed(directory)
    seconds = checkpoint / speed
    text += f"; {speed / 1e6:,.0f} MB/s, so a checkpoint takes {seconds:.1f} s"
    return Check("disk", "warning" if seconds > 60 else "ok", text), speed


def check_kernels(recipe: Recipe, device: "torch.device") -> list[Check]:
    """Compare a block's attention and feed-forward network with float64 on the CPU, forward and backward.

    They run as in training: with autocast's dtype, and on CUDA by our own kernels for attention, QK-norm with rotation,
    and squared ReLU.

    Args:
        recipe: The recipe in its final sizes.
        device: The device of the run.
    """
    import torch

    from trainer.checkpoints.random_states import preserved_random_states

    with preserved_random_states():
        torch.manual_seed(0)
        one_block = {"model.num_layers": 1, "model.skip_connections": False}
        block = make_model(with_settings(recipe, one_block), recipe.model.vocab_size).layers[0]
        with torch.no_grad():
            for parameter in block.parameters():  # projections begin with zeros
                parameter.add_(_NOISE * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
        x = torch.randn(_WINDOWS, recipe.model.context_length, recipe.model.d_model)
        parts = {"attention": "attn", "feed-forward network": "ffn"}
        return [_compare(name, block.get_submodule(part), x, device) for name, part in parts.items()]


def _compare(name: str, module: "nn.Module", x: "torch.Tensor", device: "torch.device") -> Check:
    import torch

    from trainer.devices import autocast, resolve_dtype

    dtype = resolve_dtype("auto", device)
    grad = torch.randn_like(x)
    exact = _results(copy.deepcopy(module).double(), x.double(), grad.double())
    with autocast(device, dtype):
        ours = _results(module.to(device), x.to(device), grad.to(device))
    errors = {
        what: float((found.cpu().double() - right).norm() / right.norm())
        for (what, found), right in zip(ours.items(), exact.values(), strict=True)
    }
    worst = max(errors, key=lambda what: errors[what] if errors[what] == errors[what] else float("inf"))
    is_right = errors[worst] <= _TOLERANCE[str(dtype)]
    text = f"{tuple(x.shape)} in {str(dtype).removeprefix('torch.')}: relative error up to {errors[worst]:.1e}"
    expected = f" ({worst}), expected at most {_TOLERANCE[str(dtype)]:g}"
    return Check(f"{name} against float64", "ok" if is_right else "failed", text + expected)


def _results(module: "nn.Module", x: "torch.Tensor", grad: "torch.Tensor") -> "dict[str, torch.Tensor]":
    """Return the output, and the gradients of the input and the parameters."""
    import torch

    x = x.requires_grad_()
    output = module(x)
    inputs = {"input": x, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(output, list(inputs.values()), grad.to(output.dtype))
    named = zip(inputs, gradients, strict=True)
    return {"output": output.detach()} | {f"gradient of {what}": gradient for what, gradient in named}
