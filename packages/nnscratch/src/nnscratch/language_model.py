"""Base class of language models: everything except the layers between the embeddings and the output layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.argument_checks import check_token_ids, shape_error
from nnscratch.cache import KeyValueCache
from nnscratch.layers import Embedding, Linear
from nnscratch.losses import linear_cross_entropy


class LanguageModelConfig(Protocol):
    """Fields of a config that `LanguageModel` and text generation use; `TransformerConfig` describes them."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    @property
    def context_length(self) -> int:
        """Maximum number of positions in an input."""

    @property
    def num_layers(self) -> int:
        """Number of layers that have a cache."""

    @property
    def logit_soft_cap(self) -> float | None:
        """If given, logits z become cap · tanh(z / cap)."""


class LanguageModel(nn.Module, ABC):
    """Model that computes a score for every next token at each position: the base class of `TransformerLM`.

    A subclass sets `config`, `token_embeddings` and `lm_head`, and defines `_features`. The base class adds the logits
    and the training loss, and `generate`, `complete` and `stream` accept the subclass.
    """

    config: LanguageModelConfig
    token_embeddings: Embedding
    lm_head: Linear

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Convert or move all parameters; `to_empty`, for one, would make two of a tied matrix."""
        is_tied = self.lm_head.weight is self.token_embeddings.weight
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call, unused-ignore]
        if is_tied:
            self.lm_head.weight = self.token_embeddings.weight
        return self

    @abstractmethod
    def _features(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
        mask: Bool[Tensor, "batch seq keys"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the input of the output layer; the arguments are those of `CausalSelfAttention`."""

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the input of the output layer; the arguments are those of `forward`.

        Raises:
            ValueError: If `token_ids` are not (batch, seq) integers, or exceed `context_length` together with the
                positions in the cache.
        """
        check_token_ids("token_ids", token_ids)
        if token_ids.dim() != 2:
            raise shape_error("token_ids", token_ids, "(batch, seq)")
        start = 0 if cache is None else cache.length
        length = start + token_ids.shape[1]
        if length > self.config.context_length:
            raise ValueError(
                f"an input of {length} tokens exceeds context_length={self.config.context_length}; "
                f"shorten it or build the model with a longer context"
            )
        positions, mask = None, None
        if padding is not None:
            positions, mask = _positions_and_mask(padding, start, length)
        features = self._features(token_ids, positions, cache, mask)
        if cache is not None and token_ids.shape[1] > 0:
            cache.last_token_ids = token_ids[:, -1]
        return features

    def forward(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq vocab_size"]:
        """Return the logits of the token after each position.

        Args:
            token_ids: At most `context_length` ids in each row.
            cache: Keys and values of earlier positions; `token_ids` follow them and are appended.
            padding: Number of padding ids at the start of each row, including ids in the cache. No position attends to
                the padding, and positions are counted from the first id after the padding. The logits of padding ids
                have no meaning.

        Raises:
            ValueError: If there are more than `context_length` positions.
        """
        return self._logits(self.hidden_states(token_ids, cache, padding))

    def next_token_logits(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch vocab_size"]:
        """Return the logits at the last position only; the arguments are those of `forward`."""
        return self._logits(self.hidden_states(token_ids, cache, padding)[:, -1])

    def _logits(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab_size"]:
        logits: Tensor = self.lm_head(hidden)
        cap = self.config.logit_soft_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def loss(
        self,
        inputs: Int[Tensor, "batch seq"],
        targets: Int[Tensor, "batch seq"],
        *,
        ignore_index: int = -100,
        num_sampled: int | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per target, computed in chunks by `linear_cross_entropy`.

        Args:
            inputs: Token ids.
            targets: Id of the token that follows each input.
            ignore_index: Target that does not count, such as the tokens of a prompt; 0 is the loss if none counts.
            num_sampled: Tokens of the vocabulary whose logits are computed, as in `linear_cross_entropy`; None: all.

        Raises:
            ValueError: If inputs and targets differ in shape, there are more than `context_length` positions, or the
                output layer has a bias.
        """
        if targets.shape != inputs.shape:
            raise shape_error("targets", targets, f"{tuple(inputs.shape)}, the shape of inputs")
        if getattr(self.lm_head, "bias", None) is not None:
            raise ValueError(
                "lm_head has a bias, which this loss cannot add; use cross_entropy(model(inputs), targets)"
            )
        return linear_cross_entropy(
            self.hidden_states(inputs),
            self.lm_head.weight,
            targets,
            logit_soft_cap=self.config.logit_soft_cap,
            ignore_index=ignore_index,
            num_sampled=num_sampled,
        )


def _positions_and_mask(
    padding: Int[Tensor, "batch"], start: int, end: int
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq {end}"]]:
    """Return the positions and the attention mask of columns start … end - 1 in rows that begin with padding."""
    columns = torch.arange(end, device=padding.device)
    positions = (columns[start:] - padding.unsqueeze(-1)).clamp_(min=0)
    return positions, (columns >= padding[:, None, None]) & (columns <= columns[start:, None])
