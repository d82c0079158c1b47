import copy
import math

import pytest
import torch
from torch import nn

from nnscratch import SGD, AdamW, Muon
from nnscratch.optimizers import adamw


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
def test_adamw_is_torch_s_over_many_steps(settings):
    model, expected = network(torch.float64), network(torch.float64)
    rate = lambda step: settings["lr"] * (1 - step / 200)  # noqa: E731
    train(model, AdamW(model.parameters(), **settings), 100, rate)
    train(expected, torch.optim.AdamW(expected.parameters(), **settings), 100, rate)
    assert_same(model, expected, 1e-9)


def test_adamw_is_torch_s_in_float32():
    model, expected = network(), network()
    train(model, AdamW(model.parameters()), 100)
    train(expected, torch.optim.AdamW(expected.parameters()), 100)
    assert_same(model, expected, 1e-6)


def after_1000_steps(weight_decay, decay_afterwards=0.0):
    """Return the weights of a linear layer after 1,000 steps at a rate of 1e-3, as in the test of the assignment."""
    torch.manual_seed(42)
    model = nn.Linear(3, 2, bias=False)
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=weight_decay)
    for _ in range(1000):
        x = torch.rand(3)
        optimizer.zero_grad()
        (model(x) - torch.stack([x[0] + x[1], -x[2]])).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            model.weight.mul_(1 - 1e-3 * decay_afterwards)
    return model.weight.detach()


def test_the_orders_of_decay_and_update_of_both_handouts_agree_within_the_tolerance():
    handout_of_2026, handout_of_2025 = after_1000_steps(0.01), after_1000_steps(0.0, decay_afterwards=0.01)
    assert not torch.equal(handout_of_2026, handout_of_2025)
    torch.testing.assert_close(handout_of_2026, handout_of_2025, atol=1e-4, rtol=0)
    undecayed = after_1000_steps(0.0)  # the comparison would notice a missing decay
    assert (handout_of_2026 - undecayed).abs().max() > 1e-4


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


def with_gradients(params, step):
    generator = torch.Generator().manual_seed(step)
    for index, param in enumerate(params):
        # the last one has a gradient only in every third step
        absent = index == len(params) - 1 and step % 3
        grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = None if absent else grad.to(param)


def parameters_of_all_kinds():
    torch.manual_seed(0)
    return [
        nn.Parameter(torch.randn(7, 31)),
        nn.Parameter(torch.randn(31, 7).T),
        nn.Parameter(torch.randn(40, 9)[::2]),
        nn.Parameter(torch.randn(100, dtype=torch.float64)),
        nn.Parameter(torch.randn(())),
        nn.Parameter(torch.randn(64).bfloat16()),
        nn.Parameter(torch.randn(33)),
    ]


class Divided(torch.Tensor):
    """A kind of tensor, like those that several processes divide, whose parts are copies."""

    def split(self, *arguments, **options):
        return tuple(part.clone() for part in super().split(*arguments, **options))


def test_adamw_updates_other_kinds_of_tensors_as_a_whole(monkeypatch):
    monkeypatch.setattr(adamw, "_NUMBERS_PER_THREAD", 4)
    start, grad = torch.randn(8, 9), torch.randn(8, 9)
    theirs = nn.Parameter(start.clone())
    ours = start.clone().as_subclass(Divided).requires_grad_()
    ours.grad, theirs.grad = grad.clone().as_subclass(Divided), grad.clone()
    AdamW([ours]).step()
    torch.optim.AdamW([theirs], weight_decay=0.01).step()
    torch.testing.assert_close(ours.detach().as_subclass(torch.Tensor), theirs.detach())


@pytest.mark.parametrize("numbers", [1, 8, 2**17])
def test_adamw_is_torch_s_for_parameters_of_all_kinds_in_chunks_of_any_size(numbers, monkeypatch):
    monkeypatch.setattr(adamw, "_NUMBERS_PER_THREAD", numbers)
    ours, theirs = parameters_of_all_kinds(), parameters_of_all_kinds()
    optimizers = AdamW(ours, weight_decay=0.1), torch.optim.AdamW(theirs, weight_decay=0.1)
    for step in range(30):
        if step == 20:  # what a move to another device and back does
            for param in (*ours, *theirs):
                param.data = param.data.clone()
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            with_gradients(params, step)
            optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
            optimizer.step()
    for param, expected in zip(ours, theirs, strict=True):
        tolerance = 2e-2 if param.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(param, expected, atol=tolerance, rtol=tolerance)


