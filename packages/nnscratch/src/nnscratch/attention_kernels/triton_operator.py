"""Causal attention on GPUs by our own Triton kernels, as operators that torch.compile keeps."""

import math
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnscratch.attention_kernels.blockwise import register_backward

MAX_HEAD_SIZE = 128
SHORT_CONTEXT = 1024
"""Most keys that count as few."""
_HAS_TRITON = find_spec("triton") is not None  # Asked here, because torch.compile could not trace the question.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Tiles(NamedTuple):
    """Block sizes of a kernel and how a program executes them."""

    queries: int
    """Queries in a block."""
    keys: int
    """Keys in a block."""
    warps: int
    stages: int
    """Depth of the software pipeline."""

    def for_dtype(self, dtype: torch.dtype) -> "Tiles":
        """Return the tiles for a dtype: float32 takes twice the memory, so its blocks are half as long."""
        if dtype != torch.float32:
            return self
        return self._replace(queries=self.queries // 2, keys=self.keys // 2)


# Tiles by head size, rounded up to a power of two, from large to small. Large ones read keys less often. The second are
# for short contexts and for queries with first keys, which leave few blocks and few keys to each. They let at least two
# programs share a multiprocessor of an H100, so that one computes while another waits. Devices with too little on-chip
# memory take the first tiles that fit.
FORWARD_TILES: dict[int, list[Tiles]] = {
    32: [Tiles(128, 64, 4, 3), Tiles(64, 64, 4, 2)],
    64: [Tiles(128, 64, 4, 3), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 2)],
    128: [Tiles(128, 64, 8, 3), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 1)],
}
KEY_VALUE_GRADIENT_TILES: dict[int, list[Tiles]] = {
    32: [Tiles(64, 128, 8, 3), Tiles(64, 64, 4, 2)],
    64: [Tiles(64, 128, 8, 3), Tiles(64, 64, 4, 2), Tiles(32, 64, 4, 2)],
    128: [Tiles(64, 128, 8, 3), Tiles(32, 64, 4, 2), Tiles(32, 32, 4, 1)],
}
QUERY_GRADIENT_TILES: dict[int, list[Tiles]] = {
    32: [Tiles(128, 64, 4, 3), Tiles(64, 64, 4, 2)],
    64: [Tiles(128, 64, 8, 3), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 2)],
    128: [Tiles(128, 64, 8, 2), Tiles(64, 32, 4, 2), Tiles(32, 32, 4, 1)],
}
_chosen: dict[tuple[Any, ...], int] = {}


