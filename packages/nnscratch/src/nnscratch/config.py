"""Architecture of a Transformer language model as a frozen dataclass."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

ConfigT = TypeVar("ConfigT", bound="TransformerConfig")
Norm = Literal["pre", "post", "none"]
Position = Literal["rope", "none"]
FeedForward = Literal["swiglu", "silu", "relu_squared"]

SIZES = ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")
_CHOICES = {"norm": get_args(Norm), "position": get_args(Position), "ffn": get_args(FeedForward)}
_SWITCHES = ("tie_embeddings", "qk_norm")


def _is_number(value: object) -> bool:
    """Return whether a value is a finite int or float (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: object) -> bool:
    """Return whether a value is an int of at least 1 (a bool is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture of a `TransformerLM`.

    Raises:
        ValueError: If a field is out of range, or fields contradict one another.
    """

    vocab_size: int
    """Number of tokens."""
    context_length: int
    """Maximum number of positions in an input."""
    d_model: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks."""
    num_heads: int
    """Number of attention heads in each block; a divisor of `d_model`, unless `head_size` is given."""
    d_ff: int
    """Inner width of the feed-forward networks: usually 8/3 · d_model for "swiglu" and 4 · d_model for the others."""
    rope_theta: float = 10_000.0
    """Base of the angles of the rotary embedding."""
    num_kv_heads: int | None = field(default=None, kw_only=True)
    """Number of heads of keys and values, a divisor of `num_heads`: groups of query heads share one (Ainslie et al.
    2023), or all do with 1 (Shazeer 2019). None: as many as `num_heads`. `kv_heads` is the number in either case."""
    head_size: int | None = field(default=None, kw_only=True)
    """Width of one attention head. None: d_model / num_heads. `d_k` is the width in either case."""
    norm: Norm = field(default="pre", kw_only=True)
    """Place of the norms: "pre", x + f(norm(x)); "post", norm(x + f(x)); "none", x + f(x).

    Only "pre" has a final norm, `ln_final`: with "post" the output of the last block is already normalized, and "none"
    has no norms.
    """
    position: Position = field(default="rope", kw_only=True)
    """Position information: "rope" (rotary embedding), or "none", which leaves only the causal mask."""
    ffn: FeedForward = field(default="swiglu", kw_only=True)
    """Kind of feed-forward network; "swiglu" has three matrices, "silu" and "relu_squared" have two."""
    tie_embeddings: bool = field(default=False, kw_only=True)
    """Share one matrix between embedding and output layer, with initial standard deviation 1 / sqrt(d_model)."""
    qk_norm: bool = field(default=False, kw_only=True)
    """Normalize the queries and keys of every head."""
    logit_soft_cap: float | None = field(default=None, kw_only=True)
    """If given, logits z become cap · tanh(z / cap)."""
    norm_eps: float = field(default=1e-5, kw_only=True)
    """Added to the mean square in every RMSNorm."""

    def __post_init__(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if not _is_size(value):
                raise ValueError(f"{name}={value!r} is out of range; choose an integer of at least 1")
        for name in ("num_kv_heads", "head_size"):
            value = getattr(self, name)
            if value is not None and not _is_size(value):
                raise ValueError(f"{name}={value!r} is out of range; choose an integer of at least 1, or None")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")
        for name in _SWITCHES:
            if getattr(self, name) is not True and getattr(self, name) is not False:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a switch; choose True or False")
        for name in ("rope_theta", "norm_eps"):
            if not _is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is out of range; choose a number above 0")
        cap = self.logit_soft_cap
        if cap is not None and (not _is_number(cap) or cap <= 0):
            raise ValueError(f"logit_soft_cap={cap!r} is out of range; choose a number above 0, or None for no cap")
        if self.head_size is None and self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide d_model={self.d_model}; choose a divisor of it, or give "
                f"head_size"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}; choose a divisor of it"
            )
        if self.position == "rope" and self.d_k % 2:
            origin = f"d_model={self.d_model} over num_heads={self.num_heads}"
            raise ValueError(
                f"{origin if self.head_size is None else 'head_size'} gives heads of {self.d_k}, which rope cannot "
                f"rotate in pairs; choose an even head size, or position='none'"
            )

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values in each block."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def d_k(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads if self.head_size is None else self.head_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can represent."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """Return the config with these fields; fields with a default may be absent.

        Raises:
            ValueError: If a field is unknown, missing or out of range.
        """
        known = {item.name for item in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"unknown fields {unknown!r} in a model config; known are {', '.join(sorted(known))}")
        if missing := [name for name in SIZES if name not in values]:
            raise ValueError(f"a model config lacks {', '.join(missing)}; add them")
        return cls(**values)
