r"""Pre-token boundaries of the patterns of GPT-4 (cl100k) and GPT-4o (o200k), by character and by bit masks.

Llama 3, Qwen and Tekken have patterns of the same kinds; `Scanner` lists the differences. The parts of cl100k's:

    '(?i:[sdmt]|ll|ve|re)        a contraction
    [^\r\n\p{L}\p{N}]?\p{L}+     letters, and one other character or white space (but no line break) before them
    \p{N}{1,3}                   up to three digits
     ?[^\s\p{L}\p{N}]+[\r\n]*    other characters, one space before them, and the line breaks after them
    \s*[\r\n]+                   white space up to its last line break
    \s+(?!\S)|\s+                white space, whose last character goes with the text after it

In o200k, a contraction belongs to the word before it, slashes among the line breaks after other characters belong to
these, and letters are divided by case. With U for \p{Lu}\p{Lt}, L for \p{Ll} and B for \p{Lm}\p{Lo}\p{M}, which has no
case and includes marks, a word is [U B]*[L B]+ or, where that does not match, [U B]+.

The masks are those of `gpt2_boundaries.py`, and additions, whose carry moves a bit from the start of a run to its end:

- Line breaks directly after other characters are taken out of the white space, because they belong to these.
- White space starts a pre-token at its first character, after its last line break, and at its last character if other
  text follows.
- Other characters start one, unless the byte before is 0x20, which then starts it.
- Letters start one, unless white space other than a line break, or a single other character that starts a pre-token,
  stands before them. In o200k, so does an uppercase letter after a lowercase one.
- Digits start one at every third digit of a run.
- A contraction ends a pre-token. In o200k its apostrophe does not start one.

Some starts depend on text that the masks do not show: white space that reaches the end of the block and, in o200k,
uppercase letters after letters without case and marks after several other characters. A block ends before the first of
them. If it then has no other start, the end of its pre-token is found character by character.
"""

from __future__ import annotations

import numpy as np

