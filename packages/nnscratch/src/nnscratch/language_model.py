"""What language models have in common, whatever is between their embeddings and their output layer."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.argument_checks import check_token_ids, shape_error
from nnscratch.generation.cache import KeyValueCache
from nnscratch.layers import Embedding, Linear
from nnscratch.losses import linear_cross_entropy


class LanguageModelConfig(Protocol):
    """What a `LanguageModel` and its generation need to know; `TransformerConfig` explains the fields."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    @property
    def context_length(self) -> int:
        """The most positions that the model sees at once, in tokens."""

    @property
    def num_layers(self) -> int:
        """Number of layers that keep keys and values."""

    @property
    def logit_soft_cap(self) -> float | None:
        """If given, logits z become cap · tanh(z / cap)."""


def _beside_padding(
    padding: Int[Tensor, "batch"], start: int, end: int
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq {end}"]]:
    """Return the positions of columns start … end in rows that begin with padding, and what they may attend to."""
    columns = torch.arange(end, device=padding.device)
    positions = (columns[start:] - padding.unsqueeze(-1)).clamp_(min=0)
    return positions, (columns >= padding[:, None, None]) & (columns <= columns[start:, None])


class LanguageModel(nn.Module, ABC):
    """A model that gives each position a score for every next token: base class of `TransformerLM`.

    A subclass sets `config`, `token_embeddings` and `lm_head`, and defines `_features`. It then has logits, the
    training loss, and works with `generate`, `complete` and `stream`.
    """

    config: LanguageModelConfig
    token_embeddings: Embedding
    lm_head: Linear

    @abstractmethod
    def _features(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
        mask: Bool[Tensor, "batch seq keys"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return what the output layer gets; `CausalSelfAttention` explains the arguments."""

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return what the output layer gets; `forward` explains the arguments.

        Raises:
            ValueError: if `token_ids` are not (batch, seq) integers, or with what the cache holds longer than
                `context_length`.
        """
        check_token_ids("token_ids", token_ids)
        if token_ids.dim() != 2:
            raise shape_error("token_ids", token_ids, "(batch, seq)")
        start = 0 if cache is None else cache.length
        length = start + token_ids.shape[1]
        if length > self.config.context_length:
            raise ValueError(
                f"an input of {length} tokens is longer than context_length={self.config.context_length}; "
                f"shorten it or build the model with a longer context"
            )
        positions, mask = None, None
        if padding is not None:
            positions, mask = _beside_padding(padding, start, length)
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
            token_ids: at most `context_length` ids in each row.
            cache: earlier positions' keys and values; `token_ids` are taken to follow them, and are added to it.
            padding: how many ids at the start of each row, those in the cache included, only fill it up: nothing
                attends to them, and the row's positions start after them. What they give themselves is of no use.

        Raises:
            ValueError: if there are more than `context_length` positions.
        """
        return self._logits(self.hidden_states(token_ids, cache, padding))

    def next_token_logits(
        self,
        token_ids: Int[Tensor, "batch seq"],
        cache: KeyValueCache | None = None,
        padding: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch vocab_size"]:
        """Return the last position's logits, without those of the others; `forward` explains the arguments."""
        return self._logits(self.hidden_states(token_ids, cache, padding)[:, -1])

    def _logits(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab_size"]:
        logits: Tensor = self.lm_head(hidden)
        cap = self.config.logit_soft_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def loss(self, inputs: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per target, without ever holding all logits.

        Args:
            inputs: token ids.
            targets: the id that follows each of them.

        Raises:
            ValueError: if the two differ in shape, or there are more than `context_length` positions.
        """
        if targets.shape != inputs.shape:
            raise shape_error("targets", targets, f"{tuple(inputs.shape)}, as inputs have")
        return linear_cross_entropy(
            self.hidden_states(inputs), self.lm_head.weight, targets, logit_soft_cap=self.config.logit_soft_cap
        )
