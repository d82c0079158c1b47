"""Tokenizer files of other libraries, read and written as a `bpe.vocabulary.TokenizerSpec`.

`directory`, `gpt2`, `huggingface` and `tiktoken` each have `load` and `save`; they are imported as modules.
"""

from __future__ import annotations

from bpe.formats.byte_characters import also_ordinary as also_ordinary
from bpe.formats.split_patterns import write_pattern as write_pattern
