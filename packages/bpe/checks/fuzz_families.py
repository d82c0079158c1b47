"""Compare ids with those of tokenizers for files of the form that each family of language models has published.

    python fuzz_families.py [--family NAME ...] [--file TOKENIZER.JSON ...] [--strings N] [--seed N]

The files have vocabularies trained here, with merges across the boundaries of pre-tokens, so that every split matters.
`--file` compares a published file instead. Texts are full of the family's tokens, with and without white space around.
They are encoded one by one in Python, by the kernels, in batches, from random parts, in small blocks, and by tokenizers
from the same file and from the file as saved here. The program stops at the first difference, reduced to a short text.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import tokenizers
from engines import SURROGATES, classes_of_tokenizers, differing, every_character
from generate import WORDS, cut, strings
from shrink import shortest

import bpe
from bpe import kernels

Ids = list[int]
Json = dict[str, Any]
Encode = Callable[[str], Ids]
BATCH = 5_000
OTHER_WAYS = 5
"""Every how many texts the slower ways are compared, too."""

BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = {**BYTE_LEVEL, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
NFC = {"type": "NFC"}
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" + "\r\n" + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    r""" ?[\p{P}\p{S}]+[""" + "\r\n" + r"""]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> Json:
    """Return a pre-tokenizer that splits by a regular expression."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps: Json) -> Json:
    """Return a sequence of pre-tokenizers."""
    return {"type": "Sequence", "pretokenizers": list(steps)}


def token(content: str, **flags: bool) -> Json:
    """Return an added token, special unless `flags` say otherwise; its id is set later."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **plain, **flags}


def plain(*contents: str, **flags: bool) -> list[Json]:
    """Return added tokens of one kind."""
    return [token(content, **flags) for content in contents]


def spaces(most: int, **flags: bool) -> list[Json]:
    """Return runs of spaces that are added tokens, the longest first."""
    return plain(*(" " * number for number in range(most, 1, -1)), special=False, **flags)


def roberta(add_prefix_space: bool = False) -> Json:
    """Return the post-processor of RoBERTa, which puts tokens around a text."""
    kept = {"trim_offsets": True, "add_prefix_space": add_prefix_space}
    return {"type": "RobertaProcessing", "sep": ["</s>", 0], "cls": ["<s>", 0], **kept}


ROBERTA_TOKENS = [
    *plain("<s>", "<pad>", "</s>", "<unk>", normalized=True),
    token("<mask>", lstrip=True),
]

