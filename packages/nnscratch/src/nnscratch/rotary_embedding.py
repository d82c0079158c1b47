"""Rotary position embedding."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch.argument_checks import check_last_dimension
from nnscratch.functional import at_least_float32


def _complex_pairs(x: Tensor) -> Tensor:
    """Return adjacent pairs as complex numbers: a view, or of a copy where pairs do not lie side by side in memory."""
    *strides, last = x.stride()
    if last != 1 or x.storage_offset() % 2 or any(stride % 2 for stride in strides):
        x = x.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


class RotaryEmbedding(nn.Module):
    """Rotary position embedding on adjacent pairs (Su et al. 2021, equation 34).

    The pair (x[2k], x[2k+1]) at position i is turned by the angle i · theta^(-2k / d_k). Llama checkpoints of
    `transformers` pair x[k] with x[k + d_k/2] instead. The tables are buffers that no state dict holds, and
    stay in float32 when a model gets another dtype.

    Raises:
        ValueError: if `d_k` is odd, `theta` not positive, or a position is outside of 0 … max_seq_len - 1 (which on a
            GPU and under torch.compile is not looked at).
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, theta: float, d_k: int, max_seq_len: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        if d_k < 2 or d_k % 2:
            raise ValueError(f"d_k={d_k!r} cannot be rotated in pairs; choose an even head size of at least 2")
        if not theta > 0:
            raise ValueError(f"theta={theta!r} is not a base of angles; choose a positive number, such as 10000.0")
        if max_seq_len < 1:
            raise ValueError(f"max_seq_len={max_seq_len!r} leaves no position; choose at least 1")
        self.theta = theta
        self.d_k = d_k
        self.max_seq_len = max_seq_len
        place = torch.get_default_device() if device is None else device
        cos, sin = self._tables()
        self.register_buffer("cos", cos.to(place), persistent=False)
        self.register_buffer("sin", sin.to(place), persistent=False)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines in float32, on the CPU, because float64 is not known everywhere (MPS)."""
        exponents = torch.arange(0, self.d_k, 2, device="cpu", dtype=torch.float64) / self.d_k
        positions = torch.arange(self.max_seq_len, device="cpu", dtype=torch.float64)
        angles = torch.outer(positions, self.theta**-exponents)
        return angles.cos().float(), angles.sin().float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        """Move the tables with a model and keep their numbers, which `to` would round and `to_empty` would not fill."""
        before = self.cos, self.sin
        super()._apply(fn, recurse)
        if self.cos is not before[0]:
            place = self.cos.device
            cos, sin = self._tables() if before[0].is_meta and place.type != "meta" else before
            self.cos, self.sin = cos.to(place), sin.to(place)
        return self

    def forward(
        self, x: Float[Tensor, "*batch seq d_k"], token_positions: Int[Tensor, "*#positions seq"] | None = None
    ) -> Float[Tensor, "*batch seq d_k"]:
        """Return `x` with its pairs turned.

        Args:
            x: queries or keys.
            token_positions: the position of each vector, broadcast against the dimensions before the last;
                0, 1, 2, … by default.
        """
        if token_positions is None:
            return self.rotate_from(0, x)
        self._check(token_positions)
        self._leave_meta(x.device)
        return self._rotate(x, self.cos[token_positions], self.sin[token_positions])

    def rotate_from(self, start: int, x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch seq d_k"]:
        """Return `x` with its pairs turned, for the positions from `start` on."""
        end = start + x.shape[-2]
        if end > self.max_seq_len:
            raise ValueError(
                f"{end} positions came, but the table ends at max_seq_len={self.max_seq_len}; "
                f"shorten the input or build a longer table"
            )
        self._leave_meta(x.device)
        return self._rotate(x, self.cos[start:end], self.sin[start:end])

    def _leave_meta(self, place: torch.device) -> None:
        """Fill tables that stayed behind when `load_state_dict(..., assign=True)` gave a meta model its weights."""
        if self.cos.is_meta and place.type != "meta":
            self.cos, self.sin = (table.to(place) for table in self._tables())

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        check_last_dimension("x", x, 2 * self.cos.shape[-1], "d_k")
        wide = at_least_float32(x.dtype)
        x_wide, cos, sin = x.to(wide), cos.to(wide), sin.to(wide)
        if torch.compiler.is_compiling():  # the compiler fuses real arithmetic, but not complex
            even, odd = x_wide.unflatten(-1, (-1, 2)).unbind(-1)
            rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        else:  # three to six times as fast as the above on a CPU
            rotated = torch.view_as_real(_complex_pairs(x_wide) * torch.complex(cos, sin))
        return rotated.flatten(-2).to(x.dtype)

    def _check(self, token_positions: Tensor) -> None:
        """Refuse positions outside of the table, where looking at them does not make the host wait for a device."""
        if token_positions.device.type != "cpu" or torch.compiler.is_compiling() or token_positions.numel() == 0:
            return
        low, high = int(token_positions.min()), int(token_positions.max())
        if low < 0 or high >= self.max_seq_len:
            raise ValueError(
                f"token_positions span {low} to {high}, but the table holds 0 to {self.max_seq_len - 1}; "
                f"shorten the input or build a longer table"
            )
