"""Embeddings of pairs of neighbouring tokens, in a table that pairs share through a hash."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch import KeyValueCache

_MULTIPLIER = 2_654_435_761  # about 2³² by the golden ratio (Knuth, The Art of Computer Programming, 6.4)


class BigramEmbedding(nn.Module):
    """A vector for each pair of a token and its predecessor (modded-nanogpt's record 62).

    The model knows a token's predecessor without spending attention on it. `weight` is (rows, d_model) and starts at
    zero. There are more pairs than rows: with p = previous id · vocab_size + id, a pair uses row
    1 + ⌊p · 2654435761 / 2¹⁶⌋ mod (rows - 1), in 64-bit integers. Row 0 is for tokens without a predecessor.

    Args:
        vocab_size: Number of tokens.
        rows: Rows of the table, 2 or more; the record uses 5 · vocab_size.
        d_model: Width of the vectors.
        device: Device of the table.
        dtype: Dtype of the table.
    """

    def __init__(
        self,
        vocab_size: int,
        rows: int,
        d_model: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(torch.zeros(rows, d_model, device=device, dtype=dtype))

    def forward(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the bigram embedding at every position.

        Args:
            token_ids: The tokens.
            token_positions: Their positions; a token at position 0 has no predecessor. With None, only the first
                column may lack one.
            cache: Cache that knows the token before the first column; None if there is none.

        Raises:
            ValueError: If the cache holds a different number of sequences.
        """
        before = None if cache is None else cache.last_token_ids
        if before is None:
            before = torch.full_like(token_ids[:, 0], -1)
        elif before.shape != token_ids.shape[:1]:
            raise ValueError(
                f"{token_ids.shape[0]} sequences came, but the cache holds {before.shape[0]}; pass those, or reset it"
            )
        previous = torch.cat((before.unsqueeze(-1), token_ids[:, :-1]), dim=1).long()
        if token_positions is not None:
            previous = previous.masked_fill(token_positions == 0, -1)
        mixed = (previous * self.vocab_size + token_ids) * _MULTIPLIER >> 16
        rows = torch.where(previous < 0, 0, 1 + mixed % (self.weight.shape[0] - 1))
        # index_select, because the backward pass of plain indexing is slower on a CPU
        return self.weight.index_select(0, rows.reshape(-1)).view(*rows.shape, -1)
