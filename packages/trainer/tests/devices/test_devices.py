import pytest
import torch

from trainer import resolve_device, resolve_dtype
from trainer.devices.devices import autocast, device_name, fast_matrix_products, peak_memory_bytes
from trainer.devices.flops import peak_flops


def pretend(monkeypatch, accelerator):
    """Make torch say that this is its accelerator."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator is not None)
    device = None if accelerator is None else torch.device(accelerator)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)


@pytest.mark.parametrize("accelerator", ["cuda", "mps", None])
def test_auto_is_the_accelerator_or_else_the_cpu(monkeypatch, accelerator):
    pretend(monkeypatch, accelerator)
    assert resolve_device("auto") == torch.device(accelerator or "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_an_accelerator_that_was_never_tried_is_not_taken(monkeypatch):
    pretend(monkeypatch, "xpu")
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps", "", "cuda:1"])
def test_absent_devices_are_refused(monkeypatch, name):
    pretend(monkeypatch, None)
    with pytest.raises(ValueError, match=f"device '{name}' is not available here: expected auto or one of cpu"):
        resolve_device(name)


def test_cuda_index_beyond_the_machine_is_refused(monkeypatch):
    pretend(monkeypatch, "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' does not exist: this machine has 2 CUDA device"):
        resolve_device("cuda:2")


def test_dtype(monkeypatch):
    assert resolve_dtype("auto", "mps") == torch.float32
    assert resolve_dtype("bfloat16") == torch.bfloat16
    assert resolve_dtype("float32", "cuda") == torch.float32
    for supported, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert resolve_dtype("auto", "cuda") == expected
    with pytest.raises(ValueError, match="dtype is 'float64': expected auto, float32, bfloat16 or float16"):
        resolve_dtype("float64")


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_auto_dtype_of_a_cpu_follows_its_instructions(monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_dtype("auto", "cpu") == (torch.bfloat16 if avx512 or amx else torch.float32)


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [("cuda", torch.bfloat16, "high"), ("cuda", torch.float32, "highest"), ("cpu", torch.bfloat16, "highest")],
)
def test_tf32_only_where_bfloat16_was_asked_for(device, dtype, expected):
    assert torch.get_float32_matmul_precision() == "highest"
    with fast_matrix_products(torch.device(device), dtype):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("AMD EPYC", None),
    ],
)
def test_peaks_are_known_or_not_given(name, teraflops):
    assert peak_flops(name, torch.bfloat16) == (None if teraflops is None else teraflops * 1e12)
    assert peak_flops(name, torch.float32) is None


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
