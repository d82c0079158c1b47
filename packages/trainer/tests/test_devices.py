import pytest
import torch

from trainer import resolve_device, resolve_dtype
from trainer.devices import autocast, device_name, peak_memory_bytes


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps", "", "cuda:1"])
def test_absent_devices_are_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device '{name}' is not available here: expected auto or one of cpu"):
        resolve_device(name)


def test_cuda_index_beyond_the_machine_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' does not exist: this machine has 2 CUDA device"):
        resolve_device("cuda:2")


def test_dtype(monkeypatch):
    assert resolve_dtype("auto", "cpu") == torch.float32
    assert resolve_dtype("bfloat16") == torch.bfloat16
    assert resolve_dtype("float32", "cuda") == torch.float32
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert resolve_dtype("auto", "cuda") == expected
    with pytest.raises(ValueError, match="dtype is 'float16': expected auto, float32 or bfloat16"):
        resolve_dtype("float16")


def test_autocast_computes_in_bfloat16_only_when_asked():
    cpu, matrix = torch.device("cpu"), torch.ones(2, 2)
    with autocast(cpu, torch.bfloat16):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(cpu, torch.float32):
        assert (matrix @ matrix).dtype == torch.float32


def test_the_machine_is_described():
    assert device_name(torch.device("cpu"))
    peak = peak_memory_bytes(torch.device("cpu"))
    assert peak is None or 10**7 < peak < 10**12
