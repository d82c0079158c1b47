"""Weights rounded to 8 bits, for faster generation on a CPU."""

import copy
from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnscratch.argument_checks import check_last_dimension
from nnscratch.language_model import LanguageModel
from nnscratch.layers import Linear

ModelT = TypeVar("ModelT", bound=LanguageModel)

_FEW_ROWS = 8  # Up to here a step reads weights for longer than it computes.
_COLUMNS = 64  # torch's kernel for a few rows reads beyond columns that are not a multiple of its blocks.


def quantize_int8(model: ModelT) -> ModelT:
    """Return a copy of a model with 8-bit weights in all `Linear` layers and the output layer, for inference on a CPU.

    A row of weights w becomes integers q = round(w / scale) from -127 to 127, with one scale per row: the largest |w|
    over 127, rounded up to a bfloat16. Biases, embeddings and norms stay as they are, and so does the embedding of tied
    weights.

    A step that generates one token reads every weight once, and 8 bits are read faster than 32. Up to 8 rows are
    multiplied in bfloat16. Of more rows every number becomes the sum of two 8-bit integers, off by at most 1/64,516 of
    the largest number of its row, and products are exact. CPUs whose 8-bit products are not (without VNNI) use bfloat16
    there, too.

    The copy generates and computes losses, but cannot be trained, saved or exported: keep the model itself for that.

    Args:
        model: A model on the CPU, which is left as it is.

    Raises:
        ValueError: If the model is not on the CPU, has no layer of type `Linear`, or has weights that are not finite.
    """
    device = model.token_embeddings.weight.device
    if device.type != "cpu":
        raise ValueError(f"the model is on {device}, expected a CPU, for which 8-bit weights are; use model.cpu()")
    linears = {name: module for name, module in model.named_modules() if type(module) is Linear}
    if not linears:
        raise ValueError("the model has no layer of type Linear to quantize; pass the model before quantization")
    for name, linear in linears.items():
        if not bool(linear.weight.isfinite().all()):
            raise ValueError(f"{name}.weight has numbers that are not finite; load an earlier checkpoint")
    replaced = {id(linear): _Int8Linear(linear.weight.detach(), linear.bias) for linear in linears.values()}
    quantized = copy.deepcopy(model, dict(replaced))  # `deepcopy` takes the copies of these layers from the dictionary.
    return quantized.requires_grad_(False).eval()


class _Int8Linear(nn.Module):
    """x Wᵀ + b with the rows of W as 8-bit integers times a scale."""

    integers: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d_out"] | None = None) -> None:
        super().__init__()
        self.d_in = weight.shape[1]
        weight = weight.float()
        # Rounded up to a bfloat16, so that both kernels multiply by exactly the same scale; 0 stays 0 / tiny.
        bits = (weight.abs().amax(-1) / 127).clamp_(min=torch.finfo(torch.float32).tiny).view(torch.int32)
        scale = (bits.add_(0xFFFF) >> 16 << 16).view(torch.float32)
        integers = torch.zeros(weight.shape[0], -(-self.d_in // _COLUMNS) * _COLUMNS, dtype=torch.int8)
        integers[:, : self.d_in] = (weight / scale.unsqueeze(-1)).round_()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The weights as the kernels understand them, in float32."""
        return self.integers[:, : self.d_in].float() * self.scale.unsqueeze(-1)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return x Wᵀ + b in the dtype of x."""
        check_last_dimension("x", x, self.d_in, "d_in")
        if x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
            raise ValueError(
                f"x is on {x.device} with requires_grad={x.requires_grad}, but 8-bit weights are for inference on a "
                f"CPU; use the model that was quantized"
            )
        rows = x.reshape(-1, self.d_in)
        missing = self.integers.shape[1] - self.d_in
        if missing:
            rows = torch.cat((rows, rows.new_zeros(rows.shape[0], missing)), dim=1)
        multiply = _few_products if rows.shape[0] <= _FEW_ROWS or not _has_exact_products() else _many_products
        product = multiply(rows, self.integers, self.scale).to(x.dtype).view(*x.shape[:-1], self.scale.shape[0])
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def _save_to_state_dict(self, *args: object, **kwargs: object) -> None:
        raise ValueError("8-bit weights cannot be saved or exported; use the model that was quantized")


def _few_products(x: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
    """Return x · integersᵀ · scale in bfloat16, by the kernel that reads weights the fastest."""
    return torch._weight_int8pack_mm(x.to(torch.bfloat16), integers, scale.to(torch.bfloat16))


def _many_products(x: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
    """Return x · integersᵀ · scale in float32, from exact products of 8-bit integers.

    With a = max |x| of a row, x ≈ a / 127 · (high + low / 254), high and low being integers from -127 to 127.
    """
    largest = torch.linalg.vector_norm(x.float(), torch.inf, dim=-1, keepdim=True).clamp_(min=1e-30)
    high = x * (127 / largest)
    low = high.clone()
    low.sub_(high.round_()).mul_(254).round_()
    products = torch._int_mm(torch.cat((high, low)).to(torch.int8), integers.T).to(torch.float32)
    of_high, of_low = products.chunk(2)
    return of_low.add_(of_high, alpha=254).mul_(largest / (127 * 254)).mul_(scale)


@cache
def _has_exact_products() -> bool:
    """Return whether products of 8-bit integers are exact: without VNNI, pairs of them overflow 16 bits."""
    signs = torch.randint(0, 2, (96, 512), generator=torch.Generator().manual_seed(0))
    integers = (signs * 254 - 127).to(torch.int8)
    integers[0], integers[32] = 127, 127
    right = integers[:32].int() @ integers[32:].int().T
    return bool(torch.equal(torch._int_mm(integers[:32], integers[32:].T), right))
