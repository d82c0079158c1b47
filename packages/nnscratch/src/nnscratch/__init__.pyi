"""Table of public names: type checkers read it, and `__init__.py` imports names by it when they are first used."""

from nnscratch.accounting import MemoryEstimate as MemoryEstimate
from nnscratch.accounting import count_parameters as count_parameters
from nnscratch.accounting import flops_by_part as flops_by_part
from nnscratch.accounting import flops_per_token as flops_per_token
from nnscratch.accounting import memory_estimate as memory_estimate
from nnscratch.attention import CausalSelfAttention as CausalSelfAttention
from nnscratch.attention import scaled_dot_product_attention as scaled_dot_product_attention
from nnscratch.cache import KeyValueCache as KeyValueCache
from nnscratch.cache import LayerCache as LayerCache
from nnscratch.config import RopeScaling as RopeScaling
from nnscratch.config import TransformerConfig as TransformerConfig
from nnscratch.functional import silu as silu
from nnscratch.functional import softmax as softmax
from nnscratch.generation import complete as complete
from nnscratch.generation import generate as generate
from nnscratch.generation import next_token_probabilities as next_token_probabilities
from nnscratch.generation import quantize_int8 as quantize_int8
from nnscratch.generation import stream as stream
from nnscratch.generation import stream_with_logits as stream_with_logits
from nnscratch.interchange import export_gguf as export_gguf
from nnscratch.interchange import export_huggingface as export_huggingface
from nnscratch.language_model import LanguageModel as LanguageModel
from nnscratch.layers import Embedding as Embedding
from nnscratch.layers import HashedNGramEmbedding as HashedNGramEmbedding
from nnscratch.layers import Linear as Linear
from nnscratch.layers import ReLUSquaredFeedForward as ReLUSquaredFeedForward
from nnscratch.layers import RMSNorm as RMSNorm
from nnscratch.layers import SiLUFeedForward as SiLUFeedForward
from nnscratch.layers import SwiGLU as SwiGLU
from nnscratch.losses import cross_entropy as cross_entropy
from nnscratch.losses import linear_cross_entropy as linear_cross_entropy
from nnscratch.losses import perplexity as perplexity
from nnscratch.optimizers import SGD as SGD
from nnscratch.optimizers import AdamW as AdamW
from nnscratch.optimizers import CombinedOptimizer as CombinedOptimizer
from nnscratch.optimizers import Muon as Muon
from nnscratch.optimizers import RowwiseAdagrad as RowwiseAdagrad
from nnscratch.optimizers import clip_grad_norm as clip_grad_norm
from nnscratch.optimizers import cosine_schedule as cosine_schedule
from nnscratch.optimizers import trapezoid_schedule as trapezoid_schedule
from nnscratch.rotary_embedding import RotaryEmbedding as RotaryEmbedding
from nnscratch.transformer import TransformerBlock as TransformerBlock
from nnscratch.transformer import TransformerLM as TransformerLM
from nnscratch.transformer import import_huggingface as import_huggingface

__version__: str
