"""Cross-entropy straight from hidden vectors, in chunks, so that the logits of all tokens never exist at once."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # logits held at a time: 16 MiB in float32


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed along with the loss, since they need the same logits, and scaled in the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, needs_gradient: bool) -> Tensor:
        count = hidden.shape[0]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if needs_gradient else None
        rows = max(1, CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, count, rows):
            piece, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits = (piece @ weight.T).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            total += (normaliser - logits.gather(-1, wanted)).sum()
            if hidden_gradient is not None and weight_gradient is not None:
                # d loss / d logits = (softmax - one-hot) / count
                logits = logits.sub_(normaliser).exp_()
                logits.scatter_add_(-1, wanted, torch.full_like(wanted, -1, dtype=logits.dtype))
                gradient = logits.div_(count).to(hidden.dtype)
                hidden_gradient[start : start + rows] = gradient @ weight
                weight_gradient += gradient.T @ piece
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        scale = gradients[0]
        return hidden_gradient * scale, (weight_gradient * scale).to(ctx.weight_dtype), None, None


def linear_cross_entropy(
    hidden: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "vocab d_model"], targets: Int[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """cross_entropy(hidden @ weight.T, targets), in chunks: memory for logits does not grow with the batch.

    Under autocast the products run in its data type; sums and the softmax are in float32.

    Args:
        hidden: vectors before the output matrix.
        weight: the output matrix.
        targets: the token wanted after each vector.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(
            hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1).long(), needs_gradient
        )
