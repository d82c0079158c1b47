"""Causal attention on GPUs by our Triton kernels, as operators that torch.compile keeps."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MAX_HEAD_SIZE = 128
_HAS_TRITON = find_spec("triton") is not None  # not asked in a function, where torch.compile could not follow it
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# Queries and keys in a block, warps and pipeline stages, by kernel and features: the best first, and then what needs
# less memory on the chip, for smaller devices. Blocks of float32 are half as long.
_Blocks = tuple[int, int, int, int]
_FORWARD: dict[int, list[_Blocks]] = {
    32: [(128, 64, 4, 3), (64, 64, 4, 2)],
    64: [(128, 64, 4, 3), (64, 64, 4, 2), (64, 32, 4, 2)],
    128: [(128, 64, 8, 3), (64, 64, 4, 2), (64, 32, 4, 1)],
}
_KEY_VALUE_GRADIENT: dict[int, list[_Blocks]] = {
    32: [(64, 128, 8, 3), (64, 64, 4, 2)],
    64: [(64, 128, 8, 3), (64, 64, 4, 2), (32, 64, 4, 2)],
    128: [(64, 128, 8, 3), (32, 64, 4, 2), (32, 32, 4, 1)],
}
_QUERY_GRADIENT: dict[int, list[_Blocks]] = {
    32: [(128, 64, 4, 3), (64, 64, 4, 2)],
    64: [(128, 64, 8, 3), (64, 64, 4, 2), (64, 32, 4, 2)],
    128: [(128, 64, 8, 2), (64, 32, 4, 2), (32, 32, 4, 1)],
}
_chosen: dict[tuple[Any, ...], int] = {}


def can_flash(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Say whether `flash_attention` takes these: on a GPU, of a type and size that the kernels know, and not empty."""
    return (
        q.is_cuda
        and _HAS_TRITON
        and q.dtype in _DTYPES
        and q.shape[-1] == v.shape[-1] <= MAX_HEAD_SIZE
        and k.shape[-2] >= q.shape[-2]
        and q.numel() > 0
    )


def flash_attention(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    v: Float[Tensor, "batch heads keys d_k"],
) -> Float[Tensor, "batch heads queries d_k"]:
    """Return causal softmax(q kᵀ / sqrt(d_k)) v; the queries are the last of the keys' positions.

    Products are in the dtype of the inputs, sums and exponentials in float32. Neither pass holds scores outside of the
    chip, so the memory is linear in the number of positions.

    Raises:
        ValueError: if there are more queries than keys, or heads are wider than 128.
    """
    if k.shape[-2] < q.shape[-2]:
        raise ValueError(f"{q.shape[-2]} queries came with {k.shape[-2]} keys; pass the keys of all positions")
    if q.shape[-1] > MAX_HEAD_SIZE:
        raise ValueError(f"d_k={q.shape[-1]} is too wide for the chip; choose heads of at most {MAX_HEAD_SIZE}")
    return _forward(*(tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v)))[0]


def _like_heads(tensor: Tensor) -> Tensor:
    """Return an empty (batch, heads, positions, features) whose heads can be joined without a copy."""
    batch, heads, positions, features = tensor.shape
    return tensor.new_empty(batch, positions, heads, features).transpose(1, 2)


def _constants(q: Tensor) -> dict[str, Any]:
    """Return what the kernels are compiled for."""
    exact = q.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    features = max(16, 1 << (q.shape[-1] - 1).bit_length())
    return {"HEAD_SIZE": q.shape[-1], "FEATURES": features, "PRECISION": "ieee" if exact else "tf32"}


def _scale(q: Tensor) -> float:
    """Return log2(e) / sqrt(d_k)."""
    return math.log2(math.e) / math.sqrt(q.shape[-1])


def _strides(*tensors: Tensor) -> list[int]:
    return [tensor.stride(dim) for tensor in tensors for dim in range(3)]


