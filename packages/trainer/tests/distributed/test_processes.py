"""Behaviour of several processes, tested without starting them."""

import math
import random

import numpy as np
import pytest
import torch
from bigram_run import CONFIG, make_model, make_trainer
from distributed_run import Blocks
from torch import nn

from trainer import TrainConfig, read_config
from trainer.checkpoints.random_states import (
    collect_random_states,
    get_random_states,
    preserved_random_states,
    restore_random_states,
    same_random_states,
    seed_everything,
    set_random_states,
)
from trainer.data.splits import TokenSplit
from trainer.distributed import parallelize
from trainer.distributed.fsdp import _check_optimizer, _check_sharing, _units
from trainer.distributed.parallel import Parallel, check_gradients
from trainer.distributed.processes import Processes, ProcessLostError, _picklable, joined_processes
from trainer.distributed.rank import Ranks, read_ranks, resolve_process_device
from trainer.evaluation import _batches

pytestmark = pytest.mark.usefixtures("no_pictures")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def change(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return change


def several(rank, world_size):
    return Processes(Ranks(rank, world_size, rank))


def test_place_is_what_torchrun_says(environment):
    assert read_ranks() == Ranks(0, 1, 0)
    environment(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", MASTER_ADDR="host")
    assert read_ranks() == Ranks(5, 8, 1)
    environment(RANK="8")
    with pytest.raises(
        ValueError, match=r"RANK='8', WORLD_SIZE='8', LOCAL_RANK='1': expected whole .* start .* torchrun"
    ):
        read_ranks()
    environment(RANK="first")
    with pytest.raises(ValueError, match="RANK='first'"):
        read_ranks()


def test_place_needs_an_address(environment):
    environment(RANK="0", WORLD_SIZE="2")
    with pytest.raises(ValueError, match="WORLD_SIZE is 2, but MASTER_ADDR is not set: start the script with torchrun"):
        read_ranks()


def test_devices_of_several_processes(monkeypatch):
    ranks = Ranks(1, 2, 1)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert resolve_process_device("auto", ranks) == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'cuda' is not available here"):
        resolve_process_device("cuda", ranks)
    first = {"auto": torch.device("cuda")}
    monkeypatch.setattr("trainer.distributed.rank.resolve_device", lambda name: first.get(name) or torch.device(name))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert resolve_process_device("auto", ranks) == torch.device("cuda", 1)
    assert resolve_process_device("cuda:0", Ranks()) == torch.device("cuda", 0)
    for name in ("cuda:0", "mps"):
        with pytest.raises(ValueError, match=f"device is '{name}' for 2 processes: expected auto, cpu or cuda"):
            resolve_process_device(name, ranks)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"process 2 of this machine, which has 1 GPU\(s\): start at most as many"):
        resolve_process_device("auto", ranks)


def test_batch_that_the_processes_cannot_divide(tmp_path, environment):
    environment(RANK="0", WORLD_SIZE="3", MASTER_ADDR="host")
    with pytest.raises(
        ValueError, match="3 processes cannot share a step of 2 x 4 windows: expected a batch_size that is"
    ):
        make_trainer(tmp_path / "run")


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("count", [9, 12, 100, 161])
def test_evaluation_is_shared_out(world_size, count):
    """Each process gets the same number of batches, and each token counts once."""
    split = TokenSplit(np.arange(count, dtype=np.uint16), "the split")
    shares = [list(_batches(split, 8, 4, several(rank, world_size))) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    seen = [
        target for share in shares for _, targets, weight in share if weight for target in targets.flatten().tolist()
    ]
    assert sorted(seen) == list(range(1, count))
    for _, targets, weight in (batch for share in shares for batch in share):
        assert weight in (0, targets.numel())
    assert len(shares[0]) == math.ceil(len(list(_batches(split, 8, 4, Processes()))) / world_size)


def test_random_states_of_processes():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    with preserved_random_states():
        drawn = []
        for rank, step in ((0, 0), (1, 0), (2, 0), (1, 9)):
            seed_everything(7, rank, step)
            drawn.append(draw())
        assert len({value for values in drawn for value in values}) == 12
        torch.manual_seed(7)
        assert torch.rand(()).item() == drawn[0][2]


@pytest.mark.parametrize("device", [0, 1, 5])
def test_random_states_of_a_gpu_are_those_of_the_current_one(monkeypatch, device):
    """The other GPUs do not matter."""
    generators = {0: torch.tensor([0]), 1: torch.tensor([1]), 5: torch.tensor([5])}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: device)
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda: generators[device].clone())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state: generators.update({device: state}))
    states = get_random_states()
    generators[device] = torch.tensor([-1])
    set_random_states(states)
    assert generators[device].item() == device