from bpe.kernels.machine.compiling import kernel
from bpe.kernels.machine.operations import BLOCK, byte_masks, equal_mask, range_mask, trailing_zeros
from bpe.kernels.scanning.characters import (
    APOSTROPHE,
    BLANK,
    LINE_FEED,
    RETURN,
    SLASH,
    character_class,
    character_kind,
    character_size,
    contraction_end,
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
from bpe.kernels.scanning.scanner import O200K, Scanner
from bpe.kernels.scanning.unicode_classes import KIND, LETTER, LOWER, MARK, NUMBER, OTHER, UPPER

_UPPER_A = 0x41


@kernel
def _is_word_class(class_: int) -> bool:
    """Return whether characters of a class are letters or marks."""
    return class_ & KIND == LETTER or class_ & MARK != 0


@kernel
def _o200k_word_end(data: np.ndarray, position: int, end: int, classes: np.ndarray) -> int:
    """Return the end of the word of o200k that starts at `position`; `position` if there is none."""
    stop, after_caseless = position, position
    while stop < end:
        class_ = character_class(data, stop, classes)
        if not _is_word_class(class_) or class_ & LOWER:
            break
        stop += character_size(data, stop)
        if not class_ & UPPER:
            after_caseless = stop
    if stop < end and character_class(data, stop, classes) & LOWER:
        while stop < end:
            class_ = character_class(data, stop, classes)
            if not _is_word_class(class_) or class_ & UPPER:
                break
            stop += character_size(data, stop)
        return stop
    # Without a lowercase letter, [L B]+ matches the last character without case. Without that, all are uppercase.
    return after_caseless if after_caseless > position else stop


@kernel
def _letters_end(data: np.ndarray, position: int, end: int, marks_are_letters: int, classes: np.ndarray) -> int:
    """Return the end of the run of letters from `position`."""
    while position < end:
        class_ = character_class(data, position, classes)
        if class_ & KIND != LETTER and not (marks_are_letters and class_ & MARK):
            break
        position += character_size(data, position)
    return position


@kernel
def _word_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the word that starts at `position`; `position` if there is none."""
    if scanner.kind != O200K:
        return _letters_end(data, position, end, scanner.marks_are_letters, classes)
    stop = _o200k_word_end(data, position, end, classes)
    if scanner.contractions and position < stop < end and data[np.uint64(stop)] == APOSTROPHE:
        return contraction_end(data, stop, end, True)
    return stop


@kernel
def _others_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the run of other characters from `position` and of the line breaks after it.

    That is `position` if there is no other character.
    """
    stop = position
    while stop < end:
        class_ = character_class(data, stop, classes)
        if class_ & KIND != OTHER or (scanner.marks_are_letters and class_ & MARK):
            break
        stop += character_size(data, stop)
    if stop > position:
        while stop < end and (is_line_break(data, stop) or (scanner.kind == O200K and data[np.uint64(stop)] == SLASH)):
            stop += 1
    return stop


@kernel
def gpt4_pretoken_end(data: np.ndarray, position: int, end: int, scanner: Scanner, classes: np.ndarray) -> int:
    """Return the end of the pre-token that starts at `position`; the arguments are those of `block_starts`."""
    if scanner.kind != O200K and data[np.uint64(position)] == APOSTROPHE:
        stop = contraction_end(data, position, end, True)
        if stop > position:
            return stop
    stop = _word_end(data, position, end, scanner, classes)
    if stop > position:
        return stop
    if character_kind(data, position, classes) == NUMBER:
        return digits_end(data, position, end, scanner.most_digits, classes)
    after = position + character_size(data, position)
    if not is_line_break(data, position):
        stop = _word_end(data, after, end, scanner, classes)
        if stop > after:
            return stop
    start = after if data[np.uint64(position)] == BLANK else position
    stop = _others_end(data, start, end, scanner, classes)
    if stop > start:
        return stop
    return space_end(data, position, end, scanner.end_is_special, classes)


@kernel
def gpt4_starts(
    data: np.ndarray, position: int, size: int, end: int, scanner: Scanner, classes: np.ndarray
) -> np.uint64:
    """Return a mask of the pre-token starts among the `size` bytes from `position`, as `gpt2_starts` does."""
    is_o200k = scanner.kind == O200K
    letters, digits, spaces, blanks, apostrophes, high = byte_masks(data, position)
    breaks = equal_mask(data, position, LINE_FEED) | equal_mask(data, position, RETURN)
    valid = ALL >> np.uint64(BLOCK - size)
    high &= valid
    upper, caseless, marks, continuing = NONE, NONE, NONE, NONE
    if high != NONE:
        continuing = range_mask(data, position, 0x80, 0x40)
        more_letters, more_digits, more_spaces = kind_masks(data, position, high, continuing, classes)
        letters |= more_letters
        digits |= more_digits
        spaces |= more_spaces
        if is_o200k or scanner.marks_are_letters:
            upper, lower, marks, _, _ = class_masks(data, position, high, continuing, classes)
            letters |= marks
            caseless = letters & high & ~(upper | lower)
    letters &= valid
    digits &= valid
    spaces &= valid
    breaks &= valid
    others = ~(letters | digits | spaces) & valid

    # Line breaks after other characters, and in o200k slashes after these line breaks.
    taken = breaks & (others << ONE)
    if taken != NONE:
        along = breaks | (equal_mask(data, position, SLASH) & valid) if is_o200k else breaks
        taken = along_runs(taken, along)
        others &= ~taken
        spaces &= ~taken
        breaks &= ~taken

    other_starts = runs(others) & ~(blanks << ONE)
    after_first = after_runs(other_starts << ONE, others & continuing)
    attached = letters & after_first
    letter_starts = runs(letters) & ~((spaces & ~breaks) << ONE) & ~attached
    unknown = NONE
    if is_o200k:
        upper |= range_mask(data, position, _UPPER_A, 26) & valid
        letter_starts |= upper & ((letters & ~upper & ~caseless) << ONE)
        unknown = (upper & (caseless << ONE)) | (marks & (others << ONE) & ~attached)
    starts = (
        letter_starts
        | other_starts
        | digit_starts(digits, continuing, scanner.most_digits)
        | space_starts(spaces, breaks, continuing, NONE, valid)
    )

    if is_o200k:
        candidates = apostrophes & (letters << ONE) if scanner.contractions else NONE
    else:
        candidates = apostrophes & (attached >> ONE)
    after = 0
    while candidates != NONE:
        offset = trailing_zeros(candidates)
        candidates &= candidates - ONE
        if is_o200k and offset == after:
            continue  # a word has one contraction, so a second apostrophe starts a pre-token
        start = position + offset
        length = contraction_end(data, start, end, True) - start
        if length > 0:
            after = offset + length
            if is_o200k:
                starts &= ~(((ONE << np.uint64(length)) - ONE) << np.uint64(offset))
            if after < size:
                starts |= ONE << np.uint64(after)
    return known_starts(starts, spaces, valid, unknown)
