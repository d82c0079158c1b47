"""Models and tokenizers that several tests of file formats use."""

import json

import torch

END_OF_TEXT = "<|endoftext|>"
BYTES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
ALPHABET = [chr(code) for code in BYTES] + [chr(256 + index) for index in range(256 - len(BYTES))]
MERGES = ["t h", "th e", "Ġ the"]
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def added(text, index, special=True):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, "special": special} | flags


def split_by(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


def byte_level_tokenizer():
    """A byte-level tokenizer: an end-of-text token, 256 bytes, three merges, and an added token that is not special."""
    tokens = [END_OF_TEXT, *ALPHABET, "th", "the", "Ġthe", "<think>"]
    return {
        "version": "1.0",
        "added_tokens": [added(END_OF_TEXT, 0), added("<think>", 260, special=False)],
        "normalizer": None,
        "pre_tokenizer": dict(BYTE_LEVEL),
        "post_processor": None,
        "decoder": dict(BYTE_LEVEL),
        "model": {"type": "BPE", "vocab": {text: index for index, text in enumerate(tokens)}, "merges": MERGES},
    }


def save_tokenizer(directory, content):
    directory.mkdir(exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps(content))
    return directory


def varied(model):
    """Move all parameters: with gains of 1 a mix-up would go unnoticed."""
    for param in model.parameters():
        param.data.add_(0.1 * torch.randn_like(param))
    return model


def save_letters(directory):
    """A byte-level tokenizer of 49 letters and an end-of-text token."""
    letters = [chr(code) for code in range(33, 82)]
    token = {"id": 49, "content": END_OF_TEXT, "special": True, "single_word": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [token | {"lstrip": False, "rstrip": False}],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {letter: index for index, letter in enumerate(letters)}, "merges": []},
    }
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "notes.txt").write_text("not copied")
    return directory


def edit(path, changes):
    """Set fields of a JSON file; those that become ... are removed."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def names_in(directory):
    return {path.name for path in directory.iterdir()}