def can_flash(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether `flash_attention` supports these inputs: on a GPU, in dtype and head size, and not empty."""
    return (
        q.is_cuda
        and _HAS_TRITON
        and q.dtype in _DTYPES
        and q.shape[-1] == v.shape[-1] <= MAX_HEAD_SIZE
        and q.numel() > 0
    )


def flash_attention(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch kv_heads keys d_k"],
    v: Float[Tensor, "batch kv_heads keys d_k"],
    first_keys: Int[Tensor, "sequences queries"] | None = None,
) -> Float[Tensor, "batch heads queries d_k"]:
    """Return causal softmax(q kᵀ / sqrt(d_k)) v for inputs that `can_flash` accepts.

    The queries belong to the last positions of the keys. kv_heads divides heads: adjacent heads of queries share one of
    keys and values. A query attends to keys from its entry of `first_keys` on, as in `causal_attention`; a single row
    of them is for all sequences. Products are in the dtype of the inputs, sums and exponentials in float32. Scores stay
    on the chip in both passes, so memory is linear in the number of positions.
    """
    q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
    return flash_forward(q, k, v, None if first_keys is None else first_keys.contiguous())[0]


def _like_heads(tensor: Tensor) -> Tensor:
    """Return an empty (batch, heads, positions, features) tensor whose heads can be joined without a copy."""
    batch, heads, positions, features = tensor.shape
    return tensor.new_empty(batch, positions, heads, features).transpose(1, 2)


def _constants(q: Tensor) -> dict[str, Any]:
    """Return the compile-time constants of the kernels."""
    exact = q.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    features = max(16, 1 << (q.shape[-1] - 1).bit_length())
    return {"HEAD_SIZE": q.shape[-1], "FEATURES": features, "PRECISION": "ieee" if exact else "tf32"}


def _strides(*tensors: Tensor) -> list[int]:
    return [tensor.stride(dim) for tensor in tensors for dim in range(3)]


def _sequence_stride(positions: Tensor | None) -> int:
    """Return the distance between the rows of (sequences, positions) integers; 0 if one row is for all sequences."""
    return 0 if positions is None or len(positions) == 1 else positions.stride(0)


def _query_ends(first_keys: Tensor | None, keys: int) -> Tensor | None:
    """Return (sequences, keys): the end of the queries that attend to each key, as an index."""
    if first_keys is None:
        return None
    indices = torch.arange(keys, device=first_keys.device, dtype=first_keys.dtype).expand(len(first_keys), -1)
    return torch.searchsorted(first_keys, indices.contiguous(), right=True, out_int32=True)


def _first_tiles(k: Tensor, first_keys: Tensor | None) -> int:
    """Return the index of the tiles to try first, which has only two values, because each compiles the kernels anew."""
    return 0 if first_keys is None and k.shape[2] > SHORT_CONTEXT else 1


def _grid(tensor: Tensor, block: int) -> tuple[int]:
    """Return the number of programs: one for each block of positions of each head."""
    return (tensor.shape[0] * tensor.shape[1] * -(-tensor.shape[2] // block),)


def _launch(
    kernel: Any, table: dict[int, list[Tiles]], q: Tensor, k: Tensor, axis: str, first: int, *arguments: Any
) -> None:
    """Run a kernel on each block of "queries" or "keys" with tiles that fit the device, and remember them.

    The tiles with index `first` are tried first.

    Triton launches on the current device, which may differ from the device of the tensors.
    """
    from triton.runtime.errors import OutOfResources

    constants = _constants(q)
    choices = table[max(32, constants["FEATURES"])]
    key = (id(kernel), first, constants["FEATURES"], q.dtype, q.device)
    heads, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    blocked = q if axis == "queries" else k
    while True:
        index = _chosen.get(key, first)
        tiles = choices[index].for_dtype(q.dtype)
        grid = _grid(blocked, getattr(tiles, axis))
        try:
            with torch.cuda.device_of(q):
                kernel[grid](
                    *arguments,
                    heads,
                    heads // k.shape[1],
                    queries,
                    keys,
                    math.log2(math.e) / math.sqrt(q.shape[-1]),  # with it exponentials become powers of two
                    **constants,
                    QUERY_BLOCK=tiles.queries,
                    KEY_BLOCK=tiles.keys,
                    num_warps=tiles.warps,
                    num_stages=tiles.stages,
                )
            return
        except OutOfResources:
            if index + 1 == len(choices):
                raise
            _chosen[key] = index + 1


@torch.library.custom_op("nnscratch::flash_attention", mutates_args=())
def flash_forward(q: Tensor, k: Tensor, v: Tensor, first_keys: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the output and the logarithms of the rows' sums."""
    from nnscratch.attention_kernels.triton_forward import forward_kernel

    output = _like_heads(q)
    normalizers = q.new_empty(q.shape[:3], dtype=torch.float32)
    tensors = (q, k, v, first_keys, output, normalizers)
    strides = (*_strides(q, k, v), _sequence_stride(first_keys), *_strides(output))
    _launch(forward_kernel, FORWARD_TILES, q, k, "queries", _first_tiles(k, first_keys), *tensors, *strides)
    return output, normalizers


@flash_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, first_keys: Tensor | None) -> tuple[Tensor, Tensor]:
    return _like_heads(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("nnscratch::flash_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first_keys: Tensor | None,
    output: Tensor,
    normalizers: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = _like_heads(q), _like_heads(k), _like_heads(v)
    write_gradients(*gradients, grad, q, k, v, first_keys, output, normalizers)
    return gradients


def write_gradients(
    q_grad: Tensor,
    k_grad: Tensor,
    v_grad: Tensor,
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first_keys: Tensor | None,
    output: Tensor,
    normalizers: Tensor,
) -> None:
    """Write the gradients of queries, keys and values, given that of the output, into the first three tensors."""
    from nnscratch.attention_kernels import triton_backward as kernels

    first = _first_tiles(k, first_keys)
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    sums = torch.empty_like(normalizers)
    tensors = (q, k, v, first_keys, output, grad, normalizers, sums, q_grad)
    strides = (*_strides(q, k, v), _sequence_stride(first_keys), *_strides(output, grad, q_grad))
    _launch(kernels.query_gradient_kernel, QUERY_GRADIENT_TILES, q, k, "queries", first, *tensors, *strides)
    query_ends = _query_ends(first_keys, k.shape[2])
    tensors = (q, k, v, query_ends, grad, normalizers, sums, k_grad, v_grad)
    strides = (*_strides(q, k, v), _sequence_stride(query_ends), *_strides(grad, k_grad, v_grad))
    _launch(kernels.key_value_gradient_kernel, KEY_VALUE_GRADIENT_TILES, q, k, "keys", first, *tensors, *strides)


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first_keys: Tensor | None,
    output: Tensor,
    normalizers: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like_heads(q), _like_heads(k), _like_heads(v)


register_backward(flash_forward, _backward)
