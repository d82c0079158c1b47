"""Random windows of arrays."""

import math

import numpy as np
import pytest
import torch

from trainer import TokenDataset, get_batch
from trainer.data.windows import batch_generator, id_range


def test_batches_are_windows_and_their_next_tokens():
    tokens = np.arange(100, dtype=np.uint16)
    inputs, targets = get_batch(tokens, 32, 7, "cpu")
    assert inputs.shape == targets.shape == (32, 7)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert inputs.is_contiguous()
    assert targets.is_contiguous()


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(1), np.random.default_rng(1)])
def test_all_starts_are_equally_likely(generator):
    torch.manual_seed(5)
    tokens, context_length, batches, batch_size = np.arange(100, dtype=np.uint16), 7, 1000, 32
    counts = np.zeros(100, dtype=int)
    for _ in range(batches):
        starts = get_batch(tokens, batch_size, context_length, "cpu", generator)[0][:, 0].numpy()
        np.add.at(counts, starts, 1)
    windows = 100 - context_length
    assert not counts[windows:].any()
    share, draws = 1 / windows, batches * batch_size
    spread = math.sqrt(draws * share * (1 - share))
    assert np.abs(counts[:windows] - draws * share).max() < 5 * spread


def test_shortest_possible_split_has_one_window():
    inputs, targets = get_batch(np.array([4, 5, 6], dtype=np.uint32), 2, 2, "cpu")
    assert inputs.tolist() == [[4, 5], [4, 5]]
    assert targets.tolist() == [[5, 6], [5, 6]]


def test_batches_from_a_memory_map_are_those_from_memory(tmp_path):
    ids = np.random.default_rng(0).integers(0, 60_000, 5000).astype(np.uint16)
    np.save(tmp_path / "ids.npy", ids)
    mapped = TokenDataset(tmp_path / "ids.npy").tokens
    for step in range(3):
        ours = get_batch(mapped, 4, 16, "cpu", batch_generator(1, step, 0))
        theirs = get_batch(ids, 4, 16, "cpu", batch_generator(1, step, 0))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_batches_are_a_function_of_seed_step_and_micro_step():
    draw = [
        tuple(batch_generator(*key).integers(10**9, size=2)) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    ]
    assert len(set(draw)) == 4
    assert tuple(batch_generator(0, 1, 0).integers(10**9, size=2)) == draw[2]


def test_bad_device_raises():
    with pytest.raises((RuntimeError, AssertionError)):
        get_batch(np.arange(100, dtype=np.uint16), 2, 7, "cuda:99")


@pytest.mark.parametrize(
    ("ids", "batch_size", "context_length", "message"),
    [
        (np.arange(7), 2, 7, "tokens has 7 tokens: expected at least 8"),
        (np.zeros((3, 9), dtype=int), 2, 7, r"tokens has the shape \(3, 9\): expected one dimension"),
        (np.arange(9), 0, 7, "batch_size is 0"),
        (np.arange(9), 1, 0, "context_length 0: expected 1 or more"),
    ],
)
def test_get_batch_refuses(ids, batch_size, context_length, message):
    with pytest.raises(ValueError, match=message):
        get_batch(ids, batch_size, context_length, "cpu")


def test_smallest_and_largest_id():
    assert id_range(np.array([7, -5, 9, 4])) == (-5, 9)
