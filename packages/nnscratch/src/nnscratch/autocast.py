"""Dtypes in which hand-written autograd functions compute: autocast's for products, float32 at least for sums."""

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for sums and exponentials of `dtype`: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which a matrix product takes a tensor: autocast's where autocast is on, or else its own."""
    device_type = tensor.device.type
    # On a device type without autocast, such as meta, `is_autocast_enabled` raises.
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return tensor.dtype
    return tensor.dtype if tensor.dtype == torch.float64 else torch.get_autocast_dtype(device_type)


def cast_for_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast tensors to autocast's dtype where autocast is on, as it does for the inputs of a matrix product.

    Autocast does not reach into a `torch.autograd.Function`, so functions of this package call it first.
    """
    return tuple(tensor.to(product_dtype(tensor)) for tensor in tensors)
