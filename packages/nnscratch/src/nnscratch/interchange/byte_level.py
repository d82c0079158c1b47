"""Reading a byte-level BPE with GPT-2's pattern from a tokenizer.json, for llama.cpp."""

from dataclasses import dataclass
from typing import Any

from nnscratch.interchange.tokenizer_files import TokenizerFiles

# Published spellings of GPT-2's pattern; all split every text alike.
_GPT2_PATTERNS = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
)
_CHANGING_IDS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_CHARACTERS = frozenset(map(chr, _PRINTABLE)) | frozenset(
    chr(256 + index) for index in range(256 - len(_PRINTABLE))
)
"""Characters that represent bytes in GPT-2's files: printable ones themselves, the rest from U+0100 on."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and merges of a byte-level BPE."""

    ids: dict[str, int]
    """Id of every token by its text: in GPT-2's printable characters, except for added tokens."""
    texts: dict[int, str]
    """Text of every token by its id."""
    added: dict[int, bool]
    """Ids of added tokens, with True for special ones."""
    merges: list[str]
    """Merges as two tokens with a space between them, in the order of ranks."""
    bos_id: int
    eos_id: int


def read_byte_level(files: TokenizerFiles) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json that llama.cpp encodes alike with `tokenizer.ggml.pre=gpt-2`.

    Raises:
        ValueError: If the tokenizer is anything but byte-level BPE with GPT-2's pattern, naming the field, or has no
            end-of-text token.
    """
    content = files.content
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise _refusal(files, "model.type", model["type"], "'BPE'")
    for name in _CHANGING_IDS:
        if model.get(name):
            raise _refusal(files, f"model.{name}", model[name], "none")
    if content.get("normalizer") is not None:
        raise _refusal(files, "normalizer", content["normalizer"], "none")
    post_processor = content.get("post_processor")
    if post_processor is not None and post_processor.get("type") != "ByteLevel":
        raise _refusal(files, "post_processor", post_processor.get("type"), "none or ByteLevel")
    _check_pattern(files, content.get("pre_tokenizer"))
    added = _added_tokens(files)
    texts = {index: text for text, index in files.ids.items()}
    if len(texts) < len(files.ids):
        raise _refusal(files, "model.vocab", "two tokens with one id", "one id for each token")
    ordinary = [text for index, text in texts.items() if index not in added]
    strange = [text for text in ordinary if not text or not BYTE_CHARACTERS.issuperset(text)]
    if strange:
        raise _refusal(files, "model.vocab", strange[0], "tokens in GPT-2's printable characters")
    if missing := len(BYTE_CHARACTERS.difference(ordinary)):
        raise _refusal(files, "model.vocab", f"{256 - missing} of the bytes", "all 256")
    if files.eos_id is None:
        # llama.cpp would use token 11.
        raise _refusal(
            files, "eos_token", None, "an end-of-text token, named in tokenizer_config.json or <|endoftext|>"
        )
    bos_id = files.eos_id if files.bos_id is None else files.bos_id
    merges = [_merge(files, merge) for merge in model.get("merges") or []]
    if not merges:
        raise _refusal(files, "model.merges", [], "at least one merge, because llama.cpp opens no file without")
    return Vocabulary(files.ids, texts, added, merges, bos_id, files.eos_id)


def _refusal(files: TokenizerFiles, name: str, came: object, expected: str) -> ValueError:
    return ValueError(
        f"{str(files.path)!r} has {name}={came!r}, expected {expected}; "
        f"only byte-level BPE with GPT-2's pattern can be exported"
    )


def _check_pattern(files: TokenizerFiles, pre_tokenizer: Any) -> None:
    """Check that the pre-tokenizer is ByteLevel with its own pattern, or a Split by GPT-2's and then ByteLevel."""
    name = "pre_tokenizer"
    steps = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        name, steps = "pre_tokenizer.pretokenizers", pre_tokenizer.get("pretokenizers", [])
    kinds = [step.get("type") if isinstance(step, dict) else step for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise _refusal(files, name, kinds, "ByteLevel, alone or after one Split")
    byte_level = steps[-1]
    if byte_level.get("add_prefix_space", True):
        raise _refusal(files, "pre_tokenizer.add_prefix_space", True, "False")
    uses_own_pattern = byte_level.get("use_regex", True)
    if uses_own_pattern != (len(steps) == 1):
        expected = "True without a Split, and False after one"
        raise _refusal(files, "pre_tokenizer.use_regex", uses_own_pattern, expected)
    if len(steps) == 2:
        split = steps[0]
        pattern = split.get("pattern")
        if not isinstance(pattern, dict) or pattern.get("Regex") not in _GPT2_PATTERNS:
            raise _refusal(files, "pre_tokenizer.pattern", pattern, "GPT-2's, as a Regex")
        if split.get("behavior") != "Isolated" or split.get("invert"):
            came = (split.get("behavior"), bool(split.get("invert")))
            raise _refusal(files, "pre_tokenizer's behavior and invert", came, "('Isolated', False)")


def _added_tokens(files: TokenizerFiles) -> dict[int, bool]:
    added = {}
    for token in files.content.get("added_tokens") or []:
        for name in ("lstrip", "rstrip", "single_word"):
            if token.get(name):
                raise _refusal(files, f"added_tokens.{name} of {token['content']}", True, "False")
        added[token["id"]] = bool(token.get("special"))
    return added


def _merge(files: TokenizerFiles, merge: Any) -> str:
    """Return a merge as "A B", which newer files write as ["A", "B"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(part in files.ids for part in parts):
        raise _refusal(files, "model.merges", merge, "two tokens of the vocabulary")
    return " ".join(parts)
