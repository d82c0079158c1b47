"""What is said about a tensor that does not fit."""

from torch import Tensor


def shape_error(name: str, tensor: Tensor, expected: str) -> ValueError:
    """Return the error for a tensor of a wrong shape: what came, and what was expected."""
    return ValueError(f"{name} has the shape {tuple(tensor.shape)}: expected {expected}")


def check_last_dimension(name: str, tensor: Tensor, size: int, meaning: str) -> None:
    """Refuse a tensor whose last dimension is not `size`.

    Raises:
        ValueError: it is not.
    """
    if tensor.dim() == 0 or tensor.shape[-1] != size:
        raise shape_error(name, tensor, f"(..., {size}), the last dimension being {meaning}")


def check_token_ids(name: str, token_ids: Tensor) -> None:
    """Refuse what are no integers.

    Raises:
        ValueError: they are not.
    """
    if token_ids.is_floating_point() or token_ids.is_complex():
        raise ValueError(f"{name} is of {token_ids.dtype}: expected integers, such as torch.int64")


def id_error(name: str, token_ids: Tensor, size: int) -> IndexError:
    """Return the error for ids of which at least one is not in 0 … size - 1."""
    low, high = int(token_ids.min()), int(token_ids.max())
    return IndexError(f"{name} span {low} to {high}: expected 0 to {size - 1}, for there are {size}")
