import copy
import math

import pytest
import torch
from published import POLAR_EXPRESS
from torch import nn

from nnscratch import Muon
from nnscratch.optimizers.orthogonalization import orthogonalize

SHAPES = ((5, 12), (12, 5), (8, 8), (12, 5), (1, 6), (5, 12))
VARIANTS = [
    {},
    {"nesterov": False, "momentum": 0.8, "weight_decay": 0.0},
    {"coefficients": "polar-express"},
    {"normuon": True, "beta2": 0.9},
    {"cautious_weight_decay": True, "weight_decay": 2.0},
    {"coefficients": "polar-express", "normuon": True, "cautious_weight_decay": True, "newton_schulz_steps": 7},
]


def slow_orthogonalize(matrix, coefficients="newton-schulz", steps=5):
    """Orthogonalization of a single matrix."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm() / (1.01 if coefficients == "polar-express" else 1.0)
    for step in range(steps):
        a, b, c = 3.4445, -4.7750, 2.0315
        if coefficients == "polar-express":
            a, b, c = POLAR_EXPRESS[step]
            a, b, c = a / 1.01, b / 1.01**3, c / 1.01**5
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def slow_muon(weight, grads, *, lr, momentum=0.95, nesterov=True, weight_decay=0.1, cautious_weight_decay=False,
              coefficients="newton-schulz", newton_schulz_steps=5, normuon=False, beta2=0.95):  # fmt: skip
    """Muon on a single matrix, number by number, in float64."""
    weight = weight.double().clone()
    rows, columns = weight.shape
    mean, row_squares = torch.zeros_like(weight), [0.0] * rows
    for grad in grads:
        grad = grad.double()
        mean = momentum * mean + (1 - momentum) * grad
        direction = momentum * mean + (1 - momentum) * grad if nesterov else mean
        update = slow_orthogonalize(direction, coefficients, newton_schulz_steps)
        if normuon:
            scaled = torch.zeros_like(update)
            for row in range(rows):
                square = sum(number.item() ** 2 for number in update[row]) / columns
                row_squares[row] = beta2 * row_squares[row] + (1 - beta2) * square
                scaled[row] = update[row] / (math.sqrt(row_squares[row]) + 1e-8)
            update = scaled * update.norm() / scaled.norm()
        for row in range(rows):
            for column in range(columns):
                number, change = weight[row, column].item(), update[row, column].item()
                if not cautious_weight_decay or number * change >= 0:
                    weight[row, column] -= lr * weight_decay * number
                weight[row, column] -= lr * max(1, rows / columns) ** 0.5 * change
    return weight


def matrices_and_gradients(dtype, steps=8):
    params = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    # A direction that stays, and noise: as in training, no singular value of the mean is very small.
    fixed = [torch.randn(shape, dtype=dtype) for shape in SHAPES]
    return params, [[grad + torch.randn_like(grad) for grad in fixed] for _ in range(steps)]


def run(optimizer, params, gradients):
    for grads in gradients:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        optimizer.step()


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_muon_is_the_slow_reference(settings, dtype, tolerance):
    params, gradients = matrices_and_gradients(dtype)
    expected = [
        slow_muon(param.detach(), [grads[index] for grads in gradients], lr=0.02, **settings)
        for index, param in enumerate(params)
    ]
    run(Muon(params, lr=0.02, newton_schulz_dtype=dtype, **settings), params, gradients)
    for param, matrix in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach().double(), matrix, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_batch_of_matrices_is_updated_like_single_matrices(settings):
    params, gradients = matrices_and_gradients(torch.float64)
    alone = copy.deepcopy(params)
    run(Muon(params, newton_schulz_dtype=torch.float64, **settings), params, gradients)
    for index, param in enumerate(alone):
        optimizer = Muon([param], newton_schulz_dtype=torch.float64, **settings)
        run(optimizer, [param], [[grads[index]] for grads in gradients])
        torch.testing.assert_close(param, params[index], atol=1e-10, rtol=1e-10)


def test_directions_are_batched_in_the_dtype_of_the_products(monkeypatch):
    """In the wider dtype of the parameters the copy into one tensor would write and read twice as many bytes."""
    params = [nn.Parameter(torch.randn(4, 6)) for _ in range(3)]
    for param in params:
        param.grad = torch.randn(4, 6)
    stacked, stack = [], torch.stack

    def spy(tensors):
        stacked.append([tensor.dtype for tensor in tensors])
        return stack(tensors)

    monkeypatch.setattr(torch, "stack", spy)
    Muon(params, newton_schulz_dtype=torch.bfloat16).step()
    assert stacked == [[torch.bfloat16] * 3]


@pytest.mark.parametrize("settings", [{}, {"cautious_weight_decay": True, "normuon": True}], ids=str)
def test_compiled_updates_are_those_of_eager_mode_in_operations_for_all_matrices(settings, unchecked_shapes):
    """Operations for each matrix would become a kernel for each."""
    torch.compiler.reset()
    params, gradients = matrices_and_gradients(torch.float64, 3)
    compiled = copy.deepcopy(params)
    called = []

    def backend(module, _):
        called.extend(getattr(node.target, "__name__", node.target) for node in module.graph.nodes)
        return module

    optimizer = Muon(compiled, newton_schulz_dtype=torch.float64, **settings)
    optimizer.param_groups[0]["lr"] = torch.tensor(1e-3, dtype=torch.float64)
    optimizer.step = torch.compile(optimizer.step, fullgraph=True, backend=backend)
    run(optimizer, compiled, gradients)
    run(Muon(params, newton_schulz_dtype=torch.float64, **settings), params, gradients)
    for ours, expected in zip(compiled, params, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    assert "_foreach_sub_" in called
    assert not {"sub_", "add_", "copy_"} & set(called)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_state_dict_round_trip_is_bit_exact(settings, tmp_path):
    params, gradients = matrices_and_gradients(torch.float32, 10)
    optimizer = Muon(params, lr=0.02, **settings)
    run(optimizer, params, gradients[:5])
    resumed = copy.deepcopy(params)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    again = Muon(resumed, lr=0.5)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run(optimizer, params, gradients[5:])
    run(again, resumed, gradients[5:])
    for ours, theirs in zip(resumed, params, strict=True):
        assert torch.equal(ours, theirs)


def test_settings_missing_from_an_old_state_keep_their_values():
    params, gradients = matrices_and_gradients(torch.float32, 2)
    optimizer = Muon(params)
    run(optimizer, params, gradients)
    old = optimizer.state_dict()
    for name in ("coefficients", "normuon", "beta2", "cautious_weight_decay"):
        del old["param_groups"][0][name]
    again = Muon(params, normuon=True, lr=0.5)
    again.load_state_dict(old)
    assert again.param_groups[0]["normuon"]
    assert again.param_groups[0]["lr"] == 1e-3
    run(again, params, gradients)


def test_groups_have_settings_of_their_own():
    params, gradients = matrices_and_gradients(torch.float64)
    groups = [{"params": [param], "lr": 0.01} | settings for param, settings in zip(params, VARIANTS, strict=True)]
    expected = [
        slow_muon(param.detach(), [grads[index] for grads in gradients], lr=0.01, **VARIANTS[index])
        for index, param in enumerate(params)
    ]
    run(Muon(groups, newton_schulz_dtype=torch.float64), params, gradients)
    for param, matrix in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), matrix, atol=1e-9, rtol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "lr": 0.02}])
def test_muon_is_torch_s(settings):
    matrices = [[nn.Parameter(torch.randn(shape)) for shape in ((6, 4), (4, 6), (6, 4))] for _ in range(2)]
    for ours, theirs in zip(*matrices, strict=True):
        theirs.data.copy_(ours.data)
    optimizers = (
        Muon(matrices[0], **settings, newton_schulz_dtype=torch.bfloat16),
        torch.optim.Muon(matrices[1], **settings),
    )
    steps, rate = 10, optimizers[0].param_groups[0]["lr"]
    for _ in range(steps):
        for ours, theirs in zip(*matrices, strict=True):
            ours.grad = torch.randn(ours.shape)
            theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(*matrices, strict=True):
        # the products' order, and so their rounding to bfloat16, differ
        torch.testing.assert_close(ours, theirs, atol=0.05 * steps * rate, rtol=0)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_gradient_of_zeros_changes_nothing_but_the_decay(settings):
    param = nn.Parameter(torch.randn(4, 6))
    before = param.detach().clone()
    param.grad = torch.zeros(4, 6)
    Muon([param], lr=0.1, **settings).step()
    torch.testing.assert_close(param.detach(), before * (1 - 0.1 * settings.get("weight_decay", 0.1)))


def test_normuon_equalizes_rows_and_keeps_the_norm():
    param = nn.Parameter(torch.zeros(6, 3))
    grad = torch.randn(6, 3) * torch.tensor([1.0, 0.01, 3.0, 0.1, 1.0, 10.0]).unsqueeze(1)
    param.grad = grad
    Muon([param], lr=1.0, normuon=True, coefficients="polar-express").step()
    change = param.detach()
    expected = orthogonalize(grad, coefficients="polar-express").norm() * math.sqrt(2)
    torch.testing.assert_close(change.norm(dim=1), (expected / math.sqrt(6)).expand(6), atol=0, rtol=1e-4)


def test_muon_refuses_parameters_that_are_not_matrices():
    for shape in ((3,), (2, 3, 4), ()):
        with pytest.raises(ValueError, match=r"Muon got a parameter of shape .*, expected matrices; give it to AdamW"):
            Muon([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(shape))])
    optimizer = Muon([nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="expected matrices"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, "momentum=1.0 is out of range"),
        ({"beta2": 1.0}, "beta2=1.0 is out of range"),
        ({"lr": math.inf}, "lr=inf is out of range"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 is out of range"),
        ({"newton_schulz_steps": 0}, "newton_schulz_steps=0 is out of range; choose at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Muon([nn.Parameter(torch.zeros(2, 2))], **settings)
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [nn.Parameter(torch.zeros(2, 2))], **settings}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normuon": "yes"}, "normuon='yes' is not a switch; choose True or False"),
        ({"coefficients": "remez"}, "coefficients='remez' is unknown; choose one of newton-schulz, polar-express"),
    ],
)
def test_settings_of_the_wrong_type_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [nn.Parameter(torch.zeros(2, 2))], **settings}])
