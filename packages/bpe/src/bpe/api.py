"""The public names of `bpe`, which imports this module at the first use of one of them."""

from bpe.encoding import EncodeReport as EncodeReport
from bpe.errors import InvalidUTF8Warning as InvalidUTF8Warning
from bpe.errors import UnknownTokenError as UnknownTokenError
from bpe.errors import VocabularySizeWarning as VocabularySizeWarning
from bpe.preparation import Preparation as Preparation
from bpe.preparation import prepare as prepare
from bpe.text import CL100K_PATTERN as CL100K_PATTERN
from bpe.text import GPT2_PATTERN as GPT2_PATTERN
from bpe.text import LLAMA3_PATTERN as LLAMA3_PATTERN
from bpe.text import O200K_PATTERN as O200K_PATTERN
from bpe.text import QWEN_PATTERN as QWEN_PATTERN
from bpe.text import AddedToken as AddedToken
from bpe.text import divide as divide
from bpe.text import first_documents as first_documents
from bpe.text import hold_out_documents as hold_out_documents
from bpe.tokenizer import Tokenizer as Tokenizer
from bpe.tokenizer_training import train as train
from bpe.tokenizer_training import train_from_counts as train_from_counts
from bpe.tokenizer_training import train_from_iterator as train_from_iterator
from bpe.training import PretokenCounts as PretokenCounts
from bpe.training import count_pretokens as count_pretokens
