"""Batches on their way to the device, read ahead in a thread."""

import threading

import pytest
import torch
from bigram_run import make_tokens, make_trainer

from trainer import TrainConfig
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.loader import BatchLoader
from trainer.data.splits import TokenSplit

CPU = torch.device("cpu")


class SlowSource(BatchSource):
    """Notes what is read, in which thread; fails where it is told to."""

    def __init__(self, *ranks, fails_at=None, **settings):
        config = {"steps": 1, "batch_size": 4, "context_length": 8, "grad_accumulation_steps": 2, **settings}
        super().__init__(TokenSplit(make_tokens(), "x"), TrainConfig(**config), *ranks)
        self.fails_at = fails_at
        self.read = []
        self.finished = threading.Semaphore(0)
        """Released after each batch."""
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def batch(self, batches, micro_step):
        assert self.may_go_on.wait(timeout=60)
        step = batches.first // 2
        self.read.append((step, micro_step, threading.current_thread().name))
        if (step, micro_step) == self.fails_at:
            raise OSError("the disk is gone")
        batch = super().batch(batches, micro_step)
        self.finished.release()
        return batch

    def wait_for(self, count):
        """Wait until so many more batches have been read."""
        for _ in range(count):
            assert self.finished.acquire(timeout=60)


def in_step(step):
    """The batches of a step, all of whose predecessors have read two."""
    return StepBatches(2 * step, 2)


@pytest.fixture
def make_loader():
    loaders = []

    def make(source, **options):
        loaders.append(BatchLoader(source, CPU, **options))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


PLACES = [(step, micro_step) for step in range(6) for micro_step in range(2)]


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("sampling", ["random", "shuffled"])
@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 2), (2, 4)])
def test_batches_are_those_of_the_source(make_loader, ahead, sampling, rank, world_size):
    source = SlowSource(rank, world_size, sampling=sampling)
    loader = make_loader(source, ahead=ahead)
    assert (loader.micro_steps(in_step(0)), loader.rows) == (source.micro_steps(2), source.rows)
    for step in range(5):
        for micro_step in range(loader.micro_steps(in_step(step))):
            inputs, targets = loader.get(in_step(step), micro_step)
            expected = source.batch(in_step(step), micro_step)
            assert torch.equal(inputs, expected[0])
            assert torch.equal(targets, expected[1])


def test_the_next_batch_is_read_while_the_caller_computes(make_loader):
    source = SlowSource()
    loader = make_loader(source, ahead=True)
    for number, (step, micro_step) in enumerate(PLACES):
        loader.get(in_step(step), micro_step)
        source.wait_for(2 if number == 0 else 1)  # nobody has asked for the last one yet
        assert [entry[:2] for entry in source.read] == [*PLACES, (6, 0)][: number + 2]
    assert {entry[2] for entry in source.read} == {"batches_0"}


def test_getting_does_not_wait_for_the_batch_after(make_loader):
    source = SlowSource()
    loader = make_loader(source, ahead=True)
    first = loader.get(in_step(0), 0)
    source.wait_for(2)
    source.may_go_on.clear()
    second = loader.get(in_step(0), 1)  # this batch was read ahead; the thread cannot read the one after it
    assert len(source.read) == 2
    source.may_go_on.set()
    assert not torch.equal(first[0], second[0])


def test_any_other_place_can_be_asked_for(make_loader):
    """A resumed run, a step that is made again."""
    source = SlowSource()
    loader = make_loader(source, ahead=True)
    for step, micro_step in [(5, 1), (5, 0), (5, 0), (0, 1), (7, 0), (7, 1)]:
        place = in_step(step), micro_step
        assert torch.equal(loader.get(*place)[0], source.batch(*place)[0])


@pytest.mark.parametrize("ahead", [True, False])
def test_errors_come_with_the_batch_they_belong_to(make_loader, ahead):
    loader = make_loader(SlowSource(fails_at=(1, 0)), ahead=ahead)
    loader.get(in_step(0), 0)
    loader.get(in_step(0), 1)
    with pytest.raises(OSError, match="the disk is gone"):
        loader.get(in_step(1), 0)
    with pytest.raises(OSError, match="the disk is gone"):
        loader.get(in_step(1), 0)


def test_nothing_is_read_ahead_without_a_thread(make_loader):
    source = SlowSource()
    make_loader(source).get(in_step(3), 1)
    assert source.read == [(3, 1, threading.current_thread().name)]


def test_closing_twice(make_loader):
    loader = make_loader(SlowSource(), ahead=True)
    loader.get(in_step(0), 0)
    loader.close()
    loader.close()


@pytest.fixture
def reading_ahead(monkeypatch):
    """Every run reads ahead, as on CUDA."""
    real = BatchLoader.__init__
    monkeypatch.setattr(BatchLoader, "__init__", lambda self, *given, **named: real(self, *given, **named, ahead=True))


@pytest.mark.usefixtures("no_pictures")
def test_run_that_reads_ahead_is_the_same_run(tmp_path, timeless, request):
    def limited(model, inputs, targets):
        if model.training and len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    make_trainer(tmp_path / "plain", steps=8).fit()
    make_trainer(tmp_path / "plain halved", loss=limited, steps=8).fit()
    request.getfixturevalue("reading_ahead")
    make_trainer(tmp_path / "ahead", steps=8).fit()
    make_trainer(tmp_path / "ahead halved", loss=limited, steps=8).fit()
    assert timeless(tmp_path / "plain") == timeless(tmp_path / "ahead")
    assert timeless(tmp_path / "plain halved") == timeless(tmp_path / "ahead halved")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.usefixtures("no_pictures", "reading_ahead")
def test_run_that_fails_leaves_no_thread(tmp_path):
    def loss(model, inputs, targets):
        if model.training:
            assert [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
            raise ZeroDivisionError
        return torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path / "run", loss=loss).fit()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
