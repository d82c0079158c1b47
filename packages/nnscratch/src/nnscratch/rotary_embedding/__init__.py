"""Rotary position embedding, and Triton kernels that normalize heads and rotate them in one pass."""

from nnscratch.rotary_embedding.layer import RotaryEmbedding as RotaryEmbedding
from nnscratch.rotary_embedding.triton_operator import can_normalize_and_rotate as can_normalize_and_rotate
from nnscratch.rotary_embedding.triton_operator import normalize_and_rotate as normalize_and_rotate
