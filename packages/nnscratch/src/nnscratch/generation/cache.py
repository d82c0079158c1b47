"""Keys and values of earlier positions, kept while a text is generated."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class LayerCache:
    """One layer's keys and values, in buffers that are allocated once, for `max_length` positions."""

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length={max_length!r} holds no position; choose at least 1")
        self.max_length = max_length
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(
        self, keys: Float[Tensor, "*batch new d_k"], values: Float[Tensor, "*batch new d_v"]
    ) -> tuple[Float[Tensor, "*batch length d_k"], Float[Tensor, "*batch length d_v"]]:
        """Store the next positions' keys and values and return all so far, as views of the buffers.

        Raises:
            ValueError: if they do not fit, or belong to another batch than what is held.
        """
        new = keys.shape[-2]
        end = self.length + new
        if end > self.max_length:
            raise ValueError(
                f"{new} positions came, but the cache has {self.length} of {self.max_length}; "
                f"reset it or make a longer one"
            )
        if self.length == 0:
            self._keys = self._buffer(self._keys, keys)
            self._values = self._buffer(self._values, values)
        assert self._keys is not None
        assert self._values is not None
        if keys.shape[:-2] != self._keys.shape[:-2]:
            raise ValueError(
                f"keys of shape {tuple(keys.shape)} came, but the cache holds positions of "
                f"{tuple(self._keys.shape[:-2])}; pass the same sequences, or reset it"
            )
        self._keys.narrow(-2, self.length, new).copy_(keys.detach())
        self._values.narrow(-2, self.length, new).copy_(values.detach())
        self.length = end
        return self._keys.narrow(-2, 0, end), self._values.narrow(-2, 0, end)

    def _buffer(self, buffer: Tensor | None, like: Tensor) -> Tensor:
        """Return a buffer for positions such as these: the one at hand if it fits."""
        shape = (*like.shape[:-2], self.max_length, like.shape[-1])
        if buffer is not None and (buffer.shape, buffer.dtype, buffer.device) == (shape, like.dtype, like.device):
            return buffer
        with torch.inference_mode(False):  # or else it could only be written in that mode
            return torch.empty(shape, dtype=like.dtype, device=like.device)

    def reset(self) -> None:
        """Forget all positions; the buffers stay, unless the batch changes."""
        self.length = 0


class KeyValueCache:
    """The caches of all layers of a model. For inference: no gradient flows through what it holds.

    It takes 2 · num_layers · batch · max_length · d_model numbers of memory, from the first positions on.

    Args:
        num_layers: the model's `num_layers`.
        max_length: the most positions that it will hold; more than the model's `context_length` are of no use.

    Raises:
        ValueError: if there would be no layer or no position.
    """

    def __init__(self, num_layers: int, max_length: int) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers!r} is not a number of layers; choose the model's")
        self.layers = [LayerCache(max_length) for _ in range(num_layers)]
        self.last_token_ids: Int[Tensor, "batch"] | None = None
        """The last position's ids, for models that look at neighbouring tokens; None while nothing is held."""

    @property
    def length(self) -> int:
        """Number of positions held."""
        return self.layers[0].length

    @property
    def max_length(self) -> int:
        """Number of positions that fit."""
        return self.layers[0].max_length

    def reset(self) -> None:
        """Forget all positions; the buffers stay, unless the batch changes."""
        self.last_token_ids = None
        for layer in self.layers:
            layer.reset()
