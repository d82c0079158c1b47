"""Architecture of a Transformer language model as a frozen dataclass."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

ConfigT = TypeVar("ConfigT", bound="TransformerConfig")
Norm = Literal["pre", "post", "reordered", "none"]
Position = Literal["rope", "none"]
FeedForward = Literal["swiglu", "silu", "relu_squared"]
QKNormScope = Literal["head", "all_heads"]


@dataclass(frozen=True)
class RopeScaling:
    """Lower frequencies of a rotary embedding for contexts beyond those of pretraining, as in Llama 3.1.

    With wavelengths in positions, a frequency whose wavelength is above original_context_length / low_freq_factor is
    divided by `factor`, one below original_context_length / high_freq_factor stays, and those between are interpolated.
    The defaults are those of Llama 3.1.

    Raises:
        ValueError: If a number is not positive, `original_context_length` is no integer, or `high_freq_factor` does not
            exceed `low_freq_factor`.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not _is_positive(value):
                raise ValueError(f"rope_scaling.{name}={value!r} is out of range; choose a number above 0")
        if not _is_int(self.original_context_length, 1):
            raise ValueError(
                f"rope_scaling.original_context_length={self.original_context_length!r} is out of range; choose an "
                f"integer of at least 1"
            )
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"rope_scaling has high_freq_factor={self.high_freq_factor!r} and "
                f"low_freq_factor={self.low_freq_factor!r}; choose a higher high_freq_factor"
            )


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
    """Heads of keys and values, a divisor of `num_heads` (Ainslie et al. 2023); None: as many. See `kv_heads`."""
    head_size: int | None = field(default=None, kw_only=True)
    """Width of an attention head; None: d_model / num_heads. See `d_k`."""
    qkv_bias: bool = field(default=False, kw_only=True)
    """Add a bias to the queries, keys and values."""
    qk_norm: bool = field(default=False, kw_only=True)
    """Normalize the queries and keys."""
    qk_norm_scope: QKNormScope = field(default="head", kw_only=True)
    """Numbers that `qk_norm` normalizes together: those of each "head", or of "all_heads" of a position (OLMo 2)."""
    qk_norm_gains: bool = field(default=True, kw_only=True)
    """Give the norms of `qk_norm` a learned gain for each number."""
    window: int | None = field(default=None, kw_only=True)
    """Positions that a position attends to, itself included: a sliding window (Beltagy et al. 2020). None: all."""
    full_attention_layers: tuple[int, ...] = field(default=(), kw_only=True)
    """Indices of the layers in which `window` does not apply."""
    position: Position = field(default="rope", kw_only=True)
    """Position information: "rope" (rotary embedding), or "none", which leaves only the causal mask."""
    no_rope_layers: tuple[int, ...] = field(default=(), kw_only=True)
    """Indices of the layers without a rotary embedding, as in SmolLM 3 (Yang et al. 2025)."""
    rope_scaling: RopeScaling | None = field(default=None, kw_only=True)
    """Change of the rotary embedding's frequencies for long contexts."""
    norm: Norm = field(default="pre", kw_only=True)
    """Place of the norms: "pre", x + f(norm(x)); "post", norm(x + f(x)); "reordered", x + norm(f(x)) (OLMo 2); "none".

    Only "pre" and "reordered" have a final norm, `ln_final`.
    """
    norm_eps: float = field(default=1e-5, kw_only=True)
    """Added to the mean square in every RMSNorm."""
    ffn: FeedForward = field(default="swiglu", kw_only=True)
    """Kind of feed-forward network; "swiglu" has three matrices, "silu" and "relu_squared" have two."""
    tie_embeddings: bool = field(default=False, kw_only=True)
    """Share one matrix between embedding and output layer, with initial standard deviation 1 / sqrt(d_model)."""
    logit_soft_cap: float | None = field(default=None, kw_only=True)
    """If given, logits z become cap · tanh(z / cap)."""
    dropout: float = field(default=0.0, kw_only=True)
    """In training, share of the numbers set to 0 in the embeddings and in the outputs of attention and feed-forward."""
    attention_dropout: float = field(default=0.0, kw_only=True)
    """In training, share of the attention weights set to 0; all scores of a layer are then in memory."""
    document_separator: int | None = field(default=None, kw_only=True)
    """If given, the id with which documents begin: no position attends to what precedes its document."""
    ngram_rows: int | None = field(default=None, kw_only=True)
    """Rows of a table of vectors for each n of `ngrams`, added to the token embeddings; None: no n-grams."""
    ngrams: tuple[int, ...] = field(default=(2, 3), kw_only=True)
    """Lengths of these n-grams: 2 for a token with the one before it, 3 with the two before it."""
    ngram_min_count: int | None = field(default=None, kw_only=True)
    """Least occurrences in the training text with which an n-gram has a vector, one of its own
    (`FrequentNGramEmbedding`). None: all n-grams share the rows (`HashedNGramEmbedding`)."""
    ngram_dropout: float = field(default=0.0, kw_only=True)
    """In training, share of the positions that get no vectors of n-grams."""

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_heads(self)
        _check_layers(self)
        _check_ngrams(self)

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values in each block."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def d_k(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads if self.head_size is None else self.head_size

    @property
    def has_final_norm(self) -> bool:
        """True if a norm follows the last block: otherwise its output is normalized already, or there are no norms."""
        return self.norm in ("pre", "reordered")

    def window_of(self, layer: int) -> int | None:
        """Return the sliding window of a layer, or None if it attends to all positions."""
        return None if layer in self.full_attention_layers else self.window

    def has_rope(self, layer: int) -> bool:
        """Return whether a layer rotates its queries and keys."""
        return self.position == "rope" and layer not in self.no_rope_layers

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can represent."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

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
        # JSON has no tuples and no dataclasses.
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        scaling = values.get("rope_scaling")
        nested = {"rope_scaling": _rope_scaling(scaling)} if isinstance(scaling, Mapping) else {}
        return cls(**{**values, **tuples, **nested})


