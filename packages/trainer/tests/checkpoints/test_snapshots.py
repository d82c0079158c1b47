import copy
import weakref
from collections import OrderedDict, defaultdict

import torch
from torch import nn

from trainer.checkpoints.background import SnapshotBuffers
from trainer.checkpoints.directory import count_bytes


def same(first, second):
    """Return whether two nested states are equal to the bit, with types, data types and strides."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return (first.dtype, first.stride()) == (second.dtype, second.stride()) and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def make_state():
    return {
        "weights": OrderedDict(a=torch.rand(3, 4), b=torch.rand(4, 3).t(), c=torch.rand(2, 3, 4, 5).transpose(1, 3)),
        "types": [
            torch.rand(5).add(0.5).to(dtype) for dtype in (torch.bfloat16, torch.float64, torch.int64, torch.bool)
        ],
        "scalars": (torch.tensor(3.0), 1, 2.5, None, "text", b"bytes", True, 1j),
        3: {"empty": torch.empty(0), "other": {1, 2}, "default": defaultdict(list, x=[1])},
    }


def scramble(value):
    if isinstance(value, torch.Tensor):
        value.fill_(0 if value.dtype == torch.bool else 7)
    elif isinstance(value, dict):
        list(map(scramble, value.values()))
    elif isinstance(value, list | tuple):
        list(map(scramble, value))


def addresses(value):
    if isinstance(value, torch.Tensor):
        return [value.data_ptr()] if value.numel() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [address for item in value for address in addresses(item)] if isinstance(value, list | tuple) else []


def test_snapshots_stay_as_they_were_in_the_same_memory():
    buffers, places = SnapshotBuffers(), []
    for seed in range(3):
        torch.manual_seed(seed)
        state = make_state()
        expected = copy.deepcopy(state)
        taken = buffers.copy(state)
        buffers.wait()
        assert not set(addresses(taken)) & set(addresses(state))
        scramble(state)
        state[3]["other"].add(3)
        assert same(taken, expected)
        places.append(addresses(taken))
    assert places[0] == places[1] == places[2]


def test_memory_follows_the_state():
    buffers = SnapshotBuffers()
    first = buffers.copy({"a": torch.zeros(3), "b": torch.ones(2)})
    unused = weakref.ref(first.pop("b"))
    second = buffers.copy({"a": torch.zeros(4), "c": torch.ones(2, dtype=torch.int64)})
    assert first["a"].shape == (3,)
    assert same(second, {"a": torch.zeros(4), "c": torch.ones(2, dtype=torch.int64)})
    assert unused() is None


def test_what_is_one_tensor_stays_one():
    weight = nn.Parameter(torch.rand(3))
    taken = SnapshotBuffers().copy({"a": weight, "b": [weight.detach(), torch.rand(3)], "view": weight[:2]})
    assert taken["a"] is taken["b"][0]
    assert not taken["a"].requires_grad
    assert taken["b"][1] is not taken["a"]
    assert torch.equal(taken["view"], weight[:2])
    assert taken["view"].untyped_storage().nbytes() == 8


def test_a_broadcast_tensor_and_a_sparse_one():
    sparse = torch.eye(3).to_sparse()
    taken = SnapshotBuffers().copy({"wide": torch.ones(1, 3).expand(5, 3), "sparse": sparse})
    assert torch.equal(taken["wide"], torch.ones(5, 3))
    assert torch.equal(taken["sparse"].to_dense(), torch.eye(3))


def test_bytes_are_counted_once():
    weight = torch.zeros(10)
    assert count_bytes({"a": weight, "b": [weight, weight[:5]], "c": (torch.zeros(3, dtype=torch.int64), 1, "x")}) == 64
    assert count_bytes(nn.Parameter(weight)) == 40
    assert count_bytes({}) == 0