def test_random_states_are_restored_for_other_numbers_of_processes():
    with preserved_random_states():
        states = []
        for rank in range(2):
            seed_everything(3, rank)
            torch.rand(5)
            states.append(get_random_states())
        expected = []
        for rank in range(2):
            restore_random_states(states, several(rank, 4), 3, 4)
            assert torch.equal(torch.get_rng_state(), states[rank]["torch"])
            expected.append(torch.rand(()).item())
        for rank in (2, 3):
            restore_random_states(states, several(rank, 4), 3, 4)
            expected.append(torch.rand(()).item())
            seed_everything(3, rank, 4)
            assert torch.rand(()).item() == expected[-1]
        assert len(set(expected)) == 4
        (own,) = collect_random_states(Processes())["random_states"]
        assert same_random_states(own, get_random_states())


def test_settings_that_a_resumed_run_may_change(tmp_path):
    make_trainer(tmp_path / "run", steps=4).fit()
    (tmp_path / "run" / "summary.json").unlink()
    make_trainer(tmp_path / "run", steps=4, parallel="fsdp", distributed_timeout_seconds=5.0).fit()
    assert read_config(tmp_path / "run")["train"]["parallel"] == "fsdp"
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"another configuration: seed was 3, now 8; restore"):
        make_trainer(tmp_path / "run", steps=4, parallel="ddp", seed=8).fit()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parallel": "tensor"}, "parallel is 'tensor': expected one of 'auto', 'ddp', 'fsdp'"),
        ({"distributed_timeout_seconds": 0}, "distributed_timeout_seconds is 0: expected a finite number above 0$"),
        (
            {"distributed_timeout_seconds": None},
            "distributed_timeout_seconds is None: expected a finite number above 0$",
        ),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**CONFIG, **settings})


@pytest.mark.parametrize("name", ["auto", "ddp", "fsdp"])
def test_one_process_is_just_the_model(name):
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters())
    parallel = parallelize(model, optimizer, name, Processes(), torch.device("cpu"))
    assert type(parallel) is Parallel
    assert parallel.model is model
    assert parallel.name is None


def test_units_are_the_children_of_the_outermost_lists():
    model = nn.Module()
    block = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)]))
    model.layers = nn.ModuleList([block, block, nn.ReLU(), nn.ModuleList([(inner := nn.Linear(2, 2))])])
    model.body = nn.Sequential(nn.Linear(2, 2))
    assert list(_units(model)) == [block, inner]
    assert list(_units(make_model())) == []


def test_parameters_shared_between_blocks_are_refused():
    model = Blocks()
    _check_sharing(model, list(_units(model)))
    model.blocks[2][1].weight = model.blocks[0][1].weight
    with pytest.raises(ValueError, match=r'blocks\.2\.1\.weight is shared between two blocks, .* use parallel="ddp"'):
        _check_sharing(model, list(_units(model)))
    model = Blocks()
    model.outside = model.blocks[1][3].weight
    with pytest.raises(ValueError, match=r"is shared between two blocks"):
        _check_sharing(model, list(_units(model)))


def test_optimizers_that_cannot_be_divided_are_refused():
    model = make_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([*model.parameters(), nn.Parameter(torch.ones(3, 5))])
    with pytest.raises(ValueError, match=r"a parameter of the shape \(3, 5\) that is not the model's \(1 in all\)"):
        _check_optimizer(optimizer, names)
    optimizer = torch.optim.AdamW(model.parameters())
    _check_optimizer(optimizer, names)
    model(torch.zeros(1, 1, dtype=torch.int64)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="the optimizer has a state already: FSDP expects a new one"):
        _check_optimizer(optimizer, names)


def test_parameters_without_a_gradient_are_named():
    model = Blocks()
    model.unused = nn.Linear(2, 2)
    model.frozen = nn.Linear(2, 2).requires_grad_(False)
    model.loss(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64)).backward()
    with pytest.raises(
        ValueError, match=r"^unused\.weight, unused\.bias \(2 in all\) got no gradient: .* requires_grad_"
    ):
        check_gradients(model)
    model.unused.requires_grad_(False)
    check_gradients(model)


def test_lost_connections_are_told_from_other_errors(monkeypatch, environment):
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:51234"
    monkeypatch.setattr("trainer.distributed.processes._connect", lambda *_: Processes())
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    ranks = Ranks(1, 4, 1)
    for message, kind in ((gloo, ProcessLostError), ("mat1 and mat2 shapes cannot be multiplied", RuntimeError)):
        with pytest.raises(RuntimeError) as caught, joined_processes(ranks, torch.device("cpu"), 5):
            raise RuntimeError(message)
        assert type(caught.value) is kind
        assert message.removeprefix("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] ") in str(caught.value)
    with (
        pytest.raises(
            ProcessLostError,
            match=r"^process 1 of 4 lost another one, which died or did not answer \(Connection closed",
        ),
        joined_processes(ranks, torch.device("cpu"), 5),
    ):
        raise RuntimeError(gloo)


class UnusualError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_errors_that_cannot_be_sent_are_sent_in_words():
    error = _picklable(FileNotFoundError(2, "No such file", "path"))
    assert (type(error), str(error)) == (FileNotFoundError, "[Errno 2] No such file: 'path'")
    error = _picklable(UnusualError(1, 2))
    assert (type(error), str(error)) == (RuntimeError, "process 0 failed: UnusualError: 1 and 2")
