"""Linking of one ELF object file to an image that runs at any address: its bytes, with the relocations applied.

The sections of an object file lie in the file with the alignment they need. They become the image as they lie there, so
that only references between sections remain to be filled in. Source: System V Application Binary Interface, and its
supplements for x86-64 and AArch64.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_ALLOCATED, _WRITABLE = 2, 1
_SYMBOLS, _RELOCATIONS, _NO_CONTENT = 2, 4, 8
_X86_PC32, _X86_PLT32 = 2, 4
_ARM_PAGE, _ARM_ADD = 275, 277
# Loads and stores: type of the relocation to the logarithm of the number of bytes.
_ARM_ACCESS = {278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
_PAGE = 4096


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Image(NamedTuple):
    """Bytes that run at any address that is a multiple of 4,096, and where the visible functions begin."""

    data: bytes
    functions: dict[str, int]


def link(object_file: bytes) -> Image:
    """Link an object file that refers to nothing outside itself.

    Raises:
        ValueError: If it does, has data that code writes to, or needs an unknown relocation.
    """
    data = bytearray(object_file)
    (first_header,) = struct.unpack_from("<Q", data, 0x28)
    size, number = struct.unpack_from("<HH", data, 0x3A)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, first_header + size * i)) for i in range(number)]
    placed = [section for section in sections if section.flags & _ALLOCATED and section.size]
    if any(section.flags & _WRITABLE or section.kind == _NO_CONTENT for section in placed):
        raise ValueError("the kernels write to data of their own")
    (table,) = (section for section in sections if section.kind == _SYMBOLS)
    symbols = [struct.unpack_from("<IBBHQQ", data, at) for at in range(table.offset, table.offset + table.size, 24)]
    names = sections[table.link].offset
    functions = {}
    for name, info, _, section, value, _ in symbols:
        if info >> 4 == 0:  # local
            continue
        begin = names + name
        text = data[begin : data.index(0, begin)].decode("ascii")
        if section == 0:
            raise ValueError(f"the kernels need {text!r} from another library")
        functions[text] = sections[section].offset + value
    for section in sections:
        if section.kind == _RELOCATIONS and sections[section.info] in placed:
            for at in range(section.offset, section.offset + section.size, 24):
                offset, symbol_and_kind, addend = struct.unpack_from("<QQq", data, at)
                _, _, _, index, value, _ = symbols[symbol_and_kind >> 32]
                target = sections[index].offset + value + addend
                _relocate(data, sections[section.info].offset + offset, target, symbol_and_kind & 0xFFFFFFFF)
    return Image(bytes(data[: max(section.offset + section.size for section in placed)]), functions)


def _relocate(data: bytearray, place: int, target: int, kind: int) -> None:
    """Fill in a reference at `place` to `target`, both offsets in the image."""
    if kind in (_X86_PC32, _X86_PLT32):
        struct.pack_into("<i", data, place, target - place)
        return
    (instruction,) = struct.unpack_from("<I", data, place)
    if kind == _ARM_PAGE:
        pages = target // _PAGE - place // _PAGE
        instruction |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind == _ARM_ADD or kind in _ARM_ACCESS:
        instruction |= (target % _PAGE >> _ARM_ACCESS.get(kind, 0)) << 10
    else:
        raise ValueError(f"the kernels need a relocation of type {kind}, which is unknown here")
    struct.pack_into("<I", data, place, instruction)
