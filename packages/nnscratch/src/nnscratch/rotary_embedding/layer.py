"""Rotary position embedding."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch.argument_checks import check_last_dimension
from nnscratch.config import RopeScaling
from nnscratch.functional import rotate_pairs


class RotaryEmbedding(nn.Module):
    """Rotary position embedding on adjacent pairs (Su et al. 2021, equation 34).

    The pair (x[2k], x[2k+1]) at position i is rotated by the angle i · theta^(-2k / d_k). Llama checkpoints of
    `transformers` pair x[k] with x[k + d_k/2] instead. The tables of cosines and sines are buffers outside the state
    dict, and stay in float32 when a model is cast to another dtype. Plainly: `nnscratch.reference.rotate`.

    Args:
        theta: Base of the angles.
        d_k: Width of a head.
        max_seq_len: Number of positions in the tables.
        device: Device of the tables.
        scaling: Change of the frequencies for long contexts.

    Raises:
        ValueError: If `d_k` is odd, `theta` is not positive, or a position is outside 0 … max_seq_len - 1 (not checked
            on a GPU or under torch.compile).
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        theta: float,
        d_k: int,
        max_seq_len: int,
        device: torch.device | str | None = None,
        *,
        scaling: RopeScaling | None = None,
    ) -> None:
        super().__init__()
        if d_k < 2 or d_k % 2:
            raise ValueError(f"d_k={d_k!r} cannot be rotated in pairs; choose an even head size of at least 2")
        if not theta > 0:
            raise ValueError(f"theta={theta!r} is out of range; choose a positive number, such as 10000.0")
        if max_seq_len < 1:
            raise ValueError(f"max_seq_len={max_seq_len!r} is out of range; choose at least 1")
        self.theta = theta
        self.d_k = d_k
        self.max_seq_len = max_seq_len
        self.scaling = scaling
        device = torch.get_default_device() if device is None else device
        cos, sin = self._tables()
        self.register_buffer("cos", cos.to(device), persistent=False)
        self.register_buffer("sin", sin.to(device), persistent=False)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Compute the cosines and sines from float64 angles on the CPU, because MPS has no float64."""
        exponents = torch.arange(0, self.d_k, 2, device="cpu", dtype=torch.float64) / self.d_k
        frequencies = self.theta**-exponents
        if self.scaling is not None:
            frequencies = _scaled(frequencies, self.scaling)
        positions = torch.arange(self.max_seq_len, device="cpu", dtype=torch.float64)
        angles = torch.outer(positions, frequencies)
        return angles.cos().float(), angles.sin().float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        """Move the tables with the model but keep their values: `to` would round them, `to_empty` not fill them."""
        before = self.cos, self.sin
        super()._apply(fn, recurse)
        if self.cos is not before[0]:
            device = self.cos.device
            cos, sin = self._tables() if before[0].is_meta and device.type != "meta" else before
            self.cos, self.sin = cos.to(device), sin.to(device)
        return self

    def forward(
        self, x: Float[Tensor, "*batch seq d_k"], token_positions: Int[Tensor, "*#positions seq"] | None = None
    ) -> Float[Tensor, "*batch seq d_k"]:
        """Return `x` with its pairs rotated.

        Args:
            x: Queries or keys.
            token_positions: Position of each vector, broadcast against the dimensions of `x` before the last;
                0, 1, 2, … by default.
        """
        if token_positions is None:
            return self.rotate_from(0, x)
        check_last_dimension("x", x, self.d_k, "d_k")
        self._check_positions(token_positions)
        self._leave_meta(x.device)
        return rotate_pairs(x, self.cos[token_positions], self.sin[token_positions])

    def rotate_from(self, start: int, x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch seq d_k"]:
        """Return `x` with its pairs rotated, for the positions start, start + 1 and so on."""
        check_last_dimension("x", x, self.d_k, "d_k")
        return rotate_pairs(x, *self.tables(start, start + x.shape[-2], x.device))

    def tables(self, start: int, end: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of the positions from `start` to before `end`, each (end - start, d_k / 2).

        Args:
            start: First position.
            end: Position after the last.
            device: Device of the vectors to rotate, to which tables on meta are moved.

        Raises:
            ValueError: If there are positions after the end of the table.
        """
        if end > self.max_seq_len:
            raise ValueError(
                f"got {end} positions, but the table ends at max_seq_len={self.max_seq_len}; "
                f"shorten the input or build a longer table"
            )
        self._leave_meta(device)
        return self.cos[start:end], self.sin[start:end]

    def _leave_meta(self, device: torch.device) -> None:
        """Fill tables that were left on meta when `load_state_dict(..., assign=True)` gave a meta model its weights."""
        if self.cos.is_meta and device.type != "meta":
            self.cos, self.sin = (table.to(device) for table in self._tables())

    def _check_positions(self, token_positions: Tensor) -> None:
        """Check that positions are within the table, unless that makes the host wait for a device."""
        if token_positions.device.type != "cpu" or torch.compiler.is_compiling() or token_positions.numel() == 0:
            return
        low, high = int(token_positions.min()), int(token_positions.max())
        if low < 0 or high >= self.max_seq_len:
            raise ValueError(
                f"token_positions range from {low} to {high}, but the table holds 0 to {self.max_seq_len - 1}; "
                f"shorten the input or build a longer table"
            )


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Return frequencies, in radians per position, after the rule of `RopeScaling`."""
    rotations = scaling.original_context_length * frequencies / (2 * math.pi)  # in the original context
    kept = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return torch.lerp(frequencies / scaling.factor, frequencies, kept.clamp(0, 1))
