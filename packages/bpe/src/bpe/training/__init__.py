"""Text to merges: pre-tokens are counted, then the most frequent pairs become tokens."""

from __future__ import annotations

from bpe.training.counting import count_pretokens as count_pretokens
from bpe.training.counting import count_texts as count_texts
from bpe.training.counts import PretokenCounts as PretokenCounts
from bpe.training.extending import Extension as Extension
from bpe.training.learning import new_vocabulary as new_vocabulary
from bpe.training.limits import Limits as Limits
from bpe.training.limits import check_vocab_size as check_vocab_size
