"""Run the machine code for aarch64 in an emulator and compare its results: python checks/aarch64.py (needs `unicorn`).

The sample is the one with which the package is checked when it is built, and which the machine code for the processor
here also runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import unicorn
from unicorn import arm64_const

from bpe.kernels.machine import machine_code
from bpe.kernels.machine.machine_code import FOLDER, Loaded, MachineCode

PAGE = 4096
STACK = 1 << 20


class EmulatedCode(MachineCode):
    """The functions of a file for aarch64, emulated in the memory of this process."""

    def __init__(self) -> None:
        super().__init__(FOLDER / "aarch64.bin")
        self._emulator = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._pages: set[int] = set()
        kinds = unicorn.UC_HOOK_MEM_UNMAPPED
        self._emulator.hook_add(kinds, self._map_page)
        self._stack = bytearray(STACK)
        self._emulator.mem_map(0x1000_0000, STACK)
        self._end = 0x2000_0000
        self._emulator.mem_map(self._end, PAGE)
        self.calls = 0

    def _map_page(self, emulator: Any, access: int, address: int, size: int, *_: Any) -> bool:
        """Make the pages of an address those of this process, at the same address."""
        for page in {address // PAGE * PAGE, (address + size - 1) // PAGE * PAGE} - self._pages:
            self._pages.add(page)
            emulator.mem_map_ptr(page, PAGE, unicorn.UC_PROT_ALL, page)
        return True

    def function(self, name: str) -> Callable[[Any], int]:
        """Return an entry point that runs in the emulator."""
        begin = self._address + self._offsets[name]

        def call(arguments: Any) -> int:
            from ctypes import addressof

            self.calls += 1
            emulator = self._emulator
            emulator.reg_write(arm64_const.UC_ARM64_REG_X0, addressof(arguments))
            emulator.reg_write(arm64_const.UC_ARM64_REG_SP, 0x1000_0000 + STACK - 64)
            emulator.reg_write(arm64_const.UC_ARM64_REG_LR, self._end)
            emulator.emu_start(begin, self._end)
            # Memory that is freed and mapped anew has other pages next time.
            for page in self._pages:
                emulator.mem_unmap(page, PAGE)
            self._pages.clear()
            result = emulator.reg_read(arm64_const.UC_ARM64_REG_X0)
            return int(result) - (int(result) >> 63 << 64)

        return call


def main() -> int:
    """Compare and return the exit code."""
    code = "from bpe.building.sample import results; print(results())"
    expected = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    emulated = EmulatedCode()
    machine_code.load_machine_code = lambda path="": Loaded(emulated)
    os.environ.pop("BPE_KERNELS", None)
    from bpe.building.sample import results

    same = results() == expected
    print(f"{emulated.calls} calls of kernels for aarch64: {'the same results' if same else 'OTHER RESULTS'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
