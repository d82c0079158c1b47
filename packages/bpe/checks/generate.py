"""Random texts that expose errors, for the checks beside this file and for tests."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

EOT = "<|endoftext|>"
SEPARATOR = "\U000f0000"
"""A private-use character that occurs in no generated text; as a special token it joins texts."""
SPECIAL_TOKENS = [EOT, "|><|", " <pad>", "日本", SEPARATOR]
"""Some overlap each other; none is a prefix of another, because libraries then choose differently."""

WHITE_SPACE = [*map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])]
WHITE_SPACE += ["\u2028", "\u2029", "\u202f", "\u205f", "\u3000"]
NEARLY_SPACE = [*map(chr, range(0x1C, 0x20)), "\u180e", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad"]
CONTRACTIONS = [
    apostrophe + ending
    for apostrophe in ("'", "\u2019", "''", " '")
    for ending in [*"sdmtlvrxSDMT\u017f", "ll", "ve", "re", "LL", "Ve", "rE"]
]
EMOJI = ["🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "🇩", "1️⃣", "❤️", "☠", "🫠", "\U0001fae8", "\ufe0f", "\u20e3"]
CASES = [*"camelCase HTTPServer IT'S A中 中A 中a aªA \u01c5 \u017f \u212a e\u0301A !\u0301 //".split(), "\n/"]
WORDS = "the of and to in a is that it was for on are as with his they at be this have from or had by word but".split()
PARTS_OF_SPECIAL = ["<|", "|>", "<|endof", "text|>", "<|endoftext|", "|><", "<", "|", ">", " <pa", "pad>", "日", "本"]
SURROGATES = ["\ud800", "\udfff", "\ud83d", "\ude42", "\ud83d\ude42", "\udc00\ud800"]


@lru_cache(maxsize=1)
def characters_of() -> dict[str, list[str]]:
    """Return digits, marks and letters of all scripts, all assigned and all characters except surrogates."""
    import regex

    everything = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    everything = everything.replace(SEPARATOR, "")
    classes = {
        "number": r"\p{N}",
        "mark": r"\p{M}",
        "letter": r"\p{L}",
        "assigned": r"[^\p{Cn}\p{Co}]",
        "any": r"(?s:.)",
    }
    return {name: regex.findall(pattern, everything) for name, pattern in classes.items()}


def atoms(generator: random.Random, number: int, excerpts: Sequence[str]) -> list[str]:
    """Return fragments of strings; `excerpts` are long texts from which some are cut."""
    kinds = characters_of()
    found: list[str] = []

    def some(share: float) -> range:
        return range(int(number * share) + 1)

    for name, share in (("number", 0.05), ("mark", 0.04), ("letter", 0.06), ("assigned", 0.06), ("any", 0.03)):
        found += ["".join(generator.choices(kinds[name], k=generator.choice((1, 1, 2, 5)))) for _ in some(share)]
    found += generator.choices(WHITE_SPACE, k=int(number * 0.05)) + generator.choices(NEARLY_SPACE, k=number // 50)
    found += ["".join(generator.choices(WHITE_SPACE[:6], k=generator.randint(2, 6))) for _ in some(0.03)]
    found += generator.choices(CONTRACTIONS, k=int(number * 0.08)) + generator.choices(EMOJI, k=number // 30)
    found += [" " * generator.randint(0, 2) + word for word in generator.choices(WORDS, k=int(number * 0.08))]
    found += generator.choices(CASES, k=number // 30)
    found += [word.title() for word in generator.choices(WORDS, k=number // 50)]
    found += ["".join(generator.choices("aabbc '\n \t's1!", k=generator.randint(1, 12))) for _ in some(0.06)]
    found += ["".join(map(chr, generator.choices(range(128), k=generator.randint(1, 8)))) for _ in some(0.06)]
    found += [chr(generator.randrange(0x80, 0x3000)) * generator.randint(1, 3) for _ in some(0.03)]
    # Long runs, some of them of about 64 bytes, the block size of the kernels.
    found += [generator.choice("a1!' \n\té日🙂<") * generator.choice((7, 31, 63, 64, 65, 130)) for _ in some(0.004)]
    found += ["".join(generator.choices("abc  ,é", k=generator.randint(50, 80))) for _ in some(0.01)]
    found += generator.choices(SPECIAL_TOKENS[:-1], k=number // 40)
    found += generator.choices(PARTS_OF_SPECIAL, k=number // 25)
    found += generator.choices(SURROGATES, k=number // 2000)
    for _ in some(0.12) if excerpts else ():
        text = generator.choice(excerpts)
        start = generator.randrange(max(1, len(text)))
        found.append(text[start : start + generator.randint(1, 30)])
    return found


def strings(seed: int, number: int, excerpts: Sequence[str] = (), rare: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield random strings; a few have lone surrogates or `rare` characters."""
    generator = random.Random(seed)
    fragments: list[str] = []
    for index in range(number):
        if index % 20_000 == 0:
            made = atoms(generator, 10_000, [text.replace(SEPARATOR, "") for text in excerpts])
            fragments = [atom for atom in made if rare.isdisjoint(atom) or generator.random() < 0.1]
        yield "".join(generator.choices(fragments, k=generator.randint(1, 9)))


def corpus(generator: random.Random) -> tuple[str, list[str]]:
    """Return a small text full of ties and runs, and the special tokens to train with."""
    alphabet = generator.choice(["ab", "abc", "aé", "abcdefg '", "01 a", "abAB\n ", "日本語a ", "\x00\xff\u00a0b", "a"])
    special: list[str] = generator.choice([[], [], [EOT], ["ab", "aba"], ["<a", "<a b>"], ["bb", " "], ["a", "é"]])
    fragments = [*alphabet * 3, *special, "".join(generator.choices(alphabet, k=3)), generator.choice(alphabet) * 4]
    text = "".join(generator.choices(fragments, k=generator.choice((0, 1, 5, 20, 60, 120))))
    if generator.random() < 0.3:  # doubles or triples every count, which makes ties
        text = (text + generator.choice(["", " ", *special])) * generator.randint(2, 3)
    if generator.random() < 0.2:
        text += generator.choice(alphabet) * generator.randint(1, 70)
    return text, special


def word_counts(generator: random.Random) -> dict[bytes, int]:
    """Return counts with frequent ties, of few different bytes, so that different merges make the same token."""
    alphabet = generator.choice([b"ab", b"abc", b"a", b"\x00\xff", bytes(range(256))])
    most = generator.choice((1, 2, 5, 2**33))
    return {
        bytes(generator.choices(alphabet, k=generator.randint(1, 12))): generator.randint(max(1, most - 3), most)
        for _ in range(generator.randint(1, 10))
    }


def cut(text: str, generator: random.Random) -> list[str]:
    """Return a text in random parts, some of them empty."""
    positions = sorted(generator.choices(range(len(text) + 1), k=generator.randint(0, 8)))
    return [text[start:end] for start, end in zip([0, *positions], [*positions, len(text)], strict=True)]
