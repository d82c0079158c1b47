"""Keys and values of earlier positions, kept while a text is generated."""

from torch import Tensor


class LayerCache:
    """One layer's keys and values, in a buffer that is allocated once for `max_length` positions."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the next positions' keys and values, (..., new, d_k), and return all so far, (..., length, d_k).

        Raises:
            ValueError: if they do not fit.
        """
        end = self.length + keys.shape[-2]
        if end > self.max_length:
            raise ValueError(
                f"{keys.shape[-2]} positions came, but the cache has {self.length} of {self.max_length}; "
                f"reset it or make a longer one"
            )
        if self._keys is None or self._values is None:
            self._keys = keys.new_empty(*keys.shape[:-2], self.max_length, keys.shape[-1])
            self._values = values.new_empty(*values.shape[:-2], self.max_length, values.shape[-1])
        self._keys[..., self.length : end, :] = keys.detach()
        self._values[..., self.length : end, :] = values.detach()
        self.length = end
        return self._keys[..., :end, :], self._values[..., :end, :]

    def reset(self) -> None:
        """Forget all positions; the buffer stays, unless the batch changes."""
        self.length = 0
        self._keys = self._values = None


class KeyValueCache:
    """The caches of all layers of a model. For inference: no gradient flows through what it holds."""

    def __init__(self, num_layers: int, max_length: int) -> None:
        self.layers = [LayerCache(max_length) for _ in range(num_layers)]

    @property
    def length(self) -> int:
        """Number of positions held."""
        return self.layers[0].length

    @property
    def max_length(self) -> int:
        """Number of positions that fit."""
        return self.layers[0].max_length

    def reset(self) -> None:
        """Forget all positions."""
        for layer in self.layers:
            layer.reset()
