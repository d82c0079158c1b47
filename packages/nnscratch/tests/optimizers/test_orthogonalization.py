import math

import pytest
import torch
from published import POLAR_EXPRESS

from nnscratch.optimizers.orthogonalization import orthogonalize, polar_express_coefficients


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (3, 8, 32)])
@pytest.mark.parametrize("coefficients", ["newton-schulz", "polar-express"])
def test_orthogonalized_matrices_have_singular_values_near_one(shape, coefficients):
    matrices = torch.randn(shape)
    result = orthogonalize(matrices, coefficients=coefficients)
    values = torch.linalg.svdvals(result)
    assert values.max() < 1.3
    assert values.median() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    directions = torch.linalg.vecdot(result.flatten(-2), (u @ v).flatten(-2)) / (u @ v).flatten(-2).norm(dim=-1)
    assert (directions / result.flatten(-2).norm(dim=-1)).min() > 0.95


def matrix_of_condition(condition, rows=48, columns=64):
    u, _, v = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    return u * torch.logspace(0, -math.log10(condition), rows) @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("condition", [None, 10, 100, 1000])
@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (128, 32)])
def test_polar_express_is_closer_to_orthogonal_than_newton_schulz(condition, shape, dtype):
    matrix = torch.randn(shape) if condition is None else matrix_of_condition(condition, min(shape), max(shape))
    errors = {
        name: (torch.linalg.svdvals(orthogonalize(matrix, 5, dtype, name).float()) - 1).abs()
        for name in ("newton-schulz", "polar-express")
    }
    assert errors["polar-express"].mean() < 0.7 * errors["newton-schulz"].mean()
    assert errors["polar-express"].quantile(0.9) < errors["newton-schulz"].quantile(0.9)


def test_polar_express_coefficients_are_the_published_ones():
    for found, (a, b, c) in zip(polar_express_coefficients(7), POLAR_EXPRESS, strict=True):
        assert found == pytest.approx((a / 1.01, b / 1.01**3, c / 1.01**5), rel=1e-8)
    assert polar_express_coefficients(10)[-2:] == [(15 / 8, -10 / 8, 3 / 8)] * 2
    assert polar_express_coefficients(3) == polar_express_coefficients(9)[:3]


def test_polar_express_coefficients_are_the_best_in_their_interval():
    # Chebyshev: no other odd quintic is closer to 1 in an interval than one whose error takes turns at four points.
    lower, upper = 1e-3, 1.0
    for a, b, c in polar_express_coefficients(5):
        a, b, c = a * 1.01, b * 1.01**3, c * 1.01**5
        x = torch.linspace(max(lower, 0.02407327424182761 * upper), upper, 100_001, dtype=torch.float64)
        y = a * x + b * x**3 + c * x**5
        turns = y.diff().sign().diff().nonzero().flatten() + 1
        low, first, second, high = y[torch.tensor([0, *turns, -1])].tolist()
        assert (second, high) == (pytest.approx(low, abs=1e-8), pytest.approx(first, abs=1e-8))
        assert low == y.min()
        lower = a * lower + b * lower**3 + c * lower**5
        assert lower + y[-1] == pytest.approx(2, abs=1e-9)
        upper = 2 - lower
    assert lower > 0.5


def test_orthogonalize_leaves_zero_alone():
    for coefficients in ("newton-schulz", "polar-express"):
        assert orthogonalize(torch.zeros(3, 4), coefficients=coefficients).eq(0).all()