FAMILIES: dict[str, Json] = {
    "smollm": {
        "pre_tokenizer": sequence(DIGITS, BYTE_LEVEL),
        "added": plain("<|endoftext|>", "<|im_start|>", "<repo>"),
    },
    "command-r": {
        "normalizer": NFC,
        "pre_tokenizer": sequence(DIGITS, BYTE_LEVEL),
        "added": plain("<PAD>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>") + plain("<|YES_TOKEN|>", special=False),
    },
    "deepseek-v3": {
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": sequence(
            split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u30ff]+"), split(DEEPSEEK_WORDS), NO_REGEX
        ),
        "added": plain("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
        + plain("<\uff5cplace\u2581holder\u2581no\u25810\uff5c>", normalized=True)
        + plain("<think>", "</think>", special=False, normalized=True),
    },
    "deepseek-coder": {
        "pre_tokenizer": sequence(
            split("[\r\n]"),
            split(r"\s?\p{L}+"),
            split(r"\s?\p{P}+"),
            split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            DIGITS,
            NO_REGEX,
        ),
        # Letters that stand for bytes, which occur in no text, and which the vocabulary lacks.
        "added": plain("õ", "÷", "ÿ", special=False, normalized=True) + plain("<|EOT|>"),
        "without": ["õ", "÷", "ÿ"],
    },
    "deepseek-llm": {
        "pre_tokenizer": sequence(
            split("[\r\n]"),
            split("\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u0370-\u0373]+"),
            split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            split(r"\s+$"),
            split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            DIGITS,
            NO_REGEX,
        ),
        "added": plain("<\uff5cbegin\u2581of\u2581sentence\uff5c>", normalized=True),
    },
    "falcon": {
        "pre_tokenizer": sequence(
            {"type": "Punctuation", "behavior": "Contiguous"},
            BYTE_LEVEL,
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        ),
        "added": plain(">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>"),
    },
    "gpt-neox": {
        "normalizer": NFC,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": BYTE_LEVEL,
        "added": plain("<|endoftext|>", "<|padding|>") + spaces(24, normalized=True),
    },
    "olmo": {
        "normalizer": NFC,
        "pre_tokenizer": BYTE_LEVEL,
        "added": plain("|||IP_ADDRESS|||", special=False, normalized=True)
        + plain("<|padding|>", "<|endoftext|>")
        + spaces(24, normalized=True),
    },
    "bloom": {"pre_tokenizer": sequence(split(BLOOM), NO_REGEX), "added": plain("<unk>", "<s>", "</s>", "<pad>")},
    "phi-4": {
        "pre_tokenizer": sequence(split(CL100K, "Removed", invert=True), NO_REGEX),
        "added": plain("<|dummy_0|>", "<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", lstrip=True, rstrip=True)
        + plain("<|im_sep|>", rstrip=True, special=False),
    },
    "phi-2": {
        "pre_tokenizer": BYTE_LEVEL,
        "added": plain("<|endoftext|>") + spaces(31, normalized=True) + plain("\t\t\t", "\t\t", special=False),
    },
    "roberta": {"pre_tokenizer": BYTE_LEVEL, "post_processor": roberta(), "added": ROBERTA_TOKENS},
    "modernbert": {
        "normalizer": NFC,
        "pre_tokenizer": BYTE_LEVEL,
        "added": plain("|||EMAIL_ADDRESS|||", special=False, normalized=True)
        + spaces(24, normalized=True)
        + plain("[UNK]", "[CLS]", "[SEP]")
        + [token("[MASK]", lstrip=True)],
    },
    "opt": {
        "pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True},
        "post_processor": roberta(add_prefix_space=True),
        "added": ROBERTA_TOKENS,
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
    },
    "unsplit": {
        "pre_tokenizer": {**NO_REGEX, "add_prefix_space": True},
        "added": plain("ab", "the", special=False, single_word=True) + plain("<x>", " <y>", rstrip=True),
    },
    "all-at-once": {
        "normalizer": NFC,
        "pre_tokenizer": sequence(
            {**split("x"), "pattern": {"String": "a "}},
            {"type": "Punctuation"},
            split(r"[a-f\d]", "Contiguous"),
            split(r"\p{L}\p{N}"),
            BYTE_LEVEL,
            split("(?=Ġ)"),
            split("[aÃ]b?"),
        ),
        "added": plain("<m>", "e\u0301", special=False, normalized=True, rstrip=True)
        + plain("é<", "ab", "\u00a0", special=False, normalized=True, single_word=True)
        + plain("<m", "b ab", "1", special=False, lstrip=True, single_word=True)
        + plain("  ", "m>  ", special=False)
        + plain("<|x|>", rstrip=True, lstrip=True),
    },
    "all-but-nfc": {
        "pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True},
        "added": plain("<m>", "été", "the", special=False, normalized=True, rstrip=True)
        + plain("é<", "ab", "\u00a0", special=False, normalized=True, single_word=True)
        + plain("<m", "b ab", "1", special=False, lstrip=True, single_word=True)
        + plain("  ", "m>  ", "\n", special=False)
        + plain("<|x|>", rstrip=True, lstrip=True),
    },
}