SIZES = ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")
_OPTIONAL_SIZES = ("num_kv_heads", "head_size", "window")
_CHOICES = {
    "norm": get_args(Norm),
    "position": get_args(Position),
    "ffn": get_args(FeedForward),
    "qk_norm_scope": get_args(QKNormScope),
}
_SWITCHES = ("tie_embeddings", "qkv_bias", "qk_norm", "qk_norm_gains")
_LAYERS = ("full_attention_layers", "no_rope_layers")


def _is_positive(value: object) -> bool:
    """Return whether a value is a finite int or float above 0 (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_int(value: object, least: int) -> bool:
    """Return whether a value is an int of at least `least` (a bool is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _rope_scaling(values: Mapping[str, Any]) -> RopeScaling:
    """Return the dataclass with these fields."""
    known = [item.name for item in fields(RopeScaling)]
    if unknown := sorted(values.keys() - set(known)):
        raise ValueError(f"rope_scaling has unknown fields {unknown!r}; known are {', '.join(known)}")
    return RopeScaling(**values)


def _check_fields(config: TransformerConfig) -> None:
    """Check each field on its own."""
    for name in SIZES:
        value = getattr(config, name)
        if not _is_int(value, 1):
            raise ValueError(f"{name}={value!r} is out of range; choose an integer of at least 1")
    for name in _OPTIONAL_SIZES:
        value = getattr(config, name)
        if value is not None and not _is_int(value, 1):
            raise ValueError(f"{name}={value!r} is out of range; choose an integer of at least 1, or None")
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"{name}={getattr(config, name)!r} is unknown; choose one of {', '.join(choices)}")
    for name in _SWITCHES:
        if getattr(config, name) is not True and getattr(config, name) is not False:
            raise ValueError(f"{name}={getattr(config, name)!r} is not a switch; choose True or False")
    for name in ("rope_theta", "norm_eps"):
        if not _is_positive(getattr(config, name)):
            raise ValueError(f"{name}={getattr(config, name)!r} is out of range; choose a number above 0")
    cap, scaling = config.logit_soft_cap, config.rope_scaling
    if cap is not None and not _is_positive(cap):
        raise ValueError(f"logit_soft_cap={cap!r} is out of range; choose a number above 0, or None for no cap")
    for name in ("dropout", "attention_dropout", "ngram_dropout"):
        share = getattr(config, name)
        if not (share == 0 or _is_positive(share)) or isinstance(share, bool) or share >= 1:
            raise ValueError(f"{name}={share!r} is out of range; choose a number from 0 up to, not including, 1")
    separator = config.document_separator
    if separator is not None and not (_is_int(separator, 0) and separator < config.vocab_size):
        raise ValueError(
            f"document_separator={separator!r} is no token; choose an id below vocab_size={config.vocab_size}, or None"
        )
    if scaling is not None and not isinstance(scaling, RopeScaling):
        raise ValueError(f"rope_scaling={scaling!r} is out of range; choose a RopeScaling, or None")


