"""Muon in two processes, which share the orthogonalization of whole and of sharded matrices."""

import copy
import multiprocessing
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nnscratch import AdamW, CombinedOptimizer, Muon
from nnscratch.optimizers import muon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
SHAPES = [*[(7, 4)] * 3, *[(4, 7)] * 2, (1, 5), (6, 6), (7, 4), (4, 7)]
"""Seven matrices of a shape or its transpose, four of them tall, and two that are alone."""
VARIANTS = [
    {},
    {"nesterov": False, "weight_decay": 0.0},
    {"newton_schulz_dtype": torch.bfloat16},
    {"normuon": True, "cautious_weight_decay": True},
]
STEPS = 3


def gradients(step):
    torch.manual_seed(step)
    return [torch.randn(shape) for shape in SHAPES]


def matrices(placed=lambda tensor: tensor):
    torch.manual_seed(9)
    return [nn.Parameter(placed(torch.randn(shape))) for shape in SHAPES]


def train(optimizer, params, steps, placed=lambda tensor: tensor):
    """Make steps, and return the parameters and the numbers of matrices that this process orthogonalized at once."""
    counts, orthogonalize = [], muon.orthogonalize
    muon.orthogonalize = lambda batch, *settings: counts.append(len(batch)) or orthogonalize(batch, *settings)
    try:
        for step in steps:
            for param, grad in zip(params, gradients(step), strict=True):
                param.grad = placed(grad)
            optimizer.step()
    finally:
        muon.orthogonalize = orthogonalize
    return [whole(param.detach()) for param in params], counts


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone()


def in_one_of_two(rank, directory):
    """Train in all ways in one of two processes, and leave what came out in a file."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))

    def sharded(tensor):
        return distribute_tensor(tensor, mesh, [Shard(0)])

    results = []
    for settings in VARIANTS:
        params = matrices()
        shared = Muon(params, lr=0.1, **settings)
        shared.share_among(dist.group.WORLD)
        ways = [train(shared, params, range(STEPS))]
        state = copy.deepcopy(shared.state_dict())
        for group in (None, dist.group.WORLD):
            params = matrices(sharded)
            optimizer = Muon(params, lr=0.1, **settings)
            optimizer.share_among(group)
            ways.append(train(optimizer, params, range(STEPS), sharded))
        # Sharded matrices go on from a state of whole ones, of which what has another shape is replicated.
        optimizer.load_state_dict(copy.deepcopy(state))
        for values in optimizer.state.values():
            if "row_mean_square" in values:
                values["row_mean_square"] = distribute_tensor(values["row_mean_square"], mesh, [Replicate()])
            values["momentum_buffer"] = sharded(values["momentum_buffer"])
        ways.append(train(optimizer, params, [STEPS], sharded))
        results.append((ways, state))
    torch.save(results, directory / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of each of two processes for each variant: those of the ways of training, and a state dict."""
    directory = tmp_path_factory.mktemp("shared")
    torch.set_num_threads(1)  # a process with threads should not fork
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=in_one_of_two, args=(rank, directory)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(directory / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=lambda number: str(VARIANTS[number]))
def test_all_processes_get_the_updates_of_one(results, number):
    """Whole matrices, sharded ones, and sharded ones whose work is shared.

    Batches of other sizes may round differently, but the processes agree to the bit.
    """
    tolerance = 5e-3 if "newton_schulz_dtype" in VARIANTS[number] else 1e-6
    params = matrices()
    optimizer = Muon(params, lr=0.1, **VARIANTS[number])
    expected, alone = train(optimizer, params, range(STEPS))
    expected_state = copy.deepcopy(optimizer.state_dict())
    later, _ = train(optimizer, params, [STEPS])
    assert alone == [7, 1, 1] * STEPS
    for rank, variants in enumerate(results):
        ways, state = variants[number]
        shared, sharded, both, resumed = ways
        # One matrix is nothing to share.
        assert shared[1] == both[1] == [[4, 1, 1], [3, 1, 1]][rank] * STEPS
        assert sharded[1] == alone
        for ours, theirs in (*((way[0], expected) for way in ways[:3]), (resumed[0], later)):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
        torch.testing.assert_close(state["state"], expected_state["state"], rtol=0, atol=tolerance)
        assert state["param_groups"] == expected_state["param_groups"]
    for first, second in zip(*(variants[number][0] for variants in results), strict=True):
        assert all(map(torch.equal, first[0], second[0]))


def test_copies_work_alone():
    optimizer = CombinedOptimizer([Muon(matrices()), AdamW([nn.Parameter(torch.zeros(3))])])
    shared = optimizer.optimizers[0]
    assert shared.step_compiles
    shared.share_among(object())
    assert not shared.step_compiles
    assert copy.deepcopy(optimizer).optimizers[0].step_compiles
    shared.share_among(None)
    assert shared.step_compiles
