"""Agreement with other libraries and with the reference: a short form of the long checks in checks/."""

import json
import random
import sys
from pathlib import Path

import pytest
from helpers import SLOWER, data_file

from bpe import CL100K_PATTERN, O200K_PATTERN, Tokenizer, reference

CHECKS = Path(__file__).resolve().parents[1] / "checks"


@pytest.fixture(scope="module")
def checks():
    """The modules of the long checks, whose folder is not a package."""
    if not CHECKS.is_dir():
        pytest.skip(f"no folder {CHECKS}: the long checks are only in the repository")
    sys.path.insert(0, str(CHECKS))
    try:
        import engines
        import fuzz_encoding
        import fuzz_families
        import fuzz_training
        import generate
        import shrink
    finally:
        sys.path.remove(str(CHECKS))
    return {
        module.__name__: module for module in (engines, fuzz_encoding, fuzz_families, fuzz_training, generate, shrink)
    }


@pytest.fixture(scope="module")
def differing(checks):
    """The characters that tiktoken and tokenizers classify differently, with both classes."""
    engines = checks["engines"]
    return [engines.differing(classes()) for classes in (engines.classes_of_tiktoken, engines.classes_of_tokenizers)]


@pytest.fixture(scope="module")
def excluded(differing):
    """The characters that are not compared with tiktoken and with tokenizers."""
    return [frozenset(characters) for characters in differing]


def mismatches(checks, texts, ways, engines):
    """Return the first difference between one way of encoding and each of the others and other libraries."""
    first_difference = checks["fuzz_encoding"].first_difference
    expected = ways["encode in Python"](texts)
    found = {}
    for name, way in ways.items():
        index = first_difference(texts, expected, way(texts))
        if index is not None:
            found[name] = texts[index]
    for engine in engines:
        given = [(text, ids) for text, ids in zip(texts, expected, strict=True) if engine.excluded.isdisjoint(text)]
        assert len(given) > 0.8 * len(texts)
        index = first_difference(given, [ids for _, ids in given], engine.encode([text for text, _ in given]))
        if index is not None:
            found[engine.name] = given[index][0]
    return found


def test_gpt2_ids_agree_with_tiktoken_and_tokenizers(checks, excluded):
    data_file("vocabularies/gpt2_tokenizer.json")
    engines, generate = checks["engines"], checks["generate"]
    own = engines.own_gpt2()
    special = {token: own.token_to_id(token) for token in generate.SPECIAL_TOKENS}
    others = [engines.tiktoken_gpt2(special, excluded[0]), engines.tokenizers_gpt2(special, excluded[1])]
    texts = list(generate.strings(11, 1500, rare=excluded[0] | excluded[1]))
    assert mismatches(checks, texts, checks["fuzz_encoding"].Ways(own, kernels=True).all, others) == {}


@pytest.mark.parametrize(("name", "pattern"), [("cl100k_base", CL100K_PATTERN), ("o200k_base", O200K_PATTERN)])
def test_ids_with_published_ranks_agree_with_tiktoken(checks, name, pattern):
    data_file(f"vocabularies/{name}.tiktoken")
    engines, generate = checks["engines"], checks["generate"]
    classes = engines.CLASSES_OF_O200K
    excluded = frozenset(engines.differing(engines.classes_of_tiktoken(classes), classes))
    own = engines.own_with_ranks(name, pattern)
    special = {token: own.token_to_id(token) for token in generate.SPECIAL_TOKENS}
    texts = list(generate.strings(12, 1000, rare=excluded))
    ways = checks["fuzz_encoding"].Ways(own, kernels=True).all
    assert mismatches(checks, texts, ways, [engines.tiktoken_with_ranks(name, pattern, special, excluded)]) == {}


def test_kernels_split_generated_text_as_regex_does(checks):
    checks["fuzz_encoding"].check_splits(list(checks["generate"].strings(14, 2000 // SLOWER)), seed=14)


def test_ids_of_the_published_families_agree_with_tokenizers(checks, tmp_path):
    """F16: several Splits, Digits, Punctuation, white space as added tokens, NFC, lstrip, rstrip and single_word."""
    families = checks["fuzz_families"]
    # Characters on which all versions of Unicode agree.
    old = [*range(0x530), *range(0x2010, 0x2030), *range(0x3041, 0x3097), *range(0x4E00, 0x9FA6), 0x2581, 0xFF5C]
    newer = frozenset(checks["engines"].every_character()) - set(map(chr, old)) | checks["engines"].SURROGATES
    for family in families.FAMILIES:
        path = tmp_path / f"{family}.json"
        path.write_text(json.dumps(families.content_of(family)), "utf-8")
        compared = families.Compared(path, 14)  # also saves and reads the saved file
        assert compared.difference(list(families.texts_for(compared.contents, 14, 400 // SLOWER, newer))) is None, (
            family
        )


@pytest.mark.filterwarnings("ignore")  # of the import, which is a heavy one
def test_transformers_reads_saved_families(checks, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    families = checks["fuzz_families"]
    for family in families.FAMILIES:
        path = tmp_path / f"{family}.json"
        path.write_text(json.dumps(families.content_of(family)), "utf-8")
        ours = Tokenizer.from_huggingface(path)
        ours.save_pretrained(tmp_path / family)
        contents = [*ours.special_tokens, *(token.content for token in ours.added_tokens)]
        text = "".join(f" 12 it's,{content}  x{content}{content}\n" for content in contents)
        for kind in (transformers.AutoTokenizer, transformers.PreTrainedTokenizerFast):
            theirs = kind.from_pretrained(tmp_path / family)
            given = theirs(text, add_special_tokens=False, padding=False, truncation=False)["input_ids"]
            assert given == ours.encode(text), family
            assert len(theirs) == ours.vocab_size


def test_merges_and_counts_agree_with_the_reference(checks):
    for seed in range(60):
        assert checks["fuzz_training"].check_corpus(seed) is None


def test_ids_agree_with_the_reference(small, with_kernels, checks):
    generator = random.Random(13)
    for _ in range(40):
        text, _ = checks["generate"].corpus(generator)
        expected = list(reference.encode(text, small.vocab, small.merges, small.special_tokens))
        assert small.encode(text) == with_kernels.encode(text) == expected


def test_only_characters_of_another_unicode_version_are_left_out(differing):
    # One table may lack characters that the other one has, but what both have must be of one class.
    for characters in differing:
        assert len(characters) < 40_000
        for character, classes in characters.items():
            assert "other" in classes, f"U+{ord(character):04X} is {classes[0]} here and {classes[1]} there"
            assert character > "\u0500"


def test_a_failing_text_is_reduced(checks):
    shortest = checks["shrink"].shortest
    assert shortest("some text with a b and c" * 50, lambda text: "a b" in text) == "a b"
    assert shortest(list(range(1000)), lambda numbers: 3 in numbers and 998 in numbers) == [3, 998]
    assert shortest("x" * 100, lambda text: False) == "x" * 100