def _grid(q: Tensor, positions: int, block: int) -> tuple[int]:
    """Return the number of programs, one for each block of positions of each head."""
    return (q.shape[0] * q.shape[1] * -(-positions // block),)


def _launch(kernel: Any, table: dict[int, list[_Blocks]], q: Tensor, run: Callable[[_Blocks], Any]) -> None:
    """Run a kernel with the first blocks that fit the device, and remember them.

    Triton launches on the current device, which need not be that of the tensors.
    """
    from triton.runtime.errors import OutOfResources

    features = _constants(q)["FEATURES"]
    choices = table[max(32, features)]
    key = (id(kernel), features, q.dtype, q.device)
    while True:
        index = _chosen.get(key, 0)
        query_block, key_block, warps, stages = choices[index]
        if q.dtype == torch.float32:
            query_block, key_block = query_block // 2, key_block // 2
        try:
            with torch.cuda.device_of(q):
                return run((query_block, key_block, warps, stages))
        except OutOfResources:
            if index + 1 == len(choices):
                raise
            _chosen[key] = index + 1


@torch.library.custom_op("nnscratch::flash_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    from nnscratch.attention_kernels.triton_forward import forward_kernel

    batch, heads, queries, _ = q.shape
    output = _like_heads(q)
    normalizers = q.new_empty(batch, heads, queries, dtype=torch.float32)

    def run(blocks: _Blocks) -> None:
        query_block, key_block, warps, stages = blocks
        forward_kernel[_grid(q, queries, query_block)](
            q,
            k,
            v,
            output,
            normalizers,
            *_strides(q, k, v, output),
            heads,
            queries,
            k.shape[2],
            _scale(q),
            **_constants(q),
            QUERY_BLOCK=query_block,
            KEY_BLOCK=key_block,
            num_warps=warps,
            num_stages=stages,
        )

    _launch(forward_kernel, _FORWARD, q, run)
    return output, normalizers


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return _like_heads(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("nnscratch::flash_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, normalizers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from nnscratch.attention_kernels import triton_backward as kernels

    _, heads, queries, _ = q.shape
    keys, scale, constants = k.shape[2], _scale(q), _constants(q)
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    q_grad, k_grad, v_grad = _like_heads(q), _like_heads(k), _like_heads(v)
    sums = torch.empty_like(normalizers)
    with torch.cuda.device_of(q):
        kernels.row_sums_kernel[_grid(q, queries, 64)](
            output,
            grad,
            sums,
            *_strides(output, grad),
            heads,
            queries,
            constants["HEAD_SIZE"],
            constants["FEATURES"],
            QUERY_BLOCK=64,
        )

    def run_key_value(blocks: _Blocks) -> None:
        query_block, key_block, warps, stages = blocks
        kernels.key_value_gradient_kernel[_grid(q, keys, key_block)](
            q,
            k,
            v,
            grad,
            normalizers,
            sums,
            k_grad,
            v_grad,
            *_strides(q, k, v, grad, k_grad, v_grad),
            heads,
            queries,
            keys,
            scale,
            **constants,
            QUERY_BLOCK=query_block,
            KEY_BLOCK=key_block,
            num_warps=warps,
            num_stages=stages,
        )

    def run_query(blocks: _Blocks) -> None:
        query_block, key_block, warps, stages = blocks
        kernels.query_gradient_kernel[_grid(q, queries, query_block)](
            q,
            k,
            v,
            grad,
            normalizers,
            sums,
            q_grad,
            *_strides(q, k, v, grad, q_grad),
            heads,
            queries,
            keys,
            scale,
            **constants,
            QUERY_BLOCK=query_block,
            KEY_BLOCK=key_block,
            num_warps=warps,
            num_stages=stages,
        )

    _launch(kernels.key_value_gradient_kernel, _KEY_VALUE_GRADIENT, q, run_key_value)
    _launch(kernels.query_gradient_kernel, _QUERY_GRADIENT, q, run_query)
    return q_grad, k_grad, v_grad


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, normalizers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _like_heads(q), _like_heads(k), _like_heads(v)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None
    return _backward(grad, *ctx.saved_tensors)


_forward.register_autograd(_differentiate, setup_context=_keep)
