"""Steps that run out of memory are made again in smaller micro-batches, as if these had been used from the start."""

import gc
import weakref

import numpy as np
import pytest
import torch
from bigram_run import CONFIG, VOCAB_SIZE, Notices, loss_fn, make_model, make_tokens, make_trainer, schedule
from torch import nn

from trainer import TrainConfig, read_metrics
from trainer.checkpoints import NumpyStateReader, get_random_states, same_random_states
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.loader import BatchLoader
from trainer.data.splits import TokenSplit
from trainer.data.windows import batch_generator, get_batch
from trainer.devices.devices import is_out_of_memory
from trainer.distributed.parallel import Parallel
from trainer.distributed.processes import Processes
from trainer.training.step import TrainingStep, largest_part

pytestmark = pytest.mark.usefixtures("no_pictures")


class FailsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nlong story")


def limited_loss(limit, *, begin=0, backward=False):
    """A loss that runs out of memory above `limit` windows, from training pass `begin` on, after its random draws."""
    passes = []

    def loss(model, inputs, targets):
        value = loss_fn(model, inputs, targets)
        passes.append(len(inputs))
        if model.training and len(passes) > begin and len(inputs) > limit:
            if backward:
                return FailsInBackward.apply(value)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nlong story")
        return value

    loss.passes = passes
    return loss


def train_by_hand(rows_at):
    """Train in a plain loop whose step s makes passes of `rows_at(s)` windows."""
    torch.manual_seed(CONFIG["seed"])
    model, tokens = make_model(), make_tokens()
    torch.manual_seed(CONFIG["seed"])
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(20):
        optimizer.zero_grad()
        rows = rows_at(step)
        for micro_step in range(2):
            inputs, targets = get_batch(tokens, 4, 8, "cpu", batch_generator(CONFIG["seed"], step, micro_step))
            for begin in range(0, 4, rows):
                part = slice(begin, begin + rows)
                (loss_fn(model, inputs[part], targets[part]) / (2 * 4 // rows)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
    return model


def assert_same_weights(first, second):
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("limit", "rows"), [(3, 2), (2, 2), (1, 1)])
def test_run_goes_on_in_smaller_micro_batches(tmp_path, limit, rows, backward):
    model, notices = make_model(), Notices()
    # The second pass of step 15, when the gradients of the first are there already; an evaluation comes before.
    loss = limited_loss(limit, begin=17 + 2 * 14 + 1, backward=backward)
    summary = make_trainer(tmp_path / "run", model=model, loss=loss, loggers=[notices], steps=20).fit()
    assert summary.status == "completed"
    assert_same_weights(model, train_by_hand(lambda step: 4 if step < 14 else rows))
    halvings = [message for message in notices.messages if "memory" in message]
    assert halvings[-1] == (
        "out of memory in step 15 (CUDA out of memory. Tried to allocate 2.00 GiB): micro-batches of "
        f"{rows} instead of {2 * rows} windows from here on, the tokens per step stay the same"
    )
    assert len(halvings) == {2: 1, 1: 2}[rows]
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "halved"]
    assert [(record["step"], record["micro_batch_size"]) for record in records] == [(15, 2), (15, 1)][: len(halvings)]
    assert summary.tokens == 64 * 20


def test_result_is_that_of_whole_batches_up_to_rounding(tmp_path):
    def make_plain():
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(VOCAB_SIZE, 16), nn.Linear(16, VOCAB_SIZE)).double()

    whole, halved = make_plain(), make_plain()
    optimizers = [torch.optim.SGD(model.parameters()) for model in (whole, halved)]
    make_trainer(tmp_path / "whole", model=whole, optimizer=optimizers[0], steps=20).fit()
    make_trainer(tmp_path / "halved", model=halved, optimizer=optimizers[1], loss=limited_loss(1), steps=20).fit()
    for ours, theirs in zip(whole.parameters(), halved.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    losses = [
        [record["loss"] for record in read_metrics(tmp_path / name) if record["event"] == "train"]
        for name in ("whole", "halved")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


class Crash(BaseException):
    pass


@pytest.mark.parametrize("crash", [13, 15, 22])
def test_resume_goes_on_with_the_smaller_micro_batches(tmp_path, timeless, crash):
    """Step 18 saves the smaller size; a run that resumes before it runs out of memory again in step 14."""
    whole, resumed, passes = make_model(), make_model(9), 17 + 2 * 13

    def crashing_schedule(step):
        if step == crash:
            raise Crash
        return schedule(step)

    make_trainer(tmp_path / "whole", model=whole, loss=limited_loss(2, begin=passes), steps=25).fit()
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=limited_loss(2, begin=passes), lr=crashing_schedule, steps=25).fit()
    loss, notices = limited_loss(2, begin=0 if crash == 22 else 2), Notices()
    make_trainer(tmp_path / "run", model=resumed, loss=loss, loggers=[notices], steps=25).fit()
    assert len([message for message in notices.messages if "memory" in message]) == (0 if crash == 22 else 1)
    assert_same_weights(whole, resumed)
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "run")
    assert [record["event"] for record in read_metrics(tmp_path / "run")].count("halved") == 1


