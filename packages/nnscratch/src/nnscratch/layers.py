"""Layers: linear, embedding, RMS normalization, feed-forward networks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnscratch import functional
from nnscratch.argument_checks import check_last_dimension, check_token_ids, shape_error
from nnscratch.cache import KeyValueCache
from nnscratch.feed_forward_kernels import can_fuse_relu_squared, fused_relu_squared


class Linear(nn.Module):
    """y = x Wᵀ; `weight` is (d_out, d_in), drawn from N(0, 2 / (d_in + d_out)) truncated at 3 sigma.

    With `bias`, y = x Wᵀ + b, and b is (d_out,) and starts at 0. `torch.nn.Linear` has a bias unless told otherwise,
    and draws from a uniform distribution. Plainly: `nnscratch.reference.linear`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(d_out, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew, from torch's global random state, and set the bias to 0."""
        std = math.sqrt(2 / sum(self.weight.shape))
        nn.init.trunc_normal_(self.weight, std=std, a=-3 * std, b=3 * std)
        if self.bias is not None:
            with torch.no_grad():
                self.bias.zero_()

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return x Wᵀ, plus the bias if there is one."""
        check_last_dimension("x", x, self.weight.shape[1], "d_in")
        y = functional.linear(x, self.weight)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether calling the module does nothing but what its kind does: no subclass, and no hooks."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return type(module) is kind and not any(hooks)


class Embedding(nn.Module):
    """Table of vectors; `weight` is (num_embeddings, d_model), drawn from N(0, std²) truncated at 3 sigma.

    Plainly: `nnscratch.reference.embedding`.
    """

    def __init__(
        self,
        num_embeddings: int,
        d_model: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(num_embeddings, d_model, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew, from torch's global random state."""
        nn.init.trunc_normal_(self.weight, std=self.std, a=-3 * self.std, b=3 * self.std)

    def forward(self, token_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        """Return the vector of each id.

        Raises:
            IndexError: If an id is outside the table (on a GPU, a device error).
        """
        check_token_ids("token_ids", token_ids)
        return functional.embedding(token_ids, self.weight)


_NO_NGRAM = 2**63 - 1


class _NGramEmbedding(nn.Module, ABC):
    """A table with vectors for each token and the n - 1 tokens before it; subclasses tell which row is whose."""

    def __init__(
        self,
        n: int,
        rows: int,
        d_model: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if n < 2:
            raise ValueError(f"n={n!r} is out of range; choose 2 for bigrams, 3 for trigrams, or more")
        if not 2 <= rows <= 2**31:
            raise ValueError(f"rows={rows!r} is out of range; choose 2 to 2**31, such as several times the vocabulary")
        self.n = n
        self.weight = nn.Parameter(torch.zeros(rows, d_model, device=device, dtype=dtype))

    def forward(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None = None,
        previous_ids: Int[Tensor, "batch {self.n-1}"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the vector of the n-gram that ends at each position.

        Args:
            token_ids: The tokens.
            token_positions: Their positions in their texts, which tell how many predecessors they have; by default
                every row begins with `previous_ids`.
            previous_ids: The n - 1 tokens before the first column, the oldest first; negative where there is none. By
                default there are none.

        Raises:
            ValueError: If `token_ids` are not integers, or `previous_ids` have another shape.
        """
        check_token_ids("token_ids", token_ids)
        token_ids = token_ids.long()
        shape = (token_ids.shape[0], self.n - 1)
        if previous_ids is None:
            previous_ids = token_ids.new_full(shape, -1)
        elif previous_ids.shape != shape:
            raise shape_error("previous_ids", previous_ids, f"{shape}, the n - 1 ids before each row")
        ids = torch.cat((previous_ids, token_ids), dim=1)
        # The windows of n columns, with the oldest token of each in front.
        ngrams = torch.stack([ids[:, start : start + token_ids.shape[1]] for start in range(self.n)])
        rows = self._rows(ngrams)
        if token_positions is not None:
            rows = rows.masked_fill(token_positions < self.n - 1, 0)
        return functional.sparse_embedding(rows, self.weight)

    @abstractmethod
    def _rows(self, ngrams: Int[Tensor, "n *batch"]) -> Int[Tensor, "*batch"]:
        """Return the row of each n-gram; one with a negative id, for a missing token, has row 0."""


class HashedNGramEmbedding(_NGramEmbedding):
    """A vector for each token and the n - 1 tokens before it, in a table that n-grams share through a hash.

    A model that adds it to its token embeddings, or to the values of attention, knows the tokens just before without
    attending to them; modded-nanogpt has bigrams since record 62. `weight` is (rows, d_model) and starts at zero.
    There are more n-grams than rows; `nnscratch.functional.ngram_rows` tells which row is whose. Row 0 is for tokens
    with fewer than n - 1 predecessors.

    The gradient of `weight` is sparse: only rows in use, for `RowwiseAdagrad`. Under `torch.compile` it is dense.
    Plainly: `nnscratch.reference.ngram_embedding`.

    Args:
        n: Number of tokens in an n-gram: 2 for bigrams, 3 for trigrams.
        rows: Rows of the table, at least 2 and at most 2³¹.
        d_model: Width of the vectors.
        device: Device of the table.
        dtype: Dtype of the table.

    Raises:
        ValueError: If `n` or `rows` is out of range.
    """

    def _rows(self, ngrams: Int[Tensor, "n *batch"]) -> Int[Tensor, "*batch"]:
        return functional.ngram_rows(ngrams, self.weight.shape[0])


class FrequentNGramEmbedding(_NGramEmbedding):
    """A vector for each frequent n-gram of a training text, and one for all other n-grams.

    Use and gradient are those of `HashedNGramEmbedding`. There, rare n-grams share rows with frequent ones, and a text
    that is read again is recognized by its rare n-grams. Here a row has seen its n-gram `min_count` times or more.

    `weight` is (rows, d_model) and starts at zero. The buffer `numbers` (rows - 1,) has the numbers of the n-grams with
    a row of their own (`nnscratch.functional.ngram_numbers`), ascending, and then 2⁶³ - 1 for rows without an n-gram.
    Row k + 1 belongs to numbers[k], and row 0 to all other n-grams. Before `learn_ngrams` that is all of them.
    Plainly: `nnscratch.reference.frequent_ngrams`.

    Args:
        n: Number of tokens in an n-gram: 2 for bigrams, 3 for trigrams.
        rows: Rows of the table, at least 2 and at most 2³¹.
        d_model: Width of the vectors.
        vocab_size: Number of token ids; to the power of n it must be below 2⁶³.
        device: Device of the table.
        dtype: Dtype of the table.

    Raises:
        ValueError: If `n` or `rows` is out of range.
    """

    numbers: Tensor

    def __init__(
        self,
        n: int,
        rows: int,
        d_model: int,
        vocab_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n, rows, d_model, device, dtype)
        self.vocab_size = vocab_size
        self.register_buffer("numbers", torch.full((rows - 1,), _NO_NGRAM, dtype=torch.int64, device=device))

    def learn_ngrams(self, token_ids: Int[Tensor, " tokens"], min_count: int) -> None:
        """Give rows to the n-grams that occur `min_count` times or more, or to the most frequent of them.

        Of n-grams that are equally frequent, those with lower numbers come first. The vectors stay as they are.
        """
        check_token_ids("token_ids", token_ids)
        ids = token_ids.long()
        ngrams = torch.stack([ids[start : len(ids) - self.n + 1 + start] for start in range(self.n)])
        found, counts = functional.ngram_numbers(ngrams, self.vocab_size).unique(return_counts=True)
        found, counts = found[counts >= min_count], counts[counts >= min_count]
        most_frequent = counts.argsort(descending=True, stable=True)[: len(self.numbers)]
        found = found[most_frequent].sort().values
        self.numbers.fill_(_NO_NGRAM)
        self.numbers[: len(found)] = found

    def _rows(self, ngrams: Int[Tensor, "n *batch"]) -> Int[Tensor, "*batch"]:
        numbers = functional.ngram_numbers(ngrams, self.vocab_size)
        places = torch.searchsorted(self.numbers, numbers).clamp(max=len(self.numbers) - 1)
        return torch.where(self.numbers[places] == numbers, places + 1, 0)


class NGramEmbeddings(nn.ModuleDict):
    """Sum of the vectors of n-grams of several lengths, each with a table under its length: `{n}.weight`.

    A text that is read several times needs `dropout` or `min_count`. Tables learn rare n-grams with what follows them
    by heart, and the model would learn to trust such vectors, which do not help with another text.

    Args:
        ngrams: The lengths, ascending.
        rows: Rows of each table.
        d_model: Width of the vectors.
        device: Device of the tables.
        dtype: Dtype of the tables.
        dropout: In training, share of the positions whose sum is 0. The other sums are not scaled, because a model
            reads a vector either whole or not at all.
        min_count: If given, tables are of the kind `FrequentNGramEmbedding`, and `learn_ngrams` gives them the n-grams
            that are so frequent; otherwise `HashedNGramEmbedding`.
        vocab_size: Number of token ids; needed with `min_count`.

    Raises:
        ValueError: If a length or `rows` is out of range.
    """

    def __init__(
        self,
        ngrams: Sequence[int],
        rows: int,
        d_model: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        dropout: float = 0.0,
        min_count: int | None = None,
        vocab_size: int = 0,
    ) -> None:
        def table(n: int) -> _NGramEmbedding:
            if min_count is None:
                return HashedNGramEmbedding(n, rows, d_model, device, dtype)
            return FrequentNGramEmbedding(n, rows, d_model, vocab_size, device, dtype)

        super().__init__({str(n): table(n) for n in ngrams})
        self.longest = max(ngrams)
        self.dropout = dropout
        self.min_count = min_count

    def learn_ngrams(self, token_ids: Int[Tensor, " tokens"]) -> None:
        """Give rows to the frequent n-grams of a text; without `min_count` they have rows already."""
        for table in self.values():
            if isinstance(table, FrequentNGramEmbedding) and self.min_count is not None:
                table.learn_ngrams(token_ids, self.min_count)

    def forward(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the sum of the vectors of the n-grams that end at each position.

        Args:
            token_ids: The tokens.
            token_positions: Their positions in their texts, as in `HashedNGramEmbedding`.
            cache: Cache of the tokens before, which also remembers the last of these.

        Raises:
            ValueError: If the cache holds another number of sequences.
        """
        token_ids = token_ids.long()
        batch, before = token_ids.shape[0], self.longest - 1
        previous = None if cache is None or cache.length == 0 else cache.previous_ids
        if previous is None:
            previous = token_ids.new_full((batch, before), -1)
        elif previous.shape[0] != batch:
            raise ValueError(
                f"token_ids has {batch} sequences, but the cache holds {previous.shape[0]}; pass the same sequences, "
                f"or reset the cache"
            )
        if cache is not None:
            cache.previous_ids = torch.cat((previous, token_ids), dim=1)[:, -before:]
        vectors = [table(token_ids, token_positions, previous[:, 1 - int(n) :]) for n, table in self.items()]
        total = sum(vectors[1:], start=vectors[0])
        if self.training and self.dropout:
            total = total * (torch.rand(*token_ids.shape, 1, device=total.device) >= self.dropout)
        return total


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang and Sennrich 2019, equation 4).

    The result is computed in float32 at least and has the dtype of `x`. With `gain=False`, `weight` is None, and
    nothing is multiplied. `torch.nn.RMSNorm` derives eps from the dtype. Plainly: `nnscratch.reference.rms_norm`.
    """

    def __init__(
        self,
        d_model: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        gain: bool = True,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model, device=device, dtype=dtype)) if gain else None

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the normalized vectors."""
        check_last_dimension("x", x, self.d_model, "d_model")
        return functional.rms_norm(x, self.weight, self.eps)


class _FeedForward(nn.Module):
    """The two matrices that every feed-forward network has."""

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device, dtype)
        self.w2 = Linear(d_ff, d_model, device, dtype)


class SwiGLU(_FeedForward):
    """w2(silu(w1 x) · w3 x), a gated feed-forward network (Shazeer 2020, equation 6).

    Plainly: `nnscratch.reference.swiglu`.
    """

    def __init__(
        self, d_model: int, d_ff: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(d_model, d_ff, device, dtype)
        self.w3 = Linear(d_model, d_ff, device, dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        return self.w2(functional.silu_gate(self.w1(x), self.w3(x)))


class SiLUFeedForward(_FeedForward):
    """w2(silu(w1 x)); with d_ff = 4 · d_model it has as many parameters as a SwiGLU with d_ff = 8/3 · d_model."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        return self.w2(functional.silu(self.w1(x)))


class ReLUSquaredFeedForward(_FeedForward):
    """w2(max(w1 x, 0)²) (So et al. 2021, Primer).

    On GPUs with compute capability 8.0 or later, in bfloat16 or float16, our own Triton kernel computes w1 x and stores
    its square. Another computes the gradient. They are for 128 vectors or more, widths that are multiples of 16, and
    projections without hooks. The square is then rounded once, elsewhere twice.
    """

    fused: bool = True
    """Use these kernels. Their speed has not been measured on a GPU; with False, torch computes the products."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the output for every vector."""
        plain = all(is_plain(projection, Linear) and projection.bias is None for projection in (self.w1, self.w2))
        if self.fused and plain and can_fuse_relu_squared(x, self.w1.weight, self.w2.weight):
            return fused_relu_squared(x, self.w1.weight, self.w2.weight)
        return self.w2(functional.relu_squared(self.w1(x)))