def test_adamw_continues_from_torch_s_state():
    model, expected = network(), network()
    optimizer, theirs = AdamW(model.parameters()), torch.optim.AdamW(expected.parameters())
    train(expected, theirs, 20)
    model.load_state_dict(expected.state_dict())
    optimizer.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(model, optimizer, 20)
    train(expected, theirs, 20)
    assert_same(model, expected, 1e-6)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_adamw_is_torch_s_and_compiles_no_more_after_its_first_steps():
    torch.compiler.reset()
    programs = []

    def backend(graph, _):
        programs.append(graph)
        return graph

    ours, theirs = [[param for param in parameters_of_all_kinds() if param.dim()] for _ in range(2)]
    optimizers = AdamW(ours, weight_decay=0.1), torch.optim.AdamW(theirs, weight_decay=0.1)
    compiled = torch.compile(optimizers[0].step, backend=backend, fullgraph=True)
    for step in range(12):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            with_gradients(params, 0)
            optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
        compiled()
        optimizers[1].step()
        if step == 3:
            first = len(programs)
    assert len(programs) == first <= 4
    for param, expected in zip(ours, theirs, strict=True):
        tolerance = 2e-2 if param.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(param, expected, atol=tolerance, rtol=tolerance)
    # Plain steps go on from the state of compiled ones, and from its copy in a checkpoint.
    again = AdamW(ours)
    again.load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for optimizer in (again, optimizers[1]):
        optimizer.step()
    for param, expected in zip(ours, theirs, strict=True):
        tolerance = 2e-2 if param.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(param, expected, atol=tolerance, rtol=tolerance)


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
    assert train(model, optimizer, 100) < first

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
    ],
)
def test_settings_out_of_range_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build([nn.Parameter(torch.zeros(2, 2))], **settings)


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (SGD, {"lr": -1.0}, "lr=-1.0 is out of range"),
        (SGD, {"momentum": 0.9}, "SGD got a group with momentum=0.9, which it does not support"),
        (AdamW, {"lr": -1.0}, "lr=-1.0 is out of range"),
        (AdamW, {"betas": (1.0, 0.9)}, "beta1=1.0 is out of range"),
        (AdamW, {"weight_decay": math.inf}, "weight_decay=inf is out of range"),
        (AdamW, {"amsgrad": True}, "AdamW got a group with amsgrad=True, which it does not support"),
    ],
)
def test_settings_of_groups_are_checked(build, settings, message):
    group = {"params": [nn.Parameter(torch.zeros(2, 2))], **settings}
    with pytest.raises(ValueError, match=message):
        build([group])
    optimizer = build([nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("build", "peer", "settings", "message"),
    [
        (
            AdamW,
            torch.optim.AdamW,
            {"maximize": True},
            "maximize=True, which it does not support; switch it off",
        ),
        (AdamW, torch.optim.AdamW, {"amsgrad": True}, "amsgrad=True"),
        (SGD, torch.optim.SGD, {"momentum": 0.9}, r"momentum=0.9.*or use torch.optim.SGD"),
        (SGD, torch.optim.SGD, {"maximize": True}, "maximize=True"),
        (SGD, torch.optim.SGD, {"weight_decay": 0.1}, "weight_decay=0.1"),
    ],
)
def test_states_of_torch_that_would_be_ignored_are_refused(build, peer, settings, message):
    param = nn.Parameter(torch.zeros(2, 2))
    optimizer = build([param], lr=0.25)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(peer([param], lr=0.5, **settings).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.25
    optimizer.load_state_dict(peer([param], lr=0.5, **dict.fromkeys(settings, 0)).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_state_with_weight_decay_in_the_gradient_is_refused():
    optimizer = AdamW([nn.Parameter(torch.zeros(2, 2))])
    state = optimizer.state_dict()
    state["param_groups"][0] |= {"decoupled_weight_decay": False, "weight_decay": 0.1}  # as torch.optim.Adam writes it
    with pytest.raises(ValueError, match=r"expected decoupled weight decay; set it to 0 or use torch.optim.Adam"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("build", [SGD, AdamW, Muon])
def test_sparse_gradients_are_refused(build):
    param = nn.Parameter(torch.zeros(3, 2))
    param.grad = torch.zeros(3, 2).to_sparse()
    message = rf"{build.__name__} got a sparse gradient for a parameter of shape \(3, 2\); .* to RowwiseAdagrad"
    with pytest.raises(ValueError, match=message):
        build([param]).step()
