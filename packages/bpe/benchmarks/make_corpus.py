"""Write a text file for measurements: made-up words like TinyStories or OpenWebText at full size, Russian, or code.

    python make_corpus.py tinystories|openwebtext|russian|code SIZE OUT        (SIZE such as 50MB or 11.9GB)

`tinystories` has about 60,000 distinct pre-tokens. In `openwebtext` their number grows with the bytes n like
3.45 n^0.62, as it does in OpenWebText, with curly quotes, dashes, digits, capitalized and non-ASCII words. `russian`
draws real words by their frequency from the lists of the package wordfreq, 700,000 with all their forms, into sentences
of made-up order. `code` joins the Python files of the standard library and of the installed packages. The same
arguments write the same file (`code` with the same packages); memory is bounded by the vocabulary and 100 MB.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

WIDTH = 16  # bytes per row of the table of fragments, padded with zeros that are finally deleted
SLOTS = 14  # of a sentence: an opening, words and punctuation, a closing
SLOT_BYTES = {"tinystories": 3.4, "openwebtext": 4.2}  # measured averages
LARGEST_BATCH = 1 << 14  # sentences made at a time
TINYSTORIES_PRETOKENS = 60_000
OTHER_BYTES = 2_000_000
SEPARATOR = "\n<|endoftext|>\n"
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

Rows = np.ndarray  # uint8, shape (rows, WIDTH)


def rows_of(fragments: list[str]) -> Rows:
    """Return text fragments as rows."""
    return np.array([fragment.encode() for fragment in fragments], dtype=f"S{WIDTH}").view(np.uint8).reshape(-1, WIDTH)


OPENINGS = {"tinystories": ["", "", ' "Oh,'], "openwebtext": ["", "", "", " “We", " “I", " “The", " (It", " —", " -"]}
CLOSINGS = {
    "tinystories": [*[".", ".", ".", "!", "?"] * 2, ".", ".", '."', ".\n", ".\n\n", ".\n<|endoftext|>\n"],
    "openwebtext": [".", ".", ".", ".", ".", "?", "!", ".”", "…", ":", ".\n\n", ".\n\n", ".”\n\n"],
}
SIGNS = {
    "tinystories": [",", ",", ",", " and", " the", " was"],
    "openwebtext": [*",,,,;)”%", "\u2019s", "\u2019t", "'s", " \u2013", " —", " “", " (", "...", " $", "/"],
}
DOCUMENT_END = {"tinystories": None, "openwebtext": "\n<|endoftext|>\n"}
SENTENCES_IN_DOCUMENT = 90


def syllables(numbers: np.ndarray, onsets: str, vowels: list[str], codas: list[str]) -> list[np.ndarray]:
    """Spell the digits of numbers as syllables: arrays of bytes of shape (numbers, 4), padded with zeros."""
    table = np.array([(o + v + c).encode() for o in onsets for v in vowels for c in codas], dtype="S4")
    base = len(table)
    parts: list[np.ndarray] = []
    first = 0
    rest = numbers
    # Numbers below `base` have one syllable, the next base**2 two, and so on, in scrambled order.
    for count in (1, 2, 3):
        inside = (rest >= 0) & (rest < base**count)
        scrambled = np.where(inside, (rest * 7919 + 13 * count) % base**count, 0)
        for place in range(count):
            part = np.where(inside, table[scrambled // base**place % base], b"")
            if len(parts) <= place:
                parts.append(part)
            else:
                parts[place] = np.where(inside, part, parts[place])
        first += base**count
        rest = numbers - first
    return [part.astype("S4").view(np.uint8).reshape(-1, 4) for part in parts]


def compacted(rows: np.ndarray) -> Rows:
    """Move the zeros of each row to its end and extend it to the usual width."""
    order = np.argsort(rows == 0, axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)[:, :WIDTH]
    return np.pad(rows, ((0, 0), (0, WIDTH - rows.shape[1])))


def spell(ids: np.ndarray, plain: bool) -> Rows:
    """Return the fragment of each word id with its space; of every 20, unless plain, 4 are unusual words."""
    # The very short words are fewer in stories.
    numbers = ids + 300 * plain
    spelled = syllables(numbers, "bcdfghjklmnprstvwz", ["a", "e", "i", "o", "u"], ["", "n", "s", "r", "l"])
    words = np.concatenate([np.full((len(ids), 1), ord(" "), np.uint8), *spelled], axis=1)
    kind = ids % 20
    capital = (kind == 14) | (kind == 15)
    words[capital, 1] ^= 0x20
    if not plain:
        foreign = np.flatnonzero(kind == 18)
        words[foreign, 1:] = np.concatenate(
            syllables(ids[foreign] // 20, "bdgklmnprt", [*"éöüñж"], ["", "n", "r"]), axis=1
        )
        figures = np.flatnonzero(kind == 17)
        digits = np.array([f"{id_ // 20 * 7919 % 10**7}" for id_ in ids[figures].tolist()], dtype="S12")
        words[figures, 1:] = digits.view(np.uint8).reshape(-1, 12)
    return compacted(words)


def distinct_pretokens(size: float) -> int:
    """Return the number of distinct pre-tokens in the first `size` bytes of OpenWebText."""
    return int(3.45 * size**0.62)


class Writer:
    """Generates sentences in batches."""

    def __init__(self, kind: str, size: int) -> None:
        self._kind = kind
        self._random = np.random.default_rng(2026)
        self._fixed = {"opening": OPENINGS[kind], "closing": CLOSINGS[kind], "sign": SIGNS[kind]}
        self._end = DOCUMENT_END[kind]
        fixed = ["", *OPENINGS[kind], *CLOSINGS[kind], *SIGNS[kind], *([self._end] if self._end else [])]
        self._first = len(fixed)
        growing = kind == "openwebtext"
        most = int(1.1 * distinct_pretokens(size)) + 50_000 if growing else TINYSTORIES_PRETOKENS
        self._table = np.zeros((self._first + most, WIDTH), dtype=np.uint8)
        self._table[: self._first] = rows_of(fixed)
        self._known = 0
        if not growing:
            self._learn(TINYSTORIES_PRETOKENS)

    def _learn(self, known: int) -> None:
        """Spell the words up to a number."""
        known = min(known, len(self._table) - self._first)
        for start in range(self._known, known, 1 << 16):
            ids = np.arange(start, min(known, start + (1 << 16)))
            self._table[self._first + ids] = spell(ids, self._kind == "tinystories")
        self._known = max(known, self._known)

    def _rows(self, which: str) -> np.ndarray:
        """Return the rows of the table with openings, closings or punctuation."""
        names = list(self._fixed)
        first = 1 + sum(len(self._fixed[name]) for name in names[: names.index(which)])
        return np.arange(first, first + len(self._fixed[which]))

    def _bytes(self, *shape: int) -> np.ndarray:
        """Return random bytes, which are the cheapest random numbers."""
        return np.frombuffer(self._random.bytes(int(np.prod(shape))), dtype=np.uint8).reshape(shape)

    def _ranks(self, shape: tuple[int, int], words: int) -> np.ndarray:
        """Return random ranks below `words`."""
        if self._kind == "tinystories":
            # About 1 / (rank + 30)^1.9, so that most of the text is of few words and the last ones come seldom.
            drawn = 30 * np.expm1(self._random.standard_exponential(shape, dtype=np.float32) / np.float32(0.9))
            return drawn.astype(np.int64) % words
        # The probability is one over the rank where the logarithm is uniform.
        uniform = self._random.random(shape, dtype=np.float32) * np.float32(np.log(words + 1))
        return np.minimum(np.exp(uniform).astype(np.int64) - 1, words - 1)

    def batch(self, written: float, sentences: int) -> np.ndarray:
        """Return sentences that follow `written` bytes of text, as rows of the table."""
        old = self._known
        if self._kind == "openwebtext":
            self._learn(distinct_pretokens(written + SLOT_BYTES[self._kind] * SLOTS * sentences))
        rows = self._ranks((sentences, SLOTS), old or self._known)
        rows[:, 1] += 14 - rows[:, 1] % 20  # capitalized
        rows += self._first
        middle = rows[:, 2:-1]
        # Of 256 random bytes, 26 are a sign in place of a word and 38 nothing at all.
        choice = np.full(256, -1)
        choice[:26] = np.resize(self._rows("sign"), 26)
        choice[26:64] = 0
        signs = choice[self._bytes(*middle.shape)]
        np.copyto(middle, signs, where=signs >= 0)
        if self._known > old:
            places = self._random.choice(middle.size, min(self._known - old, middle.size), replace=False)
            fresh = np.arange(old, old + len(places)) + self._first
            middle[np.unravel_index(places, middle.shape)] = fresh
        for column, which in ((0, "opening"), (-1, "closing")):
            rows[:, column] = np.resize(self._rows(which), 256)[self._bytes(sentences)]
        np.minimum(rows[:, 1], self._first + self._known - 1, out=rows[:, 1])
        if self._end:
            rows[self._random.random(sentences) < 1 / SENTENCES_IN_DOCUMENT, -1] = self._first - 1
        return rows.reshape(-1)

    def spelled(self, rows: np.ndarray) -> np.ndarray:
        """Return the text of rows of the table, as uint8 of shape (bytes,)."""
        data = self._table.view(np.complex128)[:, 0].take(rows).view(np.uint8)  # sixteen bytes at once
        return data[data != 0]


def text(kind: str, size: int) -> Iterator[np.ndarray]:
    """Yield a text of at least `size` bytes, and at most a few batches more, in batches (uint8)."""
    writer = Writer(kind, size)
    spelling: deque[Future[np.ndarray]] = deque()
    started = written = 0
    with ThreadPoolExecutor(1) as pool:  # spells a batch while the next one is drawn
        while written < size:
            # Before a batch is spelled its bytes are not known: the words to come follow from the slots drawn.
            sentences = max(500, min(LARGEST_BATCH, started // 60))
            spelling.append(pool.submit(writer.spelled, writer.batch(started * SLOT_BYTES[kind], sentences)))
            started += sentences * SLOTS
            if len(spelling) > 2:
                batch = spelling.popleft().result()
                written += len(batch)
                yield batch


def russian(size: int) -> Iterator[np.ndarray]:
    """Yield at least `size` bytes of Russian words, drawn by frequency, in batches (uint8)."""
    import wordfreq

    frequencies = wordfreq.get_frequency_dict("ru", wordlist="best")
    words = np.array(list(frequencies), dtype=object)
    bounds = np.cumsum(list(frequencies.values()))
    draw = np.random.default_rng(2026)
    ends = [". ", ". ", ". ", "? ", "! ", "… ", ".\n", ".\n\n", "." + SEPARATOR]
    written = 0
    while written < size:
        sentences = []
        for length in draw.integers(3, 20, 5000):
            chosen = words[np.searchsorted(bounds, draw.random(length) * bounds[-1])].tolist()
            chosen[length // 2] += draw.choice([",", ",", " —", ";", ""])
            sentences.append(" ".join(chosen).capitalize() + draw.choice(ends))
        batch = np.frombuffer("".join(sentences).encode(), dtype=np.uint8)
        written += len(batch)
        yield batch


def code(size: int) -> Iterator[np.ndarray]:
    """Yield at least `size` bytes of Python files, if that many are installed, in batches (uint8)."""
    written = 0
    for folder in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(folder)).rglob("*.py")):
            if written >= size:
                return
            try:
                source = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:  # tests of other encodings
                continue
            batch = np.frombuffer((source + SEPARATOR).encode(), dtype=np.uint8)
            written += len(batch)
            yield batch


def other_text() -> str:
    """Return a text unlike all measured texts, large enough for the kernels to be used."""
    words = [f"{number * 7919 % 99991:x}{number:o} " for number in range(60_000)]
    repeated = "".join(words)
    return (repeated * (OTHER_BYTES // len(repeated) + 1))[:OTHER_BYTES]


def write(kind: str, size: int, out: Path) -> int:
    """Write a text of at least `size` bytes and return its bytes."""
    written = 0
    partial = out.with_name(out.name + ".part")
    batches = {"russian": russian, "code": code}
    try:
        with partial.open("wb") as file:
            for batch in batches[kind](size) if kind in batches else text(kind, size):
                file.write(batch.data)
                written += len(batch)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return written


def parse_size(value: str) -> int:
    """Return the number of bytes of a size such as 50MB.

    Raises:
        ValueError: If it is not one.
    """
    match = re.fullmatch(r"([\d.]+)(|KB|MB|GB)", value)
    if not match:
        raise ValueError(f"size is {value!r}, expected a number and KB, MB or GB; write 50MB")
    return int(float(match[1]) * UNITS[match[2]])


def main() -> None:
    """Write the file, then print its size and the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*OPENINGS, "russian", "code"])
    parser.add_argument("size", type=parse_size)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    written = write(options.kind, options.size, options.out)
    seconds = time.perf_counter() - begin
    print(f"{options.out}: {written:,} bytes in {seconds:.1f} s, {written / 1e6 / seconds:.0f} MB/s", file=sys.stderr)


if __name__ == "__main__":
    main()