def _check_heads(config: TransformerConfig) -> None:
    if config.head_size is None and config.d_model % config.num_heads:
        raise ValueError(
            f"num_heads={config.num_heads} does not divide d_model={config.d_model}; choose a divisor of it, or give "
            f"head_size"
        )
    if config.num_heads % config.kv_heads:
        raise ValueError(
            f"num_kv_heads={config.num_kv_heads} does not divide num_heads={config.num_heads}; choose a divisor of it"
        )
    if config.position == "rope" and config.d_k % 2:
        origin = f"d_model={config.d_model} over num_heads={config.num_heads}"
        raise ValueError(
            f"{origin if config.head_size is None else 'head_size'} gives heads of {config.d_k}, which rope cannot "
            f"rotate in pairs; choose an even head size, or position='none'"
        )
    if config.qk_norm_scope != "head" and not config.qk_norm:
        raise ValueError(f"qk_norm_scope={config.qk_norm_scope!r} needs qk_norm=True; set it, or choose 'head'")
    if not config.qk_norm_gains and not config.qk_norm:
        raise ValueError("qk_norm_gains=False needs qk_norm=True; set it, or leave qk_norm_gains out")


def _check_layers(config: TransformerConfig) -> None:
    """Check the fields about some layers, which would have no effect without another field."""
    for name in _LAYERS:
        indices = getattr(config, name)
        is_tuple = isinstance(indices, tuple) and all(_is_int(index, 0) for index in indices)
        if not is_tuple or list(indices) != sorted(set(indices)):
            raise ValueError(f"{name}={indices!r} is out of range; give ascending indices of layers, such as (3, 7)")
        if indices and indices[-1] >= config.num_layers:
            raise ValueError(
                f"{name}={indices!r} names layer {indices[-1]}, but num_layers={config.num_layers}; "
                f"layers are counted from 0"
            )
    if config.full_attention_layers and config.window is None:
        raise ValueError(
            f"full_attention_layers={config.full_attention_layers!r} needs a window; give one, or no layers"
        )
    for name in ("no_rope_layers", "rope_scaling"):
        if getattr(config, name) and config.position != "rope":
            raise ValueError(f"{name}={getattr(config, name)!r} needs position='rope'; choose it, or leave {name} out")


def _check_ngrams(config: TransformerConfig) -> None:
    rows, lengths = config.ngram_rows, config.ngrams
    if rows is not None and not (_is_int(rows, 2) and rows <= 2**31):
        raise ValueError(f"ngram_rows={rows!r} is out of range; choose an integer from 2 to 2**31, or None")
    is_tuple = isinstance(lengths, tuple) and all(_is_int(n, 2) for n in lengths)
    if not is_tuple or not lengths or list(lengths) != sorted(set(lengths)):
        raise ValueError(f"ngrams={lengths!r} is out of range; give ascending integers of at least 2, such as (2, 3)")
    if rows is None and lengths != (2, 3):
        raise ValueError(f"ngrams={lengths!r} needs ngram_rows; give the rows of each table, or leave ngrams out")
    least = config.ngram_min_count
    if least is not None and not _is_int(least, 1):
        raise ValueError(f"ngram_min_count={least!r} is out of range; choose an integer of at least 1, or None")
    if None not in (rows, least) and config.vocab_size ** lengths[-1] >= 2**63:
        raise ValueError(
            f"ngrams={lengths!r} are too long to be numbered in 64 bits with vocab_size={config.vocab_size}; choose "
            "shorter ones, or ngram_min_count=None"
        )
