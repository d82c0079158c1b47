"""The compared encoders, and the code points that they classify differently because their Unicode versions differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from generate import EOT, SPECIAL_TOKENS

if TYPE_CHECKING:
    import tiktoken

    import bpe

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
VOCABULARIES = DATA / "vocabularies"
CLASSES = {"letter": r"\p{L}", "number": r"\p{N}", "space": r"\s"}
CLASSES_OF_O200K = {
    "upper": r"[\p{Lu}\p{Lt}]",
    "lower": r"\p{Ll}",
    "letter": r"[\p{Lm}\p{Lo}]",
    "mark": r"\p{M}",
    "number": r"\p{N}",
    "space": r"\s",
}
SURROGATES = frozenset(map(chr, range(0xD800, 0xE000)))


@dataclass(frozen=True)
class Engine:
    """Another encoder from texts to ids, which gets no text with an `excluded` character."""

    name: str
    encode: Callable[[Sequence[str]], list[list[int]]]
    excluded: frozenset[str] = field(repr=False)


@lru_cache(maxsize=1)
def every_character() -> str:
    """Return all code points except surrogates."""
    return "".join(chr(point) for point in range(0x110000) if chr(point) not in SURROGATES)


def classes_of_regex(patterns: Mapping[str, str]) -> dict[str, str]:
    """Return the class of each character for the `regex` module, which this package follows."""
    import regex

    return {c: name for name, pattern in patterns.items() for c in regex.findall(pattern, every_character())}


def classes_of_tiktoken(patterns: Mapping[str, str] = CLASSES) -> dict[str, str]:
    """Return the class of each character for tiktoken, from encodings that drop all other characters."""
    import tiktoken

    ranks = {bytes([byte]): byte for byte in range(256)}
    classes = {}
    for name, pattern in patterns.items():
        probe = tiktoken.Encoding(f"probe_{name}", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        for character in bytes(probe.encode_ordinary(every_character())).decode("utf-8"):
            classes[character] = name
    return classes


def classes_of_tokenizers() -> dict[str, str]:
    """Return the class of each character for tokenizers, from splitters that remove all other characters."""
    from tokenizers import Regex, pre_tokenizers

    classes = {}
    for name, pattern in (("letter", r"\P{L}+"), ("number", r"\P{N}+"), ("space", r"\S+")):
        splitter = pre_tokenizers.Split(Regex(pattern), "removed")
        for text, _ in splitter.pre_tokenize_str(every_character()):
            classes.update(dict.fromkeys(text, name))
    return classes


def differing(classes: dict[str, str], patterns: Mapping[str, str] = CLASSES) -> dict[str, tuple[str, str]]:
    """Return the characters that `regex` classifies differently, with its class and the other class."""
    own = classes_of_regex(patterns)
    pairs = (
        (character, own.get(character, "other"), classes.get(character, "other")) for character in every_character()
    )
    return {character: (ours, theirs) for character, ours, theirs in pairs if ours != theirs}


def ranges(differences: dict[str, tuple[str, str]]) -> list[str]:
    """Return the ranges of code points whose classes differ, with the class of `regex` and the other class."""
    numbered = enumerate(sorted(differences))
    lines = []
    for (_, (ours, theirs)), group in groupby(numbered, lambda item: (ord(item[1]) - item[0], differences[item[1]])):
        members = [character for _, character in group]
        span = f"U+{ord(members[0]):04X}"
        if len(members) > 1:
            span += f" to U+{ord(members[-1]):04X}"
        lines.append(f"{span}: {ours} here, {theirs} there ({len(members)})")
    return lines


def own_gpt2() -> bpe.Tokenizer:
    """Return this package's tokenizer with GPT-2's vocabulary and the special tokens of the checks."""
    import bpe

    return bpe.Tokenizer.from_files(VOCABULARIES / "gpt2_vocab.json", VOCABULARIES / "gpt2_merges.txt", SPECIAL_TOKENS)


def own_with_ranks(name: str, pattern: str) -> bpe.Tokenizer:
    """Return this package's tokenizer with the ranks of a tiktoken encoding, such as cl100k_base."""
    import bpe

    return bpe.Tokenizer.from_tiktoken(VOCABULARIES / f"{name}.tiktoken", pattern, SPECIAL_TOKENS)


def _batch_by_tiktoken(encoding: tiktoken.Encoding) -> Callable[[Sequence[str]], list[list[int]]]:
    """Return a function that encodes texts and their special tokens."""
    # One by one, because for short texts the thread pool costs more than it saves.
    return lambda texts: [encoding.encode(text, allowed_special="all") for text in texts]


def tiktoken_gpt2(special_ids: dict[str, int], excluded: frozenset[str]) -> Engine:
    """Return tiktoken with GPT-2's vocabulary."""
    import tiktoken

    import bpe

    vocab = json.loads((VOCABULARIES / "gpt2_vocab.json").read_bytes())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
    ranks = {bytes(byte_of[c] for c in token): id_ for token, id_ in vocab.items() if token != EOT}
    encoding = tiktoken.Encoding("gpt2", pat_str=bpe.GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special_ids)
    return Engine("tiktoken", _batch_by_tiktoken(encoding), excluded)


def tiktoken_with_ranks(name: str, pattern: str, special_ids: dict[str, int], excluded: frozenset[str]) -> Engine:
    """Return tiktoken with the ranks of one of its encodings, such as cl100k_base."""
    import tiktoken

    lines = (VOCABULARIES / f"{name}.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_ids)
    return Engine(f"tiktoken, {name}", _batch_by_tiktoken(encoding), excluded)


def tokenizers_gpt2(special_ids: dict[str, int], excluded: frozenset[str]) -> Engine:
    """Return tokenizers with GPT-2's vocabulary; it does not accept lone surrogates."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(VOCABULARIES / "gpt2_tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special_ids])
    wrong = {
        token: tokenizer.token_to_id(token) for token, id_ in special_ids.items() if tokenizer.token_to_id(token) != id_
    }
    if wrong:
        raise ValueError(f"tokenizers numbers special tokens {wrong}, expected {special_ids}; give them in that order")

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]

    return Engine("tokenizers", encode, excluded | SURROGATES)