def test_what_failed_is_let_go_before_the_next_try(tmp_path):
    """An error keeps the tensors alive of the frames that it came through."""
    failed, alive = [], []

    def loss(model, inputs, targets):
        if model.training and len(inputs) > 2:
            activations = torch.zeros(10)
            failed.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        if model.training:
            alive.append(failed[0]() is not None)
        return loss_fn(model, inputs, targets)

    gc.disable()
    try:
        make_trainer(tmp_path / "run", loss=loss, steps=1).fit()
    finally:
        gc.enable()
    assert (len(failed), alive) == (1, [False] * 4)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("HIP out of memory"), None])
def test_one_window_that_does_not_fit(tmp_path, error):
    def loss(model, inputs, targets):
        if model.training:
            torch.empty(10**15) if error is None else None
            raise error
        return loss_fn(model, inputs, targets)

    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"out of memory with one window in a forward pass: choose a smaller context_length or model, or another "
        r"device \(.*(HIP out of memory|can't allocate memory)",
    ) as caught:
        make_trainer(tmp_path / "run", loss=loss).fit()
    assert "\n" not in str(caught.value)


def test_halving_can_be_forbidden(tmp_path):
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory"):
        make_trainer(tmp_path / "run", loss=limited_loss(2), halve_on_out_of_memory=False).fit()


def test_other_errors_are_not_out_of_memory(tmp_path):
    def loss(model, inputs, targets):
        if model.training:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return loss_fn(model, inputs, targets)

    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        make_trainer(tmp_path / "run", loss=loss).fit()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("anything"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_count(error, expected):
    assert is_out_of_memory(error) is expected


def test_compiled_loss_without_memory_is_no_failure_of_the_compiler(tmp_path, monkeypatch):
    seen = []

    def compile_(function, **options):
        def compiled(model, inputs, targets):
            seen.append(len(inputs))
            return limited_loss(2)(model, inputs, targets)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    make_trainer(tmp_path / "run", compile="on", steps=3).fit()
    assert seen == [4] + [2] * 13, "one of them checks the new size"


def test_the_eager_pass_of_the_check_takes_less_memory_if_it_must(tmp_path, monkeypatch, timeless):
    """The compiled loss fits where the eager one does not, whose gradients are then those of parts of the batch."""
    eager, compiled = limited_loss(1), make_trainer(tmp_path / "off").loss_fn
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled)
    settings = {"steps": 3, "halve_on_out_of_memory": False}
    make_trainer(tmp_path / "on", loss=eager, compile="on", model=make_model(dropout=0.0), **settings).fit()
    assert [rows for rows in eager.passes if rows > 1][:4] == [4] * 4, "the first evaluation and the first try"
    make_trainer(tmp_path / "off", model=make_model(dropout=0.0), **settings).fit()
    assert timeless(tmp_path / "on") == timeless(tmp_path / "off")


def test_several_processes_do_not_halve():
    """The other processes would wait for gradients that never come."""
    model, config = make_model(), TrainConfig(**CONFIG)
    loader = BatchLoader(BatchSource(TokenSplit(make_tokens(), "x"), config, 0, 4), torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters())
    parallel = Parallel(model, optimizer, Processes(), torch.device("cpu"))
    step = TrainingStep(parallel, limited_loss(1), loader, config, torch.device("cpu"), torch.float32)
    with pytest.raises(
        torch.OutOfMemoryError, match=r"with 2 windows in a forward pass of each of 4 processes: choose"
    ):
        step.compute_gradients(0, StepBatches(0, 2))


@pytest.mark.parametrize(
    ("rows", "limit", "expected"), [(8, 4, 4), (6, 3, 3), (3, 1, 1), (9, 4, 3), (7, 3, 1), (8, 100, 8), (8, 0, 1)]
)
def test_parts_of_a_batch(rows, limit, expected):
    assert largest_part(rows, limit) == expected


def test_numpy_states_are_read_anew_after_every_draw():
    """NumPy keeps every second normal number for the next call, which then changes nothing but that."""
    reader, draws = NumpyStateReader(), [lambda: None, np.random.rand, np.random.randn, lambda: np.random.seed(3)]
    rare = [lambda: np.random.rand(2000), lambda: np.random.set_state(np.random.get_state())]
    for draw in np.random.default_rng(0).choice([*draws, *rare], size=100):
        draw()
        state = get_random_states()["numpy"]
        assert same_random_states(reader.read(), state)
        assert same_random_states(reader.read(), state)


def test_numpy_states_that_nothing_has_changed_are_read_once(monkeypatch):
    reader = NumpyStateReader()
    np.random.seed(0)
    state = reader.read()
    monkeypatch.setattr(np.random, "get_state", None)
    assert reader.read() is state
