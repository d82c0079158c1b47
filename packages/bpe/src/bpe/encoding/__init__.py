"""Text to ids: short texts in plain Python, long ones by kernels and threads, files as streams."""

from __future__ import annotations

from bpe.encoding.encoder import TextEncoder as TextEncoder
from bpe.encoding.token_files import EncodeReport as EncodeReport
from bpe.encoding.token_files import encode_file as encode_file
from bpe.encoding.token_files import encode_iterable as encode_iterable
from bpe.encoding.token_writer import FileFormat as FileFormat
from bpe.encoding.token_writer import TokenFile as TokenFile
from bpe.encoding.token_writer import described_tokenizer as described_tokenizer
