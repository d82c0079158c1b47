"""Differences between CUDA, MPS and the CPU."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from trainer.devices.nvidia import unusable_gpu

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of a name; "auto" is CUDA if available, then MPS, then the CPU.

    Raises:
        ValueError: If the name is no device, or this machine does not have it. Also if the name is "auto" and would be
            the CPU, but the machine has an NVIDIA GPU that torch cannot use.
    """
    available = _available_devices()
    if name == "auto":
        if available == ["cpu"] and (problem := unusable_gpu()) is not None:
            raise ValueError(
                "this machine has an NVIDIA GPU that torch cannot use, and the device is 'auto': "
                f'{problem}; or choose the CPU on purpose, with --device cpu (in Python device="cpu")'
            )
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in available:
        problem = unusable_gpu() if device is not None and device.type == "cuda" else None
        more = "" if problem is None else f"; {problem}"
        raise ValueError(f"device {name!r} is not available here: expected auto or one of {', '.join(available)}{more}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} does not exist: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def resolve_dtype(name: str = "auto", device: torch.device | str | None = None) -> torch.dtype:
    """Return the dtype to compute in; "auto" is bfloat16 where the device has instructions for it.

    CUDA devices have them from compute capability 8.0 on, and processors with AVX512-BF16 or AMX. On older CUDA
    devices, such as T4 and V100, "auto" is float16; on other devices it is float32.

    Args:
        name: "auto", "float32", "bfloat16" or "float16".
        device: The device to compute on; None means `resolve_device("auto")`.

    Raises:
        ValueError: If the name is none of these, or the device cannot compute in the dtype or scale losses, which
            float16 needs.
    """
    if name not in ("auto", *_DTYPES):
        raise ValueError(f"dtype is {name!r}: expected auto, float32, bfloat16 or float16")
    where = resolve_device() if device is None else torch.device(device)
    if name == "auto":
        slow = "float16" if where.type == "cuda" else "float32"
        name = "bfloat16" if _has_fast_bfloat16(where) else slow
    if name == "float16" and where.type not in ("cuda", "cpu"):
        raise ValueError(f"dtype is 'float16' on {where}: expected it on CUDA or the CPU; use float32 here")
    # Autocast of torch would fall back to float32 with only a warning.
    if name == "bfloat16" and where.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise ValueError("dtype is 'bfloat16' on MPS before macOS 14: expected float32; use it, or a newer macOS")
    return _DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which forward passes compute in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextmanager
def fast_matrix_products(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Use TF32 on CUDA for products that autocast leaves in float32; with dtype float32 they stay exact."""
    if device.type != "cuda" or dtype == torch.float32:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, so that the clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device, or on the CPU the host, has no memory for a tensor."""
    # MPS and the CPU raise plain RuntimeErrors.
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
    )


def free_cached_memory(device: torch.device) -> None:
    """Free the allocator's cached blocks, which may have the wrong sizes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the peak memory so far in bytes: of tensors on CUDA, of the process elsewhere; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """Return the device's model name, such as "NVIDIA H100 80GB HBM3" or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _available_devices() -> list[str]:
    """Return the types of device of this machine, the fastest first."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ([accelerator.type] if accelerator is not None and accelerator.type in ("cuda", "mps") else []) + ["cpu"]


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Private functions of torch; without them only speed is lost.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
