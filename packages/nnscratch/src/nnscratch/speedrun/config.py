"""Architecture of a speedrun model: a Transformer plus the additions that speedruns found useful."""

from dataclasses import dataclass, field, fields

from nnscratch.config import TransformerConfig

_MAX_GATE_CHANNELS = 32  # as in nanochat
_MAX_SMALL_GATE_CHANNELS = 12  # as in modded-nanogpt
_SUPPORTED = frozenset(
    "vocab_size context_length d_model num_layers num_heads d_ff rope_theta qk_norm qk_norm_gains norm_eps ffn "
    "tie_embeddings logit_soft_cap ngram_rows ngrams ngram_min_count ngram_dropout dropout".split()
)
"""Fields of `TransformerConfig` that may differ from their defaults."""


@dataclass(frozen=True)
class SpeedrunConfig(TransformerConfig):
    """Architecture of a `SpeedrunLM`: the fields of a pre-norm Transformer and one switch per addition.

    With every switch off it describes a plain pre-norm `nnscratch.TransformerLM`.

    Raises:
        ValueError: If a field makes no model, or fields contradict each other.
    """

    zero_init_projections: bool = field(default=False, kw_only=True)
    """Start every block with output matrices of zero, and an untied output layer at standard deviation 0.001."""
    value_embeddings: bool = field(default=False, kw_only=True)
    """Add a learned vector of each token to attention's values, on alternate layers, through a gate per head."""
    skip_connections: bool = field(default=False, kw_only=True)
    """Add the outputs of the first half of the blocks to the inputs of the second half, in reverse order."""
    embedding_shortcut: bool = field(default=False, kw_only=True)
    """Add the token embeddings to the residual stream before every block, times a learned scale of each block."""
    embedding_norm: bool = field(default=False, kw_only=True)
    """Normalise the embeddings before the first block, because they grow during training."""
    attention_gates: bool = field(default=False, kw_only=True)
    """Multiply the output of each attention head by a gate, computed from the first channels of the block's input."""
    smear: bool = field(default=False, kw_only=True)
    """Add a gated share of the previous token's embedding to each embedding."""
    backout: bool = field(default=False, kw_only=True)
    """Subtract a learned share of the residual stream after half of the blocks from the last one."""
    gainless_norms: bool = field(default=False, kw_only=True)
    """Give no norm a learned gain, whatever `qk_norm_gains` says."""
    narrow_stream: bool = field(default=False, kw_only=True)
    """Under autocast, keep the residual stream and value embeddings in the autocast dtype instead of float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in fields(TransformerConfig):
            value = getattr(self, item.name)
            if item.name in _UNSUPPORTED and value != item.default:
                raise ValueError(f"{item.name}={value!r} is not supported here; choose {item.default!r}")
        for name in SWITCHES:
            if getattr(self, name) is not True and getattr(self, name) is not False:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a switch; choose True or False")
        if self.skip_connections and self.num_layers < 2:
            raise ValueError("skip_connections=True needs two halves, but num_layers=1; add a layer, or choose False")

    @property
    def value_embedding_layers(self) -> tuple[int, ...]:
        """Indices of the blocks with value embeddings: the last block and every other one before it."""
        return tuple(range((self.num_layers - 1) % 2, self.num_layers, 2)) if self.value_embeddings else ()

    @property
    def gate_channels(self) -> int:
        """Leading channels of a block's normalised input that its value gate reads: 32, or all if there are fewer."""
        return min(_MAX_GATE_CHANNELS, self.d_model)

    @property
    def small_gate_channels(self) -> int:
        """Leading channels that attention gates and the gate of `smear` read: 12, or all if there are fewer."""
        return min(_MAX_SMALL_GATE_CHANNELS, self.d_model)

    @property
    def num_skips(self) -> int:
        """Number of skip connections; with an odd number of blocks the middle one has none."""
        return self.num_layers // 2 if self.skip_connections else 0


_UNSUPPORTED = {item.name for item in fields(TransformerConfig)} - _SUPPORTED
SWITCHES = tuple(
    item.name for item in fields(SpeedrunConfig) if item.default is False and item.name not in _UNSUPPORTED
)
"""Names of the additions, each of which is either on or off."""
