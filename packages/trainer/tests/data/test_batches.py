import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import TokenDataset, TrainConfig
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.sampling import ShuffledWindows
from trainer.data.splits import TokenSplit
from trainer.data.windows import batch_generator, get_batch


class ByStep(BatchSource):
    """Is asked for batches by their step, all of whose predecessors had as many."""

    def __init__(self, split, config, *ranks):
        super().__init__(split, config, *ranks)
        self.count = config.grad_accumulation_steps

    def batch(self, step, micro_step):
        return super().batch(StepBatches(step * self.count, self.count), micro_step)


def make_source(data, sampling="shuffled", *ranks, batch_size=4, context_length=5, accumulation=1, seed=0):
    config = TrainConfig(
        steps=1,
        batch_size=batch_size,
        context_length=context_length,
        grad_accumulation_steps=accumulation,
        sampling=sampling,
        separator_id=7 if sampling == "documents" else None,
        seed=seed,
    )
    return ByStep(TokenSplit(data, "the data"), config, *ranks)


def test_random_batches_of_one_process_are_those_of_get_batch():
    tokens = np.random.default_rng(0).integers(0, 60_000, 5000).astype(np.uint16)
    source = make_source(tokens, "random", accumulation=3, seed=11)
    for step, micro_step in [(0, 0), (0, 2), (7, 1)]:
        inputs, targets = source.batch(step, micro_step)
        expected = get_batch(tokens, 4, 5, "cpu", batch_generator(11, step, micro_step))
        assert torch.equal(inputs, expected[0])
        assert torch.equal(targets, expected[1])
        assert inputs.is_contiguous()
        assert targets.is_contiguous()


@given(st.lists(st.integers(9, 150), min_size=1, max_size=4), st.integers(1, 8), st.integers(0, 3), st.integers(0, 99))
def test_shuffled_windows_cover_each_part_once_in_each_epoch(lengths, context_length, epoch, seed):
    """Adjacent windows from one offset per part, none across a part's end, and nearly everything."""
    parts = [np.zeros(length, dtype=np.uint16) for length in lengths]
    windows = ShuffledWindows(TokenSplit(parts, "the data"), context_length, 1, seed)
    count = windows.windows_per_epoch
    located = [windows.locate(epoch * count + place) for place in range(count)]
    for part, length in enumerate(lengths):
        starts = sorted(int(start[0]) for number, start in located if number[0] == part)
        assert len(starts) >= 1
        assert starts == [starts[0] + index * context_length for index in range(len(starts))]
        assert starts[0] >= 0
        assert starts[-1] + context_length + 1 <= length
        assert length - len(starts) * context_length <= 2 * context_length


@given(st.integers(12, 400), st.integers(1, 7), st.integers(1, 4), st.integers(2, 30))
def test_every_window_once_per_epoch_in_batches_of_any_size(length, batch_size, accumulation, context_length):
    length = max(length, context_length + 1)
    tokens = np.arange(length, dtype=np.uint16)
    count = ShuffledWindows(TokenSplit(tokens, "the data"), context_length, batch_size, 0).windows_per_epoch
    source = make_source(tokens, batch_size=batch_size, accumulation=accumulation, context_length=context_length)
    starts, step = [], 0
    while len(starts) < 3 * count:
        for micro_step in range(accumulation):
            inputs, targets = source.batch(step, micro_step)
            assert torch.equal(targets, inputs + 1)
            starts += inputs[:, 0].tolist()
        step += 1
    for epoch in range(3):
        visited = sorted(starts[epoch * count : (epoch + 1) * count])
        assert visited == list(range(visited[0], visited[0] + count * context_length, context_length))


