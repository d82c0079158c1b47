"""Key-value cache: keys and values of earlier positions, kept while a text is generated."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class LayerCache:
    """Keys and values of one layer, in buffers for `max_length` positions that are allocated once."""

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length={max_length!r} is out of range; choose at least 1 position")
        self.max_length = max_length
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(
        self, keys: Float[Tensor, "*batch new d_k"], values: Float[Tensor, "*batch new d_v"]
    ) -> tuple[Float[Tensor, "*batch length d_k"], Float[Tensor, "*batch length d_v"]]:
        """Store the keys and values of the next positions and return those of all positions, as views of the buffers.

        Raises:
            ValueError: If they do not fit, or have another batch shape than the positions in the cache.
        """
        new = keys.shape[-2]
        end = self.length + new
        if end > self.max_length:
            raise ValueError(
                f"got {new} positions, but the cache is full up to {self.length} of {self.max_length}; "
                f"reset it or make a longer one"
            )
        if self.length == 0:
            self._keys = self._buffer(self._keys, keys)
            self._values = self._buffer(self._values, values)
        assert self._keys is not None
        assert self._values is not None
        if keys.shape[:-2] != self._keys.shape[:-2]:
            raise ValueError(
                f"keys have shape {tuple(keys.shape)}, but the cache holds a batch of {tuple(self._keys.shape[:-2])}; "
                f"pass the same sequences, or reset the cache"
            )
        self._keys.narrow(-2, self.length, new).copy_(keys.detach())
        self._values.narrow(-2, self.length, new).copy_(values.detach())
        self.length = end
        return self._keys.narrow(-2, 0, end), self._values.narrow(-2, 0, end)

    def _buffer(self, buffer: Tensor | None, like: Tensor) -> Tensor:
        """Return a buffer for positions such as these, reusing the present one if it fits."""
        shape = (*like.shape[:-2], self.max_length, like.shape[-1])
        if buffer is not None and (buffer.shape, buffer.dtype, buffer.device) == (shape, like.dtype, like.device):
            return buffer
        with torch.inference_mode(False):  # An inference tensor could be written to in that mode only.
            return torch.empty(shape, dtype=like.dtype, device=like.device)

    def reset(self) -> None:
        """Forget all positions but keep the buffers, which are replaced only if the batch changes."""
        self.length = 0


class KeyValueCache:
    """Caches of all layers of a model, for inference: no gradient flows through them.

    The buffers hold 2 · num_layers · batch · max_length numbers for each of the kv_heads · d_k features of the keys,
    and are allocated with the first positions.

    Args:
        num_layers: The model's `num_layers`.
        max_length: Capacity in positions; more than the model's `context_length` are never used.

    Raises:
        ValueError: If there would be no layer or no position.
    """

    def __init__(self, num_layers: int, max_length: int) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers!r} is out of range; choose the model's number of layers")
        self.layers = [LayerCache(max_length) for _ in range(num_layers)]
        self.last_token_ids: Int[Tensor, "batch"] | None = None
        """Ids at the last position, for models that look at neighboring tokens; None while the cache is empty."""
        self.document_starts: Int[Tensor, "batch"] | None = None
        """Positions at which the documents at the last position begin; None while the cache is empty."""
        self.previous_ids: Int[Tensor, "batch ids"] | None = None
        """As many last ids as the longest n-gram of the model looks back to, the oldest first, -1 where there is none.

        None while the cache is empty, or if the model has no n-grams.
        """

    @property
    def length(self) -> int:
        """Number of positions in the cache."""
        return self.layers[0].length

    @property
    def max_length(self) -> int:
        """Capacity in positions."""
        return self.layers[0].max_length

    def reset(self) -> None:
        """Forget all positions but keep the buffers, which are replaced only if the batch changes."""
        self.last_token_ids = None
        self.document_starts = None
        self.previous_ids = None
        for layer in self.layers:
            layer.reset()
