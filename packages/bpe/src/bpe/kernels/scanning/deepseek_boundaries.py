r"""Pre-token boundaries of DeepSeek V3's patterns, by character and by bit masks.

The first two of the three patterns split off up to three digits, \p{N}{1,3}, and runs of Chinese characters and kana,
[一-龥぀-ゟ゠-ヿ]+. The third one splits the parts, each for itself:

    [!-/:-@\[-`{-~][A-Za-z]+                  an ASCII symbol and the ASCII letters after it
    [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+      letters and marks, and one character before them that is no symbol
     ?[\p{P}\p{S}]+[\r\n]*                    symbols, one space before them, and the line breaks after them
    \s*[\r\n]+|\s+(?!\S)|\s+                  white space

Control characters and unassigned ones match nothing by themselves; a run of them is a pre-token.

`gpt4_boundaries.py` explains the masks. The differences:

- White space before a digit, a Chinese character or kana ends a part. Its last character goes with the rest of it.
- Only an ASCII symbol and ASCII letters go together. The letters or marks after these start a pre-token.
- A block ends before characters that match nothing by themselves, and before kana that are no letters.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.operations import BLOCK, byte_masks, equal_mask, range_mask
from bpe.kernels.scanning.characters import (
    BLANK,
    LINE_FEED,
    RETURN,
    character_class,
    character_size,
    digits_end,
    is_line_break,
    space_end,
)
from bpe.kernels.scanning.masks import (
    ALL,
    NONE,
    ONE,
    after_runs,
    along_runs,
    class_masks,
    digit_starts,
    kind_masks,
    known_starts,
    runs,
    space_starts,
)
from bpe.kernels.scanning.scanner import Scanner
from bpe.kernels.scanning.unicode_classes import CJK, KIND, LETTER, MARK, NUMBER, SPACE, SYMBOL

_DELETE = 0x7F
_WORD, _END = LETTER, -1


@kernel
def _is_ascii_letter(data: np.ndarray, position: int) -> bool:
    """Return whether the byte at `position` is an ASCII letter."""
    lower = data[np.uint64(position)] | 0x20
    return ord("a") <= lower <= ord("z")


@kernel
def _role(data: np.ndarray, position: int, classes: np.ndarray) -> int:
    """Return _WORD, SYMBOL, SPACE, NUMBER or 0 (none of these), with the bit CJK if the character has it."""
    class_ = character_class(data, position, classes)
    part = class_ & CJK
    if class_ & MARK:
        return _WORD | part
    if class_ & SYMBOL:
        return SYMBOL | part
    return class_ & KIND | part


@kernel
def _roles_end(data: np.ndarray, position: int, end: int, role: int, classes: np.ndarray) -> int:
    """Return the end of the run of characters of one role that starts at `position`."""
    while position < end and _role(data, position, classes) == role:
        position += character_size(data, position)
    return position


@kernel
def deepseek_pretoken_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`; the arguments are those of `block_starts`."""
    role = _role(data, position, classes)
    if role == NUMBER:
        return digits_end(data, position, end, scanner.most_digits, classes)
    part = role & CJK
    after = position + character_size(data, position)
    following = _role(data, after, classes) if after < end else _END
    if following == NUMBER or following & CJK != part:
        following = _END  # of this part
    if role == SYMBOL and following == _WORD and after == position + 1 and _is_ascii_letter(data, after):
        while after < end and _is_ascii_letter(data, after):
            after += 1
        return after
    if role == _WORD | part or (
        following == _WORD | part and role != SYMBOL | part and not is_line_break(data, position)
    ):
        return _roles_end(data, after, end, _WORD | part, classes)
    if role == SYMBOL | part or (following == SYMBOL and data[np.uint64(position)] == BLANK):
        after = _roles_end(data, after, end, SYMBOL | part, classes)
        while part == 0 and after < end and is_line_break(data, after):
            after += 1
        return after
    last, stop = position, after
    while stop < end and _role(data, stop, classes) == role:
        last = stop
        stop += character_size(data, stop)
    following = _role(data, stop, classes) if stop < end else _END
    if role == SPACE:
        part_end = stop if following == NUMBER or following & CJK else end
        return space_end(data, position, part_end, 0, classes)
    # The last character that matches nothing belongs to the letters after it.
    return last if following == _WORD | part and last > position else stop


@kernel
def deepseek_starts(data: np.ndarray, position: int, size: int, scanner: Scanner, classes: np.ndarray) -> np.uint64:
    """Return a mask of the pre-token starts among the `size` bytes from `position`, as `gpt2_starts` does."""
    ascii_letters, digits, spaces, blanks, _, high = byte_masks(data, position)
    breaks = equal_mask(data, position, LINE_FEED) | equal_mask(data, position, RETURN)
    valid = ALL >> np.uint64(BLOCK - size)
    controls = range_mask(data, position, 0, 0x20) | equal_mask(data, position, _DELETE)
    symbols = ~(ascii_letters | digits | spaces | controls | high)
    letters, cjk, continuing = ascii_letters, NONE, NONE
    high &= valid
    if high != NONE:
        continuing = range_mask(data, position, 0x80, 0x40)
        more_letters, more_digits, more_spaces = kind_masks(data, position, high, continuing, classes)
        _, _, marks, more_symbols, cjk = class_masks(data, position, high, continuing, classes)
        letters |= more_letters | marks
        digits |= more_digits
        spaces |= more_spaces
        symbols |= more_symbols
    letters &= valid
    digits &= valid
    spaces &= valid
    breaks &= valid
    symbols &= valid & ~cjk
    unknown = valid & ~(letters | digits | spaces | symbols)

    taken = along_runs(breaks & (symbols << ONE), breaks)
    spaces &= ~taken
    breaks &= ~taken

    symbol_starts = runs(symbols) & ~(blanks << ONE)
    attached = ascii_letters & (symbol_starts << ONE)
    after_attached = after_runs(attached, ascii_letters) & letters
    outside = letters & ~cjk
    return known_starts(
        (runs(outside) & ~((spaces & ~breaks) << ONE) & ~attached)
        | after_attached
        | runs(letters & cjk)
        | symbol_starts
        | digit_starts(digits, continuing, scanner.most_digits)
        | space_starts(spaces, breaks, continuing, digits | cjk, valid),
        spaces,
        valid,
        unknown,
    )
