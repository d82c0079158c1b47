"""What hand-written autograd functions must do themselves to work under torch.autocast."""

import torch
from torch import Tensor


def cast_for_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in autocast's dtype where autocast is on, as it would do for a matrix product."""
    device_type = tensors[0].device.type
    # Of a device type that has no autocast, such as meta, asking whether it is on is an error.
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors)
