"""Text before it is tokens: files, UTF-8, documents, blocks, special tokens and pre-tokenization patterns."""

from __future__ import annotations

from bpe.text.added_tokens import AddedToken as AddedToken
from bpe.text.added_tokens import AddedTokenSplitter as AddedTokenSplitter
from bpe.text.added_tokens import check_added_tokens as check_added_tokens
from bpe.text.blocks import BLOCK_BYTES as BLOCK_BYTES
from bpe.text.blocks import Block as Block
from bpe.text.blocks import BlockCutter as BlockCutter
from bpe.text.byte_level import byte_characters as byte_characters
from bpe.text.byte_level import from_characters as from_characters
from bpe.text.byte_level import is_byte_level as is_byte_level
from bpe.text.byte_level import to_characters as to_characters
from bpe.text.documents import divide as divide
from bpe.text.documents import first_documents as first_documents
from bpe.text.documents import hold_out_documents as hold_out_documents
from bpe.text.files import TEXT_SUFFIXES as TEXT_SUFFIXES
from bpe.text.files import TextFile as TextFile
from bpe.text.files import find_files as find_files
from bpe.text.files import is_compressed as is_compressed
from bpe.text.files import open_text_file as open_text_file
from bpe.text.joining import join_documents as join_documents
from bpe.text.patterns import CL100K_PATTERN as CL100K_PATTERN
from bpe.text.patterns import GPT2_PATTERN as GPT2_PATTERN
from bpe.text.patterns import LLAMA3_PATTERN as LLAMA3_PATTERN
from bpe.text.patterns import O200K_PATTERN as O200K_PATTERN
from bpe.text.patterns import QWEN_PATTERN as QWEN_PATTERN
from bpe.text.patterns import Pattern as Pattern
from bpe.text.patterns import Scanner as Scanner
from bpe.text.patterns import check_pattern as check_pattern
from bpe.text.patterns import compile_pattern as compile_pattern
from bpe.text.patterns import in_one_form as in_one_form
from bpe.text.patterns import is_gpt2_pattern as is_gpt2_pattern
from bpe.text.patterns import scanner_of as scanner_of
from bpe.text.patterns import split_pretokens as split_pretokens
from bpe.text.rows import TABLE_SUFFIXES as TABLE_SUFFIXES
from bpe.text.rows import documents_of as documents_of
from bpe.text.rows import is_table as is_table
from bpe.text.special_tokens import END_OF_TEXT as END_OF_TEXT
from bpe.text.special_tokens import Span as Span
from bpe.text.special_tokens import SpecialTokenFinder as SpecialTokenFinder
from bpe.text.special_tokens import check_special_tokens as check_special_tokens
from bpe.text.utf8 import StrPath as StrPath
from bpe.text.utf8 import replace_malformed as replace_malformed
from bpe.text.utf8 import utf8 as utf8
from bpe.text.utf8 import utf8_view as utf8_view
from bpe.text.utf8 import warn_of_replacements as warn_of_replacements
