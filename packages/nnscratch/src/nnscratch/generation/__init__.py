"""Text generation: prompts in, tokens out, for any `LanguageModel`."""

from nnscratch.generation.decoding import complete, generate, stream, stream_rows, stream_with_logits
from nnscratch.generation.int8_weights import quantize_int8
from nnscratch.generation.sampling import next_token_probabilities

__all__ = [
    "complete",
    "generate",
    "next_token_probabilities",
    "quantize_int8",
    "stream",
    "stream_rows",
    "stream_with_logits",
]
