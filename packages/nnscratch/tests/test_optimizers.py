import copy
import math

import pytest
import torch
from torch import nn

from nnscratch import SGD, AdamW, Muon
from nnscratch.optimizers.muon import orthogonalize


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)


def train(model, optimizer, steps, rate=None):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        if rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
        x = torch.randn(4, 8, generator=generator, dtype=next(model.parameters()).dtype)
        loss = (model(x) - x[:, :3].cumsum(-1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def assert_same(model, expected, tolerance):
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 1e-3, "weight_decay": 0.01},
        {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1},
        {"lr": 3e-3, "weight_decay": 0.0},
        {"lr": 1e-3, "betas": (0.0, 0.0), "weight_decay": 0.1},
    ],
)
def test_adamw_is_torch_s_over_a_thousand_steps(settings):
    model, expected = network(torch.float64), network(torch.float64)
    rate = lambda step: settings["lr"] * (1 - step / 2000)  # noqa: E731
    train(model, AdamW(model.parameters(), **settings), 1000, rate)
    train(expected, torch.optim.AdamW(expected.parameters(), **settings), 1000, rate)
    assert_same(model, expected, 1e-9)


def test_adamw_is_torch_s_in_float32():
    model, expected = network(), network()
    train(model, AdamW(model.parameters()), 100)
    train(expected, torch.optim.AdamW(expected.parameters()), 100)
    assert_same(model, expected, 1e-6)


def test_adamw_counts_the_steps_of_each_parameter():
    ours, theirs = [[nn.Parameter(torch.ones(3)) for _ in range(2)] for _ in range(2)]
    optimizers = AdamW(ours), torch.optim.AdamW(theirs)
    for step in range(5):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            params[0].grad = torch.full((3,), 0.1 * step + 0.1)
            params[1].grad = torch.full((3,), 0.2) if step % 2 else None
            optimizer.step()
    for param, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(param, expected)


def test_sgd_shrinks_its_steps():
    weight = nn.Parameter(torch.full((2,), 10.0))
    optimizer = SGD([weight], lr=2.0)
    expected = 10.0
    for t in range(5):
        optimizer.zero_grad()
        (weight.square().mean() / 2).backward()
        optimizer.step()
        expected -= 2.0 / math.sqrt(t + 1) * expected / 2
        torch.testing.assert_close(weight.detach(), torch.full((2,), expected))


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


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (3, 8, 32)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(shape)
    result = orthogonalize(matrices)
    values = torch.linalg.svdvals(result)
    assert values.max() < 1.3
    assert values.median() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    directions = torch.linalg.vecdot(result.flatten(-2), (u @ v).flatten(-2)) / (u @ v).flatten(-2).norm(dim=-1)
    assert (directions / result.flatten(-2).norm(dim=-1)).min() > 0.95


def test_orthogonalize_leaves_zero_alone():
    assert orthogonalize(torch.zeros(3, 4)).eq(0).all()


def test_muon_refuses_what_is_no_matrix():
    for shape in ((3,), (2, 3, 4), ()):
        with pytest.raises(ValueError, match=r"Muon got a parameter of shape .*, expected matrices; give it to AdamW"):
            Muon([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(shape))])
    optimizer = Muon([nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="expected matrices"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert len(optimizer.param_groups) == 1


OPTIMIZERS = [SGD, AdamW, lambda params, **kw: Muon([p for p in params if p.dim() == 2], **kw)]


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_state_dict_resumes_exactly(build):
    straight = network()
    optimizer = build(straight.parameters(), lr=0.01)
    train(straight, optimizer, 5)
    resumed = copy.deepcopy(straight)
    again = build(resumed.parameters(), lr=0.5)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(straight, optimizer, 5)
    train(resumed, again, 5)
    for ours, theirs in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_training_lowers_the_loss_and_a_closure_s_loss_comes_back(build):
    model = network()
    optimizer = build(model.parameters(), lr=0.02)
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 300) < first

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(1, 8)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_parameters_without_a_gradient_stay(build):
    model = network()
    before = copy.deepcopy(model)
    build(model.parameters(), lr=0.1).step()
    assert_same(model, before, 0)


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (SGD, {"lr": -1.0}, "lr=-1.0 is out of range; choose a finite number of at least 0"),
        (AdamW, {"lr": math.nan}, "lr=nan is out of range"),
        (AdamW, {"eps": -1e-8}, "eps=-1e-08 is out of range"),
        (AdamW, {"weight_decay": -0.1}, "weight_decay=-0.1 is out of range"),
        (AdamW, {"betas": (1.0, 0.9)}, "beta1=1.0 is out of range; choose a number of at least 0 and below 1"),
        (AdamW, {"betas": (0.9, -0.1)}, "beta2=-0.1 is out of range"),
        (Muon, {"momentum": 1.0}, "momentum=1.0 is out of range"),
        (Muon, {"lr": math.inf}, "lr=inf is out of range"),
        (Muon, {"newton_schulz_steps": 0}, "newton_schulz_steps=0 does nothing; choose at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build([nn.Parameter(torch.zeros(2, 2))], **settings)


@pytest.mark.parametrize("build", [SGD, AdamW, Muon])
def test_sparse_gradients_are_refused(build):
    param = nn.Parameter(torch.zeros(3, 2))
    param.grad = torch.zeros(3, 2).to_sparse()
    with pytest.raises(ValueError, match=rf"{build.__name__} got a sparse gradient of a parameter of shape \(3, 2\)"):
        build([param]).step()
