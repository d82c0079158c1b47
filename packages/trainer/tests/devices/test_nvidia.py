"""GPUs that are there and cannot be used, of pretended machines."""

import sys

import pytest
import torch

from trainer import resolve_device
from trainer.devices import nvidia
from trainer.distributed import resolve_process_device
from trainer.distributed.rank import Ranks

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: ..."
)
VERSION_FILES = {
    "535.104.05": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC 12\n",
    "580.65.06": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x) Sun Jul 27\n",
}
ON_PURPOSE = r'; or choose the CPU on purpose, with --device cpu \(in Python device="cpu"\)$'
needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="the pretended nvidia-smi is a shell script")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without CUDA, and functions that give it parts of a GPU."""

    class Machine:
        def add_device_file(self):
            (tmp_path / "dev" / "nvidia0").touch()

        def add_driver(self, version):
            (tmp_path / "version").write_text(VERSION_FILES[version])

        def add_nvidia_smi(self, answer, code=0):
            program = tmp_path / "bin" / "nvidia-smi"
            program.write_text(
                f"#!/bin/sh\nwhile IFS= read -r line; do echo \"$line\"; done <<'END'\n{answer}\nEND\nexit {code}\n"
            )
            program.chmod(0o755)

        def set_torch(self, version, cuda, error=None):
            def init():
                if error is not None:
                    raise RuntimeError(error)

            monkeypatch.setattr(torch, "__version__", version)
            monkeypatch.setattr(torch.version, "cuda", cuda)
            monkeypatch.setattr(torch.cuda, "init", init)

    for name in ("dev", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(nvidia, "DEVICE_FILES", tmp_path / "dev")
    monkeypatch.setattr(nvidia, "DRIVER_FILE", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    made = Machine()
    made.set_torch("2.13.0+cpu", None)
    return made


def test_a_machine_without_a_gpu_uses_its_cpu(machine):
    assert resolve_device("auto") == torch.device("cpu")


def test_a_gpu_and_a_torch_without_cuda_are_refused(machine):
    machine.add_device_file()
    machine.add_driver("535.104.05")
    with pytest.raises(ValueError, match=ON_PURPOSE) as refused:
        resolve_device("auto")
    assert "GPU that torch cannot use, and the device is 'auto': found " in str(refused.value)
    for part in (
        "dev/nvidia0, driver 535.104.05",
        "torch 2.13.0+cpu is built without CUDA (torch.version.cuda is None)",
        "install a build of torch for CUDA 12",
    ):
        assert part in str(refused.value)
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_driver_that_is_too_old_is_named_with_both_remedies(machine):
    machine.add_device_file()
    machine.add_driver("535.104.05")
    machine.set_torch("2.13.0", "13.0", TOO_OLD)
    with pytest.raises(ValueError, match=ON_PURPOSE) as refused:
        resolve_device("auto")
    assert (
        "driver 535.104.05, and torch 2.13.0 is built for CUDA 13.0, but cannot begin to use it (The NVIDIA driver on "
        "your system is too old (found version 12020)): CUDA 13 needs driver 580 or newer, so update the driver, or "
        "install a build of torch for CUDA 12"
    ) in str(refused.value)


@needs_scripts
def test_nvidia_smi_alone_is_evidence_and_knows_the_driver(machine):
    machine.add_nvidia_smi("NVIDIA H100 80GB HBM3, 550.54.14\nNVIDIA H100 80GB HBM3, 550.54.14")
    with pytest.raises(
        ValueError, match=r"found NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3, driver 550\.54\.14, and"
    ):
        resolve_device("auto")


@needs_scripts
def test_nvidia_smi_that_fails_is_quoted(machine):
    machine.add_nvidia_smi("NVIDIA-SMI has failed because it could not talk to the driver.\nMake sure", code=9)
    with pytest.raises(ValueError, match=r"nvidia-smi with the answer .NVIDIA-SMI has failed because .* the driver\."):
        resolve_device("auto")


@needs_scripts
def test_nvidia_smi_that_lists_nothing_is_no_gpu(machine):
    machine.add_nvidia_smi("No devices were found", code=6)
    assert resolve_device("auto") == torch.device("cpu")


def test_a_new_driver_and_no_device_hint_at_the_container(machine):
    machine.add_device_file()
    machine.add_driver("580.65.06")
    machine.set_torch("2.13.0", "13.0")
    with pytest.raises(
        ValueError, match=r"driver 580\.65\.06, and torch 2\.13\.0 .* sees no device: .* --gpus all; or"
    ):
        resolve_device("auto")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_on_purpose_do_not_count(machine, monkeypatch, hidden):
    machine.add_device_file()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES=7"):
        resolve_device("auto")


def test_a_cuda_device_that_is_asked_for_by_name_is_explained_too(machine):
    machine.add_device_file()
    with pytest.raises(ValueError, match=r"'cuda' is not available here: expected auto or one of cpu; found .*nvidia0"):
        resolve_device("cuda")


def test_several_processes_do_not_fall_back_either(machine):
    machine.add_device_file()
    with pytest.raises(ValueError, match="GPU that torch cannot use"):
        resolve_process_device("auto", Ranks(0, 2, 0))
    assert resolve_process_device("cpu", Ranks(0, 2, 0)) == torch.device("cpu")


@pytest.mark.parametrize("version", VERSION_FILES)
def test_the_kernel_knows_the_driver(machine, version):
    machine.add_driver(version)
    assert nvidia._driver_of_the_kernel() == version


@needs_scripts
def test_the_version_of_the_driver(machine):
    assert nvidia.driver_version() == ""
    machine.add_driver("535.104.05")
    assert nvidia.driver_version() == "535.104.05"
    machine.add_nvidia_smi("NVIDIA H100 80GB HBM3, 580.65.06")
    assert nvidia.driver_version() == "580.65.06"