def test_each_epoch_has_an_order_and_an_offset_of_its_own():
    tokens = np.arange(60_000, dtype=np.uint16)
    source = make_source(tokens, batch_size=598, context_length=100)
    epochs = np.stack([source.batch(step, 0)[0, :, 0].numpy() for step in range(40)])
    offsets = epochs.min(axis=1)
    assert len(set(offsets.tolist())) > 25
    assert offsets.max() < 200
    assert offsets.min() >= 0
    orders = (epochs - offsets[:, None]) // 100
    assert len({tuple(order) for order in orders.tolist()}) == 40
    agreeing = (orders[1:] == orders[:-1]).sum() / 39  # on average 1 of 598 places by chance
    assert abs(agreeing - 1) < 5 / math.sqrt(39)
    other = make_source(tokens, batch_size=598, context_length=100, seed=1).batch(0, 0)[0, :, 0].numpy()
    assert ((other - other.min()) // 100 != orders[0]).mean() > 0.97


def test_every_token_is_reached():
    """Also those at the two ends, which only some offsets include."""
    source, seen = make_source(np.arange(58, dtype=np.uint16), batch_size=10), set()
    for step in range(200):
        seen |= set(source.batch(step, 0).flatten().tolist())
    assert seen == set(range(58))


@pytest.mark.parametrize("sampling", ["random", "shuffled", "documents"])
def test_a_batch_does_not_depend_on_how_it_was_reached(sampling):
    tokens, places = np.arange(3000, dtype=np.uint16), [(step, micro) for step in range(300) for micro in (0, 1)]
    forward = make_source(tokens, sampling, accumulation=2)
    batches = {place: forward.batch(*place) for place in places}
    for place in reversed(places):
        assert torch.equal(forward.batch(*place), batches[place])
    for place in [(299, 1), (0, 0), (120, 1)]:
        assert torch.equal(make_source(tokens, sampling, accumulation=2).batch(*place), batches[place])


@pytest.mark.parametrize("sampling", ["random", "shuffled", "documents"])
@pytest.mark.parametrize(
    ("accumulation", "world_size", "micro_steps", "rows"),
    [
        (1, 1, 1, 12),
        (1, 2, 1, 6),
        (1, 12, 1, 1),
        (4, 2, 2, 12),
        (4, 4, 1, 12),
        (4, 8, 1, 6),
        (6, 4, 3, 6),
        (2, 3, 2, 4),
    ],
)
def test_processes_share_the_windows_of_one(sampling, accumulation, world_size, micro_steps, rows):
    tokens, settings = np.arange(5000, dtype=np.uint16), {"batch_size": 12, "accumulation": accumulation}
    whole = make_source(tokens, sampling, **settings)
    sources = [make_source(tokens, sampling, rank, world_size, **settings) for rank in range(world_size)]
    assert {(source.micro_steps(accumulation), source.rows) for source in sources} == {(micro_steps, rows)}
    for step in (0, 3, 40):
        alone = torch.cat([whole.batch(step, micro_step) for micro_step in range(accumulation)], dim=1)
        shared = [source.batch(step, micro_step) for source in sources for micro_step in range(micro_steps)]
        assert {tuple(batch.shape) for batch in shared} == {(2, rows, 5)}
        assert torch.equal(torch.cat(shared, dim=1), alone)


def test_ranks_are_disjoint_within_an_epoch():
    sources = [make_source(np.arange(2000, dtype=np.uint16), "shuffled", rank, 4, batch_size=8) for rank in range(4)]
    windows = ShuffledWindows(TokenSplit(np.zeros(2000, int), "the data"), 5, 8, 0).windows_per_epoch
    steps = windows // 8
    seen = [{int(start) for step in range(steps) for start in source.batch(step, 0)[0, :, 0]} for source in sources]
    assert [len(starts) for starts in seen] == [2 * steps] * 4
    assert len(set.union(*seen)) == 8 * steps


@pytest.mark.parametrize(("accumulation", "world_size", "shares"), [(1, 3, 3), (2, 6, 3), (4, 32, 8)])
def test_windows_that_cannot_be_shared(accumulation, world_size, shares):
    with pytest.raises(
        ValueError,
        match=rf"{world_size} processes cannot share a step of {accumulation} x 4 windows: expected a batch_size that "
        rf"is a multiple of {shares}, or grad_accumulation_steps that are a multiple of {world_size}",
    ):
        make_source(np.arange(100), "random", 0, world_size, batch_size=4, accumulation=accumulation)


def test_random_windows_of_several_parts_are_drawn_by_their_number():
    """A part has as many windows as starts; none crosses its end."""
    lengths = [9, 40, 100]
    parts = [np.arange(length, dtype=np.uint16) + 1000 * number for number, length in enumerate(lengths)]
    source = make_source(parts, "random", batch_size=50, context_length=8)
    inputs, targets = torch.cat([source.batch(step, 0) for step in range(200)], dim=1)
    assert torch.equal(targets, inputs + 1)  # an end that was crossed would jump
    counts = np.bincount(inputs[:, 0].numpy() // 1000, minlength=3)
    shares = np.array([1, 32, 92]) / 125
    assert np.abs(counts - 10_000 * shares).max() < 5 * math.sqrt(10_000 * 0.25)
    assert counts.min() > 0


@pytest.mark.parametrize("sampling", ["random", "shuffled", "documents"])
def test_files_are_read_like_arrays(tmp_path, sampling):
    arrays = [np.random.default_rng(number).integers(0, 50_000, 500).astype(np.uint32) for number in range(3)]
    for number, array in enumerate(arrays):
        array[:: 20 + number] = 7  # the separator of documents
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    files = [TokenDataset(tmp_path / f"{number}.npy") for number in range(3)]
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(3)]
    sources = [make_source(data, sampling) for data in (arrays, files, mapped, [files[0], arrays[1], mapped[2]])]
    for step in range(20):
        first, *others = [source.batch(step, 0) for source in sources]
        assert all(torch.equal(first, other) for other in others)
