"""float16 with loss scaling, on a CPU."""

import json
import math

import pytest
import torch
from bigram_run import loss_fn, make_model, make_trainer, recording, summed_loss

from trainer import load_weights, read_metrics, resolve_dtype
from trainer.devices import devices, peak_flops

pytestmark = pytest.mark.usefixtures("no_pictures")


def weights(run):
    model = make_model(dropout=0.0)
    load_weights(model, sorted((run / "checkpoints").iterdir())[-1])
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


def events(run, event):
    return [record for record in read_metrics(run) if record["event"] == event]


def test_training_equals_a_hand_written_loop_with_torchs_scaler(tmp_path):
    """Scaled gradients, unscaled before clipping, steps left out where they overflow."""
    seen = []
    settings = {"dtype": "float16", "steps": 25, "grad_accumulation_steps": 1, "max_grad_norm": 0.5}
    make_trainer(
        tmp_path / "run", model=make_model(dropout=0.0), loss=recording(seen), lr=lambda step: 1e-2, **settings
    ).fit()
    model = make_model(dropout=0.0)
    optimizer, scaler = torch.optim.AdamW(model.parameters(), lr=1e-2), torch.amp.GradScaler("cpu")
    for inputs, targets in seen:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.float16):
            value = loss_fn(model, inputs, targets)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    expected = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    torch.testing.assert_close(weights(tmp_path / "run"), expected, rtol=0, atol=0)
    assert events(tmp_path / "run", "train")[-1]["loss_scale"] == scaler.get_scale()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["dtype"] == "float16"


def overflowing_loss(model, inputs, targets):
    """A loss whose gradients overflow float16 until the scale is 64 times smaller than at first."""
    return _Limit.apply(loss_fn(model, inputs, targets))


class _Limit(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value

    @staticmethod
    def backward(context, gradient):
        return torch.where(gradient > 1024, torch.inf, gradient)


def test_overflows_reduce_the_scale_and_make_no_update(tmp_path):
    run = tmp_path / "run"
    settings = {"dtype": "float16", "steps": 12, "grad_accumulation_steps": 1, "log_interval": 1}
    summary = make_trainer(run, model=make_model(dropout=0.0), loss=overflowing_loss, **settings).fit()
    skipped = events(run, "skipped")
    assert [record["loss_scale"] for record in skipped] == [2.0**power for power in range(15, 9, -1)]
    assert [record["step"] for record in skipped] == [1, 2, 3, 4, 5, 6]
    assert (summary.status, summary.skipped_steps, summary.diverged) == ("completed", 6, False)
    assert events(run, "train")[-1]["loss_scale"] == 1024.0


@pytest.mark.parametrize(
    ("wrong", "scale"), [(lambda loss: loss + math.inf, 2.0**16), (lambda loss: loss * math.nan, 2.0**15)]
)
def test_gradients_alone_decide_on_the_scale_of_a_skipped_step(tmp_path, wrong, scale):
    """As in torch's GradScaler. An infinite loss may have finite gradients."""
    passes = []

    def loss(model, inputs, targets):
        value = loss_fn(model, inputs, targets)
        passes.append(model.training)
        return wrong(value) if model.training and sum(passes) == 2 else value

    settings = {"dtype": "float16", "on_non_finite": "skip", "steps": 4, "grad_accumulation_steps": 1}
    summary = make_trainer(tmp_path / "run", loss=loss, **settings).fit()
    assert (summary.status, summary.skipped_steps) == ("completed", 1)
    assert [record["loss_scale"] for record in events(tmp_path / "run", "skipped")] == [scale]
    assert events(tmp_path / "run", "train")[-1]["loss_scale"] == scale


def test_the_scale_survives_an_interruption(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    settings = {"dtype": "float16", "grad_accumulation_steps": 1, "log_interval": 1}
    make_trainer(whole, model=make_model(dropout=0.0), loss=overflowing_loss, steps=20, **settings).fit()
    make_trainer(run, model=make_model(dropout=0.0), loss=overflowing_loss, steps=9, **settings).fit()
    make_trainer(run, model=make_model(4, dropout=0.0), loss=overflowing_loss, steps=20, **settings).fit()
    assert torch.equal(weights(run), weights(whole))
    scales = [[record["loss_scale"] for record in events(path, "train")] for path in (run, whole)]
    assert scales[0] == scales[1]


@pytest.mark.parametrize("first", ["float32", "float16"])
def test_the_dtype_may_change_when_a_run_goes_on(tmp_path, first):
    run, second = tmp_path / "run", {"float32": "float16", "float16": "float32"}[first]
    make_trainer(run, steps=6, dtype=first).fit()
    assert make_trainer(run, steps=12, dtype=second).fit().status == "completed"
    assert ("loss_scale" in events(run, "train")[-1]) == (second == "float16")


def test_a_loss_that_is_not_finite_is_still_a_divergence(tmp_path):
    def loss(model, inputs, targets):
        return loss_fn(model, inputs, targets) * (float("nan") if model.training else 1.0)

    assert make_trainer(tmp_path / "run", loss=loss, dtype="float16").fit().status == "diverged"


def test_gradients_that_never_fit_are_a_divergence(tmp_path):
    def loss(model, inputs, targets):
        return _Never.apply(loss_fn(model, inputs, targets))

    summary = make_trainer(tmp_path / "run", loss=loss, dtype="float16").fit()
    assert (summary.status, summary.skipped_steps) == ("diverged", 20)


class _Never(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


def test_losses_that_leave_out_targets_are_scaled_too(tmp_path):
    plain, other = tmp_path / "plain", tmp_path / "counted"
    for run, loss in ((plain, loss_fn), (other, summed_loss)):
        make_trainer(run, model=make_model(dropout=0.0), loss=loss, dtype="float16", steps=10).fit()
    torch.testing.assert_close(weights(other), weights(plain), rtol=0, atol=2e-2)


def test_auto_is_float16_on_cuda_devices_without_bfloat16(monkeypatch):
    monkeypatch.setattr(devices, "_has_fast_bfloat16", lambda device: False)
    assert resolve_dtype("auto", "cuda") == torch.float16
    assert resolve_dtype("auto", "cpu") == resolve_dtype("auto", "mps") == torch.float32
    assert resolve_dtype("float16", "cpu") == torch.float16
    with pytest.raises(ValueError, match="dtype is 'float16' on mps: expected it on CUDA or the CPU"):
        resolve_dtype("float16", "mps")
    with pytest.raises(ValueError, match="dtype is 'half': expected auto, float32, bfloat16 or float16"):
        resolve_dtype("half")


@pytest.mark.parametrize("is_new", [True, False])
def test_bfloat16_needs_a_macos_that_has_it(monkeypatch, is_new):
    """Autocast of torch would compute in float32."""
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: is_new)
    if is_new:
        assert resolve_dtype("bfloat16", "mps") == torch.bfloat16
    else:
        with pytest.raises(ValueError, match="dtype is 'bfloat16' on MPS before macOS 14: expected float32"):
            resolve_dtype("bfloat16", "mps")


def test_peaks_of_devices_without_bfloat16():
    assert peak_flops("Tesla T4", torch.float16) == 65e12
    assert peak_flops("Tesla T4", torch.bfloat16) is None
    assert peak_flops("NVIDIA A100-SXM4-40GB", torch.float16) == 312e12
    assert peak_flops("NVIDIA A100-SXM4-40GB", torch.float32) is None
