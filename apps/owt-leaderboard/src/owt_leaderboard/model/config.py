"""The description of a speedrun model: the sizes of a Transformer, and what the speedruns have added to it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from nnscratch import TransformerConfig

FeedForward = Literal["swiglu", "relu_squared"]

_SWITCHES = (
    "zero_init_projections",
    "value_embeddings",
    "skip_connections",
    "embedding_shortcut",
    "bigram_embeddings",
    "embedding_norm",
    "narrow_stream",
)
_BIGRAM_ROWS = 5  # for each token of the vocabulary: modded-nanogpt's
_MOST_GATE_CHANNELS = 32  # nanochat's


@dataclass(frozen=True)
class SpeedrunConfig:
    """The architecture of a `SpeedrunLM`.

    With `ffn="swiglu"` and every other switch off it is that of a pre-norm `nnscratch.TransformerLM`.

    Raises:
        ValueError: if a field does not make a model, or fields contradict one another.
    """

    vocab_size: int
    """Number of tokens."""
    context_length: int
    """The most positions that the model sees at once, in tokens."""
    d_model: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks."""
    num_heads: int
    """Attention heads of each block; they divide `d_model`."""
    d_ff: int
    """Inner width of the feed-forward networks: about 4 · d_model for "relu_squared", 8/3 · d_model for "swiglu"."""
    rope_theta: float = 10_000.0
    """Base of the rotary embedding's angles."""
    ffn: FeedForward = field(default="relu_squared", kw_only=True)
    """Kind of feed-forward network: "relu_squared" has two matrices, "swiglu" three."""
    qk_norm: bool = field(default=True, kw_only=True)
    """Normalise every head's queries and keys."""
    zero_init_projections: bool = field(default=True, kw_only=True)
    """Start with output matrices of zero in every block, and an untied output layer of standard deviation 0.001."""
    logit_soft_cap: float | None = field(default=15.0, kw_only=True)
    """If given, logits z become cap · tanh(z / cap)."""
    value_embeddings: bool = field(default=True, kw_only=True)
    """Add a vector of each token to attention's values, on alternate layers, through a gate for each head."""
    skip_connections: bool = field(default=True, kw_only=True)
    """Add the outputs of the first half of the blocks to the inputs of the second half, the last one first."""
    embedding_shortcut: bool = field(default=True, kw_only=True)
    """Before each block, mix the token embeddings into the residual stream."""
    bigram_embeddings: bool = field(default=False, kw_only=True)
    """Add to each token's embedding a vector of it and its predecessor, from a hashed table of 5 · vocab_size rows."""
    embedding_norm: bool = field(default=True, kw_only=True)
    """Normalise the embeddings before the first block, however far they have grown."""
    narrow_stream: bool = field(default=True, kw_only=True)
    """Under autocast, keep the residual stream and value embeddings in its type, where they would be in float32."""
    tie_embeddings: bool = field(default=False, kw_only=True)
    """Use one matrix as embedding and as output layer; it is drawn with standard deviation 1 / sqrt(d_model)."""

    def __post_init__(self) -> None:
        if self.ffn not in get_args(FeedForward):
            raise ValueError(f"ffn={self.ffn!r} is unknown; choose one of {', '.join(get_args(FeedForward))}")
        for name in _SWITCHES:
            if getattr(self, name) is not True and getattr(self, name) is not False:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a switch; choose True or False")
        _ = self.transformer  # refuses what makes no model
        if self.skip_connections and self.num_layers < 2:
            raise ValueError("skip_connections=True needs two halves, but num_layers=1; add a layer, or choose False")

    @property
    def transformer(self) -> TransformerConfig:
        """The Transformer without added embeddings, skip connections, shortcut and the speedrun's initialisation."""
        return TransformerConfig(
            self.vocab_size,
            self.context_length,
            self.d_model,
            self.num_layers,
            self.num_heads,
            self.d_ff,
            self.rope_theta,
            ffn=self.ffn,
            qk_norm=self.qk_norm,
            logit_soft_cap=self.logit_soft_cap,
            tie_embeddings=self.tie_embeddings,
        )

    @property
    def value_embedding_layers(self) -> tuple[int, ...]:
        """The blocks with value embeddings, from 0: the last one, and every other one before it; () without any."""
        return tuple(range((self.num_layers - 1) % 2, self.num_layers, 2)) if self.value_embeddings else ()

    @property
    def bigram_rows(self) -> int:
        """Rows in the table of pairs of tokens; 0 without one."""
        return _BIGRAM_ROWS * self.vocab_size if self.bigram_embeddings else 0

    @property
    def gate_channels(self) -> int:
        """How many of the first numbers of a block's normalised input its value gate sees: 32, or all if fewer."""
        return min(_MOST_GATE_CHANNELS, self.d_model)

    @property
    def num_skips(self) -> int:
        """Number of skip connections; with an odd number of blocks the one in the middle has none."""
        return self.num_layers // 2 if self.skip_connections else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SpeedrunConfig":
        """Return the config with these fields, all of which must be there: a default may be another one by now.

        Raises:
            ValueError: for a field that is unknown or missing, or a value that `SpeedrunConfig` refuses.
        """
        known = [item.name for item in fields(cls)]
        if unknown := sorted(values.keys() - set(known)):
            raise ValueError(f"unknown fields {unknown!r} of a speedrun config; known are {', '.join(known)}")
        if missing := [name for name in known if name not in values]:
            raise ValueError(f"a speedrun config lacks {', '.join(missing)}; add them")
        return cls(**values)
