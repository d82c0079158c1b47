"""Orthogonalization: matrix polynomials that push all singular values towards 1."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Coefficients = Literal["newton-schulz", "polar-express"]
Quintic = tuple[float, float, float]
"""(a, b, c) of the polynomial a x + b x³ + c x⁵."""

_NEWTON_SCHULZ: Quintic = (3.4445, -4.7750, 2.0315)
_POLAR_EXPRESS: tuple[Quintic, ...] = (
    (8.205160414005576, -22.901934987056055, 16.460724910180318),
    (4.066395159942775, -2.861154086755142, 0.5183995226694741),
    (3.9095949044379186, -2.823351735039517, 0.5250369769390025),
    (3.285564017198612, -2.415301959635943, 0.4852940655279083),
    (2.277873287083978, -1.6198217652654427, 0.398480787041684),
    (1.8725756512746519, -1.2307042574884317, 0.3585161620951178),
    (1.856437109750687, -1.2132392819083966, 0.35679978940881946),
    (1.8749999980503387, -1.249999996100677, 0.3749999980503384),
)
_POLAR_EXPRESS_LIMIT: Quintic = (15 / 8, -10 / 8, 3 / 8)
_SAFETY = 1.01
_EPS = 1e-7


def check_coefficients(coefficients: object) -> None:
    """Check the name of the coefficients of `orthogonalize`."""
    if coefficients not in get_args(Coefficients):
        raise ValueError(f"coefficients={coefficients!r} is unknown; choose one of {', '.join(get_args(Coefficients))}")


def product_dtype(device: torch.device, dtype: torch.dtype | None = None) -> torch.dtype:
    """Return the dtype of the products of `orthogonalize`: by default bfloat16 on CUDA and float32 elsewhere."""
    return dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)


def orthogonalize(
    matrices: Float[Tensor, "*batch rows columns"],
    steps: int = 5,
    dtype: torch.dtype | None = None,
    coefficients: Coefficients = "newton-schulz",
) -> Float[Tensor, "*batch rows columns"]:
    """Return approximations of the nearest matrices whose singular values are all 1.

    After division by the Frobenius norm, each step computes X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, which maps each singular
    value x to a x + b x³ + c x⁵. A matrix of zeros stays zero.

    "newton-schulz" uses the same (a, b, c) in every step, which rise steeply at 0 instead of converging (Jordan et al.
    2024): singular values end up between about 0.7 and 1.2. "polar-express" uses in each step the (a, b, c) that bring
    the worst singular value between 0.001 and 1 closest to 1 (Amsel et al. 2025, arXiv 2505.16932), computed by
    `polar_express_coefficients`. It divides by a norm that is 1 % larger, so that rounding leaves no singular value
    above 1.

    Args:
        matrices: The matrices.
        steps: Number of iterations.
        dtype: Dtype of the products; by default bfloat16 on CUDA, and elsewhere, where bfloat16 is slow, float32.
        coefficients: Choice of polynomials.

    Raises:
        ValueError: If `coefficients` is unknown.
    """
    check_coefficients(coefficients)
    dtype = product_dtype(matrices.device, dtype)
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x.reshape(-1, *x.shape[-2:])
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    if coefficients == "polar-express":
        polynomials = polar_express_coefficients(steps)
        norm = norm * _SAFETY
    else:
        polynomials = [_NEWTON_SCHULZ] * steps
    x = x / norm.clamp(min=_EPS)
    for a, b, c in polynomials:
        gram = x @ x.mT
        # baddbmm adds within the product, because a pass over memory takes as long as a product this small.
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


def polar_express_coefficients(steps: int) -> list[Quintic]:
    """Return the polynomials of Polar Express, one for each step (Amsel et al. 2025, algorithm 1).

    Let the singular values lie in [l, u], at first [0.001, 1]. Each step uses the odd polynomial of degree 5 with the
    smallest maximum of |1 - p(x)| in the interval. After it the singular values lie in [p(l), 2 - p(l)], the interval
    of the next step. Chosen greedily like this, the steps are optimal together as well.

    Two changes adapt the polynomials to low precision. An l below 0.024 u is replaced by 0.024 u, and the result scaled
    so that p(l) and p(u) have the same distance from 1. And p(x) is replaced by p(x / 1.01), so that a singular value
    rounded above u does not diverge. The limit, p(x) = (15 x - 10 x³ + 3 x⁵) / 8, needs no such margin.
    """
    return [*_POLAR_EXPRESS[:steps], *[_POLAR_EXPRESS_LIMIT] * (steps - len(_POLAR_EXPRESS))]
