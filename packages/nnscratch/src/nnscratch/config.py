"""What decides a Transformer language model, checked when it is made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Norm = Literal["pre", "post", "none"]
Position = Literal["rope", "none"]
FeedForward = Literal["swiglu", "silu"]


@dataclass(frozen=True)
class TransformerConfig:
    """The architecture of a `TransformerLM`.

    Raises:
        ValueError: a size below 1, a `d_model` that the heads do not divide, odd heads under RoPE, or an unknown name.
    """

    vocab_size: int
    context_length: int
    """Most tokens that the model can attend to."""
    d_model: int
    num_layers: int
    num_heads: int
    d_ff: int
    """Width inside the feed-forward layers, about 8/3 of d_model for SwiGLU and 4 times d_model for SiLU."""
    rope_theta: float = 10_000.0
    norm: Norm = "pre"
    """Where RMSNorm stands: before each sublayer and at the end, after each residual sum, or nowhere."""
    position: Position = "rope"
    ffn: FeedForward = "swiglu"
    tie_embeddings: bool = False
    """One matrix for the token embeddings and the output, with the output's smaller initialisation."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: expected a whole number of 1 or more")
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model is {self.d_model}: expected a multiple of num_heads, which is {self.num_heads}")
        if self.position == "rope" and self.d_head % 2:
            raise ValueError(
                f"d_model / num_heads is {self.d_head}: expected an even number, since RoPE turns pairs; "
                'change one of them or use position="none"'
            )
        for name, kind in (("norm", Norm), ("position", Position), ("ffn", FeedForward)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(get_args(kind))}")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """The inverse of `to_dict`; ValueError names fields that are unknown."""
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown fields {', '.join(unknown)}: the configuration is not one of this version")
        return cls(**values)
