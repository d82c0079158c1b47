"""Runs on a CUDA device; run by `pytest -m gpu` where there is one."""

import numpy as np
import pytest
import torch
from bigram_run import CONFIG, loss_fn, make_model, make_tokens, schedule

from trainer import TokenDataset, TrainConfig, Trainer, read_metrics
from trainer.checkpoints.background import SnapshotBuffers
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.loader import BatchLoader
from trainer.data.splits import TokenSplit
from trainer.distributed.parallel import Parallel
from trainer.distributed.processes import Processes
from trainer.training.step import TrainingStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # its advice, for products in float32
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_run_learns_and_is_recorded(tmp_path, mode, dtype):
    model = make_model()
    config = TrainConfig(**{**CONFIG, "device": "cuda", "dtype": dtype, "compile": mode})
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = make_tokens()
    summary = Trainer(
        model, optimizer, loss_fn, tokens[:2500], tokens[2500:], config, schedule, tmp_path / "run", loggers=[]
    ).fit()
    losses = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert summary.status == "completed"
    assert losses[-1] < losses[0]
    assert next(model.parameters()).device.type == "cuda"


@pytest.mark.parametrize("sampling", ["random", "shuffled"])
def test_batches_that_are_copied_meanwhile_are_those_of_the_source(tmp_path, sampling):
    """Long computations let the copies and the reuse of their memory run ahead of who reads them."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 60_000, 1_000_000).astype(np.uint16))
    config = TrainConfig(steps=1, batch_size=64, context_length=512, grad_accumulation_steps=2, sampling=sampling)
    source = BatchSource(TokenSplit(TokenDataset(tmp_path / "x.npy"), "x"), config)
    loader, matrix = BatchLoader(source, torch.device("cuda")), torch.randn(4096, 4096, device="cuda")
    sums = []
    for step in range(30):
        for micro_step in range(2):
            inputs, targets = loader.get(StepBatches(2 * step, 2), micro_step)
            matrix = torch.tanh(matrix @ matrix)  # keeps the device busy, so that the batch is read later
            sums.append((inputs * 3 + targets).sum())
            del inputs, targets
    loader.close()
    expected = [
        (3 * batch[0] + batch[1]).sum().item()
        for batch in (
            source.batch(StepBatches(2 * step, 2), micro_step) for step in range(30) for micro_step in range(2)
        )
    ]
    assert torch.stack(sums).tolist() == expected


def test_a_step_never_waits_for_the_device():
    model, config = make_model().cuda(), TrainConfig(**{**CONFIG, "device": "cuda"})
    device = torch.device("cuda")
    loader = BatchLoader(BatchSource(TokenSplit(make_tokens(), "x"), config), device)
    optimizer = torch.optim.AdamW(model.parameters())
    step = TrainingStep(Parallel(model, optimizer, Processes(), device), loss_fn, loader, config, device, torch.float32)
    step.compute_gradients(0, StepBatches(0, 2))
    step.apply()  # makes the optimizer's state
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 5):
            step.compute_gradients(number, StepBatches(2 * number, 2))
            step.apply()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        loader.close()


def test_out_of_memory_halves_the_micro_batch(tmp_path):
    """There is room for two windows and not for four, because so much is taken away from the process."""
    model, needed = make_model(), 1 << 30

    def loss(model, inputs, targets):
        if model.training:
            torch.empty(len(inputs) * needed, dtype=torch.uint8, device="cuda")
        return loss_fn(model, inputs, targets)

    config = TrainConfig(**{**CONFIG, "device": "cuda", "steps": 10})
    tokens, optimizer = make_tokens(), torch.optim.AdamW(model.parameters())
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3 * needed / torch.cuda.get_device_properties(0).total_memory)
    try:
        Trainer(model, optimizer, loss, tokens, tokens, config, schedule, tmp_path / "run", loggers=[]).fit()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    halved = [record for record in read_metrics(tmp_path / "run") if record["event"] == "halved"]
    assert [(record["step"], record["micro_batch_size"]) for record in halved] == [(1, 2)]


def test_copies_from_a_gpu_are_of_the_moment_they_were_asked_for():
    """The device is kept busy, so that the copy is queued; updates are queued behind it."""
    buffers = SnapshotBuffers()
    weight, busy = torch.full((4096, 1024), 1.0, device="cuda"), torch.rand(4096, 4096, device="cuda")
    for value in (1.0, 2.0, 3.0):
        for _ in range(50):
            busy = (busy @ busy).div_(4096)
        taken = buffers.copy({"weight": weight, "cpu": torch.tensor(value)})
        weight.add_(1.0)
        buffers.wait()
        assert taken["weight"].is_pinned()
        assert taken["weight"].eq(value).all()
        assert taken["cpu"] == value
