"""Gradient clipping by the global norm."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-6  # the assignment's and PyTorch's, against division by zero


def clip_grad_norm(params: Tensor | Iterable[Tensor], max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients in place so that their common L2 norm is at most `max_norm` (Pascanu et al. 2013).

    Nothing waits for the device: the factor min(1, max_norm / (norm + 1e-6)) is a tensor.

    Args:
        params: parameters; those without a gradient are skipped.
        max_norm: the bound, above zero.

    Returns:
        The norm before clipping, as a tensor; 0 without gradients.

    Raises:
        ValueError: `max_norm` is not above zero.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm!r}: expected a number above zero")
    params = [params] if isinstance(params, Tensor) else list(params)
    gradients = [parameter.grad for parameter in params if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)
    norm = torch.stack([each.float().to(gradients[0].device) for each in norms]).square().sum().sqrt()
    factor = (max_norm / (norm + EPSILON)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device, gradient.dtype))
    return norm
