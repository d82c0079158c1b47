"""Gradient clipping, between the backward pass and the optimizer's step."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def clip_grad_norm(params: Iterable[Tensor] | Tensor, max_norm: int | float, eps: float = 1e-6) -> Float[Tensor, ""]:
    """Scale all gradients in place so that their joint l2 norm is at most `max_norm`; return the norm before scaling.

    The factor is min(1, max_norm / (norm + eps)) (Pascanu et al. 2013); plainly: `nnscratch.reference.clip_gradients`.
    Parameters without a gradient are skipped. Sparse gradients are coalesced, so that a row counts once. The norm is a
    tensor, so the host does not wait for the device. If the norm is not finite, the gradients become nan or 0, as with
    `torch.nn.utils.clip_grad_norm_`.

    Raises:
        ValueError: If `max_norm` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm={max_norm!r} is out of range; choose a positive number")
    tensors = [params] if isinstance(params, Tensor) else params
    grads = [_numbers(tensor) for tensor in tensors if tensor.grad is not None]
    if not grads:
        return torch.tensor(0.0)
    device = grads[0].device
    norms = torch._foreach_norm(grads)
    norm = torch.linalg.vector_norm(torch.stack([item.to(device) for item in norms]))
    factor = (max_norm / (norm + eps)).clamp(max=1.0)
    by_device: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        by_device.setdefault(grad.device, []).append(grad)
    for other, group in by_device.items():
        torch._foreach_mul_(group, factor.to(other))
    return norm


def _numbers(param: Tensor) -> Tensor:
    """Return the gradient of a parameter; of a sparse one the numbers in it, with every row once."""
    assert param.grad is not None
    if not param.grad.is_sparse:
        return param.grad
    param.grad = param.grad.coalesce()
    return param.grad.values()
