"""Error messages for tensors of the wrong shape or dtype."""

from torch import Tensor


def shape_error(name: str, tensor: Tensor, expected: str) -> ValueError:
    """Return the error for a tensor of the wrong shape."""
    return ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")


def check_last_dimension(name: str, tensor: Tensor, size: int, meaning: str) -> None:
    """Check the size of a tensor's last dimension.

    Raises:
        ValueError: If it is not `size`.
    """
    if tensor.dim() == 0 or tensor.shape[-1] != size:
        raise shape_error(name, tensor, f"(..., {size}), where the last dimension is {meaning}")


def check_token_ids(name: str, token_ids: Tensor) -> None:
    """Check that token ids are integers.

    Raises:
        ValueError: If they are floating point or complex.
    """
    if token_ids.is_floating_point() or token_ids.is_complex():
        raise ValueError(f"{name} has dtype {token_ids.dtype}, expected integers such as torch.int64")


def id_error(name: str, token_ids: Tensor, size: int) -> IndexError:
    """Return the error for ids of which at least one is outside 0 … size - 1."""
    low, high = int(token_ids.min()), int(token_ids.max())
    return IndexError(f"{name} range from {low} to {high}, expected 0 to {size - 1}: the table has {size} rows")
