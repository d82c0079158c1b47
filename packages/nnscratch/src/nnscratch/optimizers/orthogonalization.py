"""Orthogonalization: matrix polynomials that push all singular values towards 1."""

import functools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Coefficients = Literal["newton-schulz", "polar-express"]
Quintic = tuple[float, float, float]
"""(a, b, c) of the polynomial a x + b x³ + c x⁵."""

_NEWTON_SCHULZ: Quintic = (3.4445, -4.7750, 2.0315)
_EPS = 1e-7
# Settings behind the published list of coefficients (Amsel et al. 2025, algorithm 1).
_LOWER = 1e-3
_CUSHION = 0.02407327424182761
_SAFETY = 1.01
# Above this ratio the best polynomial is, in float64, the one that touches 1 with two vanishing derivatives.
_CONVERGED = 1 - 5e-6


def check_coefficients(coefficients: object) -> None:
    """Check the name of the coefficients of `orthogonalize`."""
    if coefficients not in get_args(Coefficients):
        raise ValueError(f"coefficients={coefficients!r} is unknown; choose one of {', '.join(get_args(Coefficients))}")


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
    if dtype is None:
        dtype = torch.bfloat16 if matrices.device.type == "cuda" else torch.float32
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x.reshape(-1, *x.shape[-2:])
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    if coefficients == "polar-express":
        polynomials: Sequence[Quintic] = polar_express_coefficients(steps)
        norm = norm * _SAFETY
    else:
        polynomials = [_NEWTON_SCHULZ] * steps
    x = x / norm.clamp(min=_EPS)
    for a, b, c in polynomials:
        gram = x @ x.mT
        # baddbmm adds within the product, because a pass over memory takes as long as a product this small.
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


@torch.compiler.assume_constant_result
def polar_express_coefficients(steps: int) -> tuple[Quintic, ...]:
    """Return the polynomials of Polar Express, one for each step (Amsel et al. 2025, arXiv 2505.16932).

    Let the singular values lie in [l, u], at first [0.001, 1]. Each step uses the odd polynomial of degree 5 with the
    smallest maximum of |1 - p(x)| in the interval. After it the singular values lie in [p(l), 2 - p(l)], the interval
    of the next step. Chosen greedily like this, the steps are optimal together as well.

    Two changes adapt the polynomials to low precision. An l below 0.024 u is replaced by 0.024 u, and the result scaled
    so that p(l) and p(u) have the same distance from 1. And p(x) is replaced by p(x / 1.01), so that a singular value
    rounded above u does not diverge. The limit, p(x) = (15 x - 10 x³ + 3 x⁵) / 8, needs no such margin.
    """
    return _polar_express(steps)


@functools.cache
def _polar_express(steps: int) -> tuple[Quintic, ...]:
    lower, upper, polynomials = _LOWER, 1.0, []
    for _ in range(steps):
        converged = lower / upper >= _CONVERGED
        a, b, c = _best_quintic(max(lower, _CUSHION * upper), upper)
        scale = 2 / (_value((a, b, c), lower) + _value((a, b, c), upper))
        a, b, c = a * scale, b * scale, c * scale
        lower = _value((a, b, c), lower)
        upper = 2 - lower
        margin = 1.0 if converged else _SAFETY
        polynomials.append((a / margin, b / margin**3, c / margin**5))
    return tuple(polynomials)


def _value(polynomial: Quintic, x: float) -> float:
    a, b, c = polynomial
    return a * x + b * x**3 + c * x**5


def _best_quintic(lower: float, upper: float) -> Quintic:
    """Return the odd polynomial of degree 5 that is closest to 1 in [lower, upper], by the Remez algorithm.

    Its error has the same size and alternating signs at four points: both ends and two extrema in between (Chebyshev).
    Given four points, the polynomial and its error solve a linear system. Given a polynomial, the extrema are roots of
    its derivative. The two steps alternate until the error stays the same.
    """
    if lower / upper >= _CONVERGED:
        return 15 / 8 / upper, -10 / 8 / upper**3, 3 / 8 / upper**5
    first, second = (3 * lower + upper) / 4, (lower + 3 * upper) / 4
    a, b, c, before = 0.0, 0.0, 0.0, math.inf
    for _ in range(100):
        points = ((lower, 1.0), (first, -1.0), (second, 1.0), (upper, -1.0))
        a, b, c, error = _solve([[x, x**3, x**5, sign, 1.0] for x, sign in points])
        if abs(error - before) <= 1e-15:
            break
        before = error
        root = math.sqrt(9 * b * b - 20 * a * c)
        first, second = (math.sqrt((-3 * b + sign * root) / (10 * c)) for sign in (-1, 1))
    return a, b, c


def _solve(rows: list[list[float]]) -> list[float]:
    """Solve linear equations, each given as its coefficients and its right-hand side, by Gauss-Jordan elimination."""
    size = len(rows)
    for column in range(size):
        best = max(range(column, size), key=lambda index: abs(rows[index][column]))
        rows[column], rows[best] = rows[best], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for index in range(size):
            if index != column:
                factor = rows[index][column]
                rows[index] = [value - factor * pivot for value, pivot in zip(rows[index], rows[column], strict=True)]
    return [row[-1] for row in rows]
