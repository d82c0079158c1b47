"""Text to merges: pre-tokens are counted, then the most frequent pairs become tokens."""

from __future__ import annotations

from bpe.training.counting import count_blocks as count_blocks
from bpe.training.counting import count_pretokens as count_pretokens
from bpe.training.counts import PretokenCounts as PretokenCounts
from bpe.training.learning import check_vocab_size as check_vocab_size
from bpe.training.learning import train as train
from bpe.training.learning import train_from_counts as train_from_counts
from bpe.training.learning import train_from_iterator as train_from_iterator
