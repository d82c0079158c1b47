"""Scaled dot-product attention and causal multi-head self-attention."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.argument_checks import check_last_dimension, shape_error
from nnscratch.attention_kernels import (
    causal_attention,
    dropout_attention,
    materialized_attention,
    normalized_attention,
)
from nnscratch.cache import LayerCache
from nnscratch.config import QKNormScope
from nnscratch.layers import Linear, RMSNorm, is_plain
from nnscratch.rotary_embedding import RotaryEmbedding, can_normalize_and_rotate, normalize_and_rotate


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#mask queries keys"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    """Return softmax(q kᵀ / sqrt(d_k)) v (Vaswani et al. 2017, equation 1); plainly: `nnscratch.reference.attention`.

    The softmax is computed in float32 at least. A query that may attend to nothing gets zeros and no gradient. The
    number of queries or keys may be 0.

    Args:
        q: Queries, with any batch dimensions.
        k: Keys.
        v: Values.
        mask: True where a query may attend to a key; its leading dimensions broadcast.

    Raises:
        ValueError: If the shapes do not match, or the mask is not boolean.
    """
    check_last_dimension("k", k, q.shape[-1], "d_k")
    if k.shape[:-2] != q.shape[:-2]:
        raise shape_error("k", k, f"{(*q.shape[:-2], 'keys', q.shape[-1])}, with the batch dimensions of q")
    if v.shape[:-1] != k.shape[:-1]:
        raise shape_error("v", v, f"{(*k.shape[:-1], 'd_v')}, one value for each key")
    if mask is not None:
        _check_mask(mask, q, k)
    return materialized_attention(q, k, v, mask)


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}, expected torch.bool with True where a query attends to a key")
    expected = (*q.shape[:-1], k.shape[-2])
    sizes = zip(reversed(mask.shape[:-2]), reversed(expected[:-2]), strict=False)
    if mask.dim() > len(expected) or mask.shape[-2:] != expected[-2:] or any(a not in (1, b) for a, b in sizes):
        raise shape_error("mask", mask, f"{expected}, or a shape that broadcasts to it before (queries, keys)")


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention in which a position attends to itself and those before it (Vaswani et al. 2017, 3.2.2).

    With fewer heads of keys and values than of queries it is grouped-query attention (Ainslie et al. 2023): query head
    h attends with key-value head h // (num_heads / num_kv_heads). The weights are (heads · head_size, d_model), and
    (d_model, num_heads · head_size) for `output_proj`. Plainly: `nnscratch.reference.self_attention`.

    Args:
        d_model: Width of the input and output.
        num_heads: Number of query heads.
        rope: Rotary embedding of queries and keys; None for no position information.
        num_kv_heads: Number of heads of keys and values, a divisor of `num_heads`; None for as many.
        head_size: Width of a head; None for d_model / num_heads.
        qkv_bias: Add a bias to queries, keys and values.
        qk_norm: Normalize the queries and keys by RMSNorm before rotating them (Henry et al. 2020).
        qk_norm_scope: Numbers that are normalized together, those of each "head" or of "all_heads" of a position.
        qk_norm_gains: Give these norms learned gains.
        norm_eps: Eps of these norms.
        window: Positions that a position attends to, itself included (Beltagy et al. 2020); None for all before it.
        attend: Function of q, k and v that replaces `causal_attention`, such as one that calls a library's kernel. In
            windows and documents it is given `first_keys`, too.
        dropout: Share of the attention weights set to 0 in training, for which all scores are in memory.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Raises:
        ValueError: If `num_heads` does not divide `d_model` and `head_size` is None, `num_kv_heads` does not divide
            `num_heads`, `window` is below 1, or there is dropout and another `attend`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        rope: RotaryEmbedding | None = None,
        *,
        num_kv_heads: int | None = None,
        head_size: int | None = None,
        qkv_bias: bool = False,
        qk_norm: bool = False,
        qk_norm_scope: QKNormScope = "head",
        qk_norm_gains: bool = True,
        norm_eps: float = 1e-5,
        window: int | None = None,
        attend: Callable[..., Tensor] = causal_attention,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or (head_size is None and d_model % num_heads):
            raise ValueError(f"num_heads={num_heads!r} does not divide d_model={d_model!r}; choose a divisor of it")
        head_size = d_model // num_heads if head_size is None else head_size
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads={num_kv_heads!r} does not divide num_heads={num_heads!r}; choose a divisor of it"
            )
        if window is not None and window < 1:
            raise ValueError(f"window={window!r} is out of range; choose at least 1 position, or None for all")
        if dropout > 0 and attend is not causal_attention:
            raise ValueError(f"dropout={dropout!r} has no effect on another attend function; choose 0, or leave it out")
        self.d_model = d_model
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_size = head_size
        self.qk_norm_scope = qk_norm_scope
        self.window = window
        self.attend = attend
        self.dropout = dropout
        q_width, kv_width = num_heads * head_size, num_kv_heads * head_size
        self.q_proj = Linear(d_model, q_width, device, dtype, bias=qkv_bias)
        self.k_proj = Linear(d_model, kv_width, device, dtype, bias=qkv_bias)
        self.v_proj = Linear(d_model, kv_width, device, dtype, bias=qkv_bias)
        self.output_proj = Linear(q_width, d_model, device, dtype)
        if qk_norm_scope == "head":
            q_width = kv_width = head_size
        self.q_norm = RMSNorm(q_width, norm_eps, device, dtype, gain=qk_norm_gains) if qk_norm else None
        self.k_norm = RMSNorm(kv_width, norm_eps, device, dtype, gain=qk_norm_gains) if qk_norm else None
        self.rope = rope

    def forward(
        self,
        x: Float[Tensor, "*batch seq d_model"],
        token_positions: Int[Tensor, "*#positions seq"] | None = None,
        cache: LayerCache | None = None,
        mask: Bool[Tensor, "*#mask seq keys"] | None = None,
        added_values: Float[Tensor, "*batch seq kv_width"] | None = None,
        first_keys: Int[Tensor, "*#batch seq"] | None = None,
        head_gates: Float[Tensor, "*batch seq num_heads"] | None = None,
    ) -> Float[Tensor, "*batch seq d_model"]:
        """Return the attention output at every position.

        Args:
            x: One vector per position.
            token_positions: Positions for the rotary embedding; by default those that follow the cache.
            cache: Keys and values of earlier positions, to which those of `x` are appended.
            mask: True where a position may attend to another; replaces the causal mask. The keys are those of the cache
                and of `x`.
            added_values: Added to the values before attention; (..., seq, num_kv_heads · head_size).
            first_keys: Index of the first key that each position may attend to, such as the start of its document,
                counted from the first position in the cache; it must not decrease along a sequence.
            head_gates: Multiplied with the output of each head, before `output_proj`.

        Raises:
            ValueError: If the shapes do not match, or the positions do not fit into the cache.
        """
        check_last_dimension("x", x, self.d_model, "d_model")
        kv_shape = (*x.shape[:-1], self.num_kv_heads * self.head_size)
        if added_values is not None and added_values.shape != kv_shape:
            raise shape_error("added_values", added_values, f"{kv_shape}, the shape of the values")
        gates_shape = (*x.shape[:-1], self.num_heads)
        if head_gates is not None and head_gates.shape != gates_shape:
            raise shape_error("head_gates", head_gates, f"{gates_shape}, one gate for each head")
        joint = self._joint_product(x) if cache is None else None
        norms = None if joint is None or token_positions is not None else self._norms_of_kernel(joint)
        drops = self.dropout > 0 and self.training
        if joint is not None and norms is not None:
            is_windowed = first_keys is not None or self._hides_keys(joint.shape[-2])
            if mask is None and not is_windowed and not drops and self.attend is causal_attention:
                output = normalized_attention(joint, added_values, *norms, self.num_heads)
                return self._gated_and_projected(output, head_gates)
            q, k, v = normalize_and_rotate(joint, *norms, self.num_heads)
        else:
            q, k, v = self._project(x, joint)
            if self.q_norm is not None and self.k_norm is not None:
                q, k = self._normalized(self.q_norm, q), self._normalized(self.k_norm, k)
            if self.rope is not None and cache is None:
                q, k = _rotated(self.rope, q, token_positions, 0), _rotated(self.rope, k, token_positions, 0)
            elif self.rope is not None and cache is not None:
                # A decoding step has so few vectors that one call for both is faster than two.
                together = _rotated(self.rope, torch.cat((q, k), dim=-3), token_positions, cache.length)
                q, k = together.split((self.num_heads, self.num_kv_heads), dim=-3)
        if added_values is not None:
            v = v + added_values.to(v.dtype).unflatten(-1, (-1, self.head_size)).transpose(-3, -2)
        if cache is not None:
            k, v = cache.append(k, v)
        first_keys = self._first_keys(q, k, first_keys)
        if mask is None and not drops:
            output = self.attend(q, k, v) if first_keys is None else self.attend(q, k, v, first_keys=first_keys)
        else:
            keys = torch.arange(k.shape[-2], device=k.device)
            if mask is None:
                mask = keys <= keys[k.shape[-2] - q.shape[-2] :, None]
            if first_keys is not None:
                mask = mask & (keys >= first_keys.unsqueeze(-1))
            mask = mask if mask.dim() == 2 else mask.unsqueeze(-3)
            _check_mask(mask, q, k)
            output = dropout_attention(q, k, v, mask, self.dropout) if drops else materialized_attention(q, k, v, mask)
        return self._gated_and_projected(output, head_gates)

    def _gated_and_projected(self, output: Tensor, head_gates: Tensor | None) -> Tensor:
        """Return the result of the layer for what the heads (..., heads, seq, head_size) have gathered."""
        output = output.transpose(-3, -2)
        if head_gates is not None:
            output = output * head_gates.to(output.dtype).unsqueeze(-1)
        return self.output_proj(output.flatten(-2))

    def _normalized(self, norm: RMSNorm, x: Tensor) -> Tensor:
        """Return (..., heads, seq, head_size) queries or keys normalized, over the heads together if so configured."""
        if self.qk_norm_scope == "head":
            return norm(x)
        together = norm(x.transpose(-3, -2).flatten(-2))
        return together.unflatten(-1, (-1, self.head_size)).transpose(-3, -2)

    def _hides_keys(self, keys: int) -> bool:
        """Return whether the window hides some of so many keys."""
        return self.window is not None and self.window < keys

    def _first_keys(self, q: Tensor, k: Tensor, first_keys: Tensor | None) -> Tensor | None:
        """Return the first key of each query, given those of documents, in the window; None if it is 0 for all."""
        queries, keys = q.shape[-2], k.shape[-2]
        if self.window is None or not self._hides_keys(keys):
            return first_keys
        positions = torch.arange(keys - queries, keys, device=q.device)
        in_window = (positions - (self.window - 1)).clamp(min=0)
        return in_window.unsqueeze(0) if first_keys is None else torch.maximum(first_keys, in_window)

    def _joint_product(self, x: Tensor) -> Tensor | None:
        """Return queries, keys and values side by side, from one product with all three weights.

        One product is faster for many positions. For the few positions of a decoding step, concatenating the weights
        would take longer than the products. None if a projection was replaced or has hooks.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if not all(is_plain(projection, Linear) for projection in projections):
            return None
        product = x @ torch.cat([projection.weight for projection in projections]).T
        biases: list[Tensor] = [projection.bias for projection in projections if projection.bias is not None]
        return product + torch.cat(biases).to(product.dtype) if biases else product

    def _project(self, x: Tensor, joint: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (..., num_heads, seq, head_size), and keys and values with num_kv_heads."""
        if joint is None:
            results = tuple(projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj))
            q, k, v = (result.unflatten(-1, (-1, self.head_size)) for result in results)
        else:
            heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
            q, k, v = joint.unflatten(-1, (-1, self.head_size)).split(heads, dim=-2)
        return q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2)

    def _norms_of_kernel(self, joint: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor, float] | None:
        """Return gains, cosines, sines and eps for the kernel that normalizes and rotates; None if it does not fit."""
        rope, q_norm, k_norm = self.rope, self.q_norm, self.k_norm
        if rope is None or q_norm is None or k_norm is None or self.qk_norm_scope != "head":
            return None
        if not all(is_plain(norm, RMSNorm) for norm in (q_norm, k_norm)):
            return None
        if not can_normalize_and_rotate(joint, self.head_size):
            return None
        return q_norm.weight, k_norm.weight, *rope.tables(0, joint.shape[-2], joint.device), q_norm.eps


def _rotated(rope: RotaryEmbedding, x: Tensor, token_positions: Tensor | None, start: int) -> Tensor:
    """Rotate (..., heads, seq, head_size) vectors at the given positions, or at start, start + 1 and so on."""
    if token_positions is None:
        return rope.rotate_from(start, x)
    return rope(x, token_positions if token_positions.dim() == 1 else token_positions.unsqueeze(-2))