@lru_cache(maxsize=1)
def base_model() -> Json:
    """Return a model whose merges reach across the boundaries of words, digits and punctuation."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]{12}"), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    chance = random.Random(0)
    words = [
        *WORDS,
        "12",
        "2024",
        "3.14",
        "it's",
        "don't",
        "naïve",
        "café",
        "日本",
        "ab",
        "x²",
        "(a)",
        "a.b",
        "...",
        "\n",
    ]
    texts = ["".join(chance.choices(words, k=3)) + " ".join(chance.choices(words, k=9)) for _ in range(3000)]
    texts += list(strings(1, 3000))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2500, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator([text for text in texts if SURROGATES.isdisjoint(text)], trainer)
    trained: Json = json.loads(model.to_str())["model"]
    return trained


def content_of(family: str) -> Json:
    """Return the tokenizer.json of a family."""
    form = FAMILIES[family]
    tokens = [text for text in base_model()["vocab"] if text not in form.get("without", ())]
    vocab = {text: id_ for id_, text in enumerate(tokens)}
    model = {**base_model(), "vocab": vocab}
    ids: dict[str, int] = {}
    for one in form["added"]:
        ids[one["content"]] = vocab.get(one["content"], len(vocab) + len(ids.keys() - vocab.keys()))
    post_processor = form.get("post_processor")
    if post_processor and "sep" in post_processor:
        around = {name: [post_processor[name][0], ids[post_processor[name][0]]] for name in ("sep", "cls")}
        post_processor = {**post_processor, **around}
    return {
        "version": "1.0",
        "truncation": form.get("truncation"),
        "padding": form.get("padding"),
        "added_tokens": [{"id": ids[one["content"]], **one} for one in form["added"]],
        "normalizer": form.get("normalizer"),
        "pre_tokenizer": form["pre_tokenizer"],
        "post_processor": post_processor,
        "decoder": BYTE_LEVEL,
        "model": model,
    }


@lru_cache(maxsize=1)
def excluded() -> frozenset[str]:
    """Return surrogates, unassigned characters, and characters whose class depends on the version of Unicode."""
    import regex

    text = every_character()
    found = set(differing(classes_of_tokenizers()))
    for one in ("P", "S", "M"):
        remover = tokenizers.pre_tokenizers.Split(tokenizers.Regex(rf"\P{{{one}}}+"), "removed")
        theirs = {character for part, _ in remover.pre_tokenize_str(text) for character in part}
        found |= theirs ^ set(regex.findall(rf"\p{{{one}}}", text))
    remover = tokenizers.pre_tokenizers.Punctuation("removed")
    theirs = set(text).difference(*(part for part, _ in remover.pre_tokenize_str(text)))
    found |= theirs ^ set(regex.findall(r"[\p{P}$+<=>^`|~]", text))
    normal_form = tokenizers.normalizers.NFC().normalize_str
    for mark in regex.findall(r"\p{M}", text):  # their order differs, too
        around = [
            mark,
            *(f"{mark}{other}" for other in "\u0323\u0334"),
            *(f"{other}{mark}" for other in "\u0301\u0345"),
        ]
        if any(normal_form(one) != unicodedata.normalize("NFC", one) for one in around):
            found.add(mark)
    unassigned = {character for character in text if unicodedata.category(character) == "Cn"}
    return frozenset(found | unassigned | SURROGATES)


def texts_for(contents: Sequence[str], seed: int, number: int, without: frozenset[str] | None = None) -> Iterator[str]:
    """Yield random texts with tokens in them, some with white space around, some cut off, `without` some characters."""
    without = excluded() if without is None else without
    generator = random.Random(seed)
    around = ["", "", "", "", " ", "  ", "\n", " \t", "a", "1", "_", ".", "\u00a0", "\u3000", "\u0301", "é"]
    left = number
    for made in strings(seed, 2 * number, rare=without):
        if not left:
            return
        for _ in range(generator.choice((0, 1, 1, 2, 3)) if contents else 0):
            content = generator.choice(contents)
            if generator.random() < 0.1:
                content = content[: generator.randint(1, len(content))]
            place = generator.randint(0, len(made))
            inserted = f"{generator.choice(around)}{content}{generator.choice(around)}"
            made = made[:place] + inserted + made[place:]
        if without.isdisjoint(made):
            left -= 1
            yield made


class Compared:
    """A tokenizer.json, opened in all ways."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.contents = [one["content"] for one in json.loads(path.read_text("utf-8"))["added_tokens"]]
        self.ours = bpe.Tokenizer.from_huggingface(path)
        self.theirs = self._open(path)
        with tempfile.TemporaryDirectory() as folder:
            self.ours.save_pretrained(folder)
            self.again = self._open(Path(folder) / "tokenizer.json")
            read = bpe.Tokenizer.from_pretrained(folder)
        if read != self.ours:
            sys.exit(f"{path} is read, saved and read again, and differs")
        self._plain, self._kernels = copy.copy(self.ours), copy.copy(self.ours)
        with mock.patch.object(kernels, "ENCODING_BYTES", 1):
            self._kernels.encode("a")
        kernels.CALL_BYTES = 0  # they then encode short texts, too
        self._chance = random.Random(seed)
        self.ways: dict[str, Encode] = {
            "kernels": self._kernels.encode,
            "encode_batch": self._batch,
            "encode_iterable": self._iterable,
            "encode_iterable with kernels": partial(self._iterable, tokenizer=self._kernels),
            "blocks": self._blocks,
            "tokenizers, of the saved file": partial(self._by, self.again),
        }

    @staticmethod
    def _open(path: Path) -> tokenizers.Tokenizer:
        opened = tokenizers.Tokenizer.from_file(str(path))
        opened.no_truncation()
        opened.no_padding()
        return opened

    @staticmethod
    def _by(other: tokenizers.Tokenizer, text: str) -> Ids:
        ids: Ids = other.encode(text, add_special_tokens=False).ids
        return ids

    def expected(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids by tokenizers."""
        return [encoding.ids for encoding in self.theirs.encode_batch_fast(list(texts), add_special_tokens=False)]

    def in_python(self, text: str) -> Ids:
        """Return the ids by a tokenizer that has not encoded enough to use kernels."""
        if self._plain._encoder._engine.bytes_in_python > 1 << 19:
            self._plain = copy.copy(self.ours)
        return self._plain.encode(text)

    def _batch(self, text: str) -> Ids:
        return self._kernels.encode_batch(["x", text, text], threads=1)[1].tolist()

    def _iterable(self, text: str, tokenizer: bpe.Tokenizer | None = None) -> Ids:
        return list((tokenizer or self.ours).encode_iterable(cut(text, self._chance)))

    def _blocks(self, text: str) -> Ids:
        encoder = self._kernels._encoder
        size = self._chance.randint(1, 30)
        return [int(id_) for block in encoder.cutter.blocks_of(text.encode(), size) for id_ in encoder.block(block).ids]

    def difference(self, texts: Sequence[str]) -> tuple[str, str] | None:
        """Return the name of a way that differs from tokenizers, and the text."""
        for number, (text, ids) in enumerate(zip(texts, self.expected(texts), strict=True)):
            if self.in_python(text) != ids:
                return "encode", text
            if number % OTHER_WAYS == 0:
                for name, way in self.ways.items():
                    if way(text) != ids:
                        return name, text
        return None

    def reduced(self, name: str, text: str) -> str:
        """Return a shorter text on which a way differs."""
        way = self.ways.get(name, self.in_python)
        # The random cuts are tried several times.
        return shortest(text, lambda part: any(way(part) != self.expected([part])[0] for _ in range(20)), 300)


def check(name: str, path: Path, number: int, seed: int) -> None:
    """Compare one file, and print the result."""
    begin = time.perf_counter()
    compared = Compared(path, seed)
    texts = list(texts_for(compared.contents, seed, number))
    for start in range(0, len(texts), BATCH):
        found = compared.difference(texts[start : start + BATCH])
        if found is not None:
            sys.exit(f"seed {seed}: {name}: {found[0]} and tokenizers differ on {compared.reduced(*found)!r}")
    print(f"{name}: {len(texts):,} strings have the same ids ({time.perf_counter() - begin:.0f} s)", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Compare families of tokenizers with the tokenizers library.")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=None)
    parser.add_argument("--file", nargs="+", type=Path, default=[])
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for path in options.file:
        check(str(path), path, options.strings, options.seed)
    if options.file and options.family is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        for family in options.family or FAMILIES:
            path = Path(folder) / f"{family}.json"
            path.write_text(json.dumps(content_of(family), ensure_ascii=False), "utf-8")
            check(family, path, options.strings, options.seed)


if __name__ == "__main__":
    main()
