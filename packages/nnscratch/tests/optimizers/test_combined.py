"""Several optimizers as one: the same steps as each by itself, one state, one set of groups."""

import copy
import pickle

import pytest
import torch
from torch import nn

from nnscratch import AdamW, CombinedOptimizer, Muon


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((6, 4), (4, 6), (5,))]


def give_gradients(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)


def combined(params):
    muon = Muon([{"params": params[:2], "lr_scale": 3.0}], lr=0.02)
    return CombinedOptimizer([muon, AdamW(params[2:], lr=0.01)])


def test_steps_are_those_of_each_optimizer_by_itself():
    together, apart = parameters(), parameters()
    one, several = combined(together), [Muon(apart[:2], lr=0.02), AdamW(apart[2:], lr=0.01)]
    for step in range(5):
        give_gradients(together, step)
        give_gradients(apart, step)
        one.step()
        for optimizer in several:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("normuon", [False, True])
def test_each_step_compiles_as_one_graph_for_all_rates_decays_and_momenta(normuon):
    torch.compiler.reset()
    programs = []

    def backend(graph, _):
        programs.append(graph)
        return graph

    def several(params):
        muon = Muon(params[:2], cautious_weight_decay=True, coefficients="polar-express", normuon=normuon)
        return CombinedOptimizer([muon, AdamW(params[2:])])

    ours, plain = parameters(), parameters()
    compiled, expected = several(ours), several(plain)
    steps = [torch.compile(part.step, backend=backend, fullgraph=True) for part in compiled.optimizers]
    assert all(part.step_compiles for part in compiled.optimizers)
    for number in range(6):
        for params, optimizer in ((ours, compiled), (plain, expected)):
            give_gradients(params, number)
            for place, group in enumerate(optimizer.param_groups):
                rate, decay = 0.01 * (place + 1) / (number + 1), 0.1 * (1 - number / 5)
                values = {"lr": rate, "weight_decay": decay, "momentum": 0.85 + number / 50}
                for name in values.keys() & group.keys():
                    value = torch.tensor(values[name], dtype=torch.float64)
                    group[name] = value if optimizer is compiled else values[name]
        if number == 0:
            compiled.step()  # makes the state, which is other work
        for step in steps if number else ():
            step()
        expected.step()
        for optimizer in (compiled, expected):
            optimizer.zero_grad(set_to_none=True)
        assert len(programs) == (2 if number else 0)
        for param, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(param, other, atol=1e-6, rtol=1e-5)


def test_groups_can_be_scheduled_and_keep_what_they_have():
    params = parameters()
    optimizer = combined(params)
    assert optimizer.param_groups[0]["lr_scale"] == 3.0
    before = [param.detach().clone() for param in params]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    give_gradients(params, 0)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))


def test_a_loaded_state_continues_bit_for_bit():
    params = parameters()
    optimizer = combined(params)
    for step in range(3):
        give_gradients(params, step)
        optimizer.step()
    others = [nn.Parameter(param.detach().clone()) for param in params]
    other = combined(others)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for owner, optim in ((params, optimizer), (others, other)):
            give_gradients(owner, step)
            optim.step()
    assert all(torch.equal(a, b) for a, b in zip(params, others, strict=True))
    assert optimizer.state_dict()["state"].keys() == {0, 1, 2}


def test_existing_states_are_kept():
    param = parameters()[0]
    muon = Muon([param], lr=0.02)
    give_gradients([param], 0)
    muon.step()
    before = muon.state[param]["momentum_buffer"].clone()
    assert torch.equal(CombinedOptimizer([muon]).state[param]["momentum_buffer"], before)


def test_a_pickled_copy_works_alone():
    params = parameters()
    optimizer = combined(params)
    give_gradients(params, 0)
    optimizer.step()
    again = pickle.loads(pickle.dumps(optimizer))
    copied = [param for group in again.param_groups for param in group["params"]]
    before = [param.detach().clone() for param in copied]
    give_gradients(copied, 1)
    again.step()
    assert not any(torch.equal(a, b) for a, b in zip(copied, before, strict=True))


def test_a_group_joins_the_optimizer_that_it_names():
    params = parameters()
    optimizer = CombinedOptimizer([Muon(params[:1], lr=0.02), AdamW(params[2:], lr=0.01)])
    optimizer.add_param_group({"params": [params[1]], "optimizer_index": 0})
    assert optimizer.param_groups[-1]["momentum"] == 0.95
    before = params[1].detach().clone()
    give_gradients(params, 0)
    optimizer.step()
    assert not torch.equal(params[1], before)
    with pytest.raises(ValueError, match="optimizer_index"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


@pytest.mark.parametrize("index", [-1, 2])
def test_a_group_without_an_optimizer_is_refused(index):
    optimizer = combined(parameters())
    with pytest.raises(ValueError, match=rf"optimizer_index={index} is out of range for 2 optimizers; choose 0 to 1"):
        optimizer.add_param_group({"params": [torch.zeros(3, requires_grad=True)], "optimizer_index": index})
    assert {group["optimizer_index"] for group in optimizer.param_groups} == {0, 1}


def test_closure_is_called_once():
    params = parameters()
    optimizer, calls = combined(params), []

    def closure():
        calls.append(torch.is_grad_enabled())
        give_gradients(params, 0)
        return 1.5

    assert optimizer.step(closure) == 1.5
    assert calls == [True]


def test_no_optimizers_and_shared_parameters_are_refused():
    param = parameters()[0]
    with pytest.raises(ValueError, match="empty"):
        CombinedOptimizer([])
    with pytest.raises(ValueError, match="more than one parameter group"):
        CombinedOptimizer([Muon([param]), AdamW([param])])
