"""Export to a GGUF file of architecture "llama", for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnscratch.config import TransformerConfig
from nnscratch.interchange.byte_level import Vocabulary, read_byte_level
from nnscratch.interchange.families import require_llama
from nnscratch.interchange.files import replacing
from nnscratch.interchange.native import untied_state
from nnscratch.interchange.parameter_names import renamed
from nnscratch.interchange.tokenizer_files import read_tokenizer_files
from nnscratch.language_model import LanguageModel

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {
    "token_embeddings": "token_embd",
    "ln_final": "output_norm",
    "lm_head": "output",
    "ln1": "attn_norm",
    "ln2": "ffn_norm",
    "attn.q_proj": "attn_q",
    "attn.k_proj": "attn_k",
    "attn.v_proj": "attn_v",
    "attn.output_proj": "attn_output",
    "ffn.w1": "ffn_gate",
    "ffn.w2": "ffn_down",
    "ffn.w3": "ffn_up",
}
_BLOCK = "blk"


def export_gguf(model: LanguageModel, tokenizer_dir: str | Path, path: str | Path, *, dtype: str = "f32") -> None:
    """Write a model and its tokenizer as one GGUF file of architecture "llama".

    llama.cpp rotates adjacent pairs of queries and keys, as this package does, so rows keep their order. A tied output
    layer is left out, and llama.cpp uses the embedding in its place. Encoding adds no token before or after a text.

    Ids without a token, which exist if the model's vocabulary was rounded up, become unused tokens named after their
    id, such as "[PAD300]".

    Args:
        model: A `TransformerLM` that is a Llama: norm "pre", position "rope", ffn "swiglu", no qk_norm, no
            logit_soft_cap.
        tokenizer_dir: Directory with the `tokenizer.json` of a byte-level BPE with GPT-2's pattern.
        path: File to write; its directory is created if necessary. An older file is replaced atomically.
        dtype: Dtype of the stored matrices, "f32", "f16" or "bf16"; norms are always float32.

    Raises:
        ImportError: If the package `gguf` is not installed.
        ValueError: If the model is not a Llama; if the tokenizer is not byte-level BPE with GPT-2's pattern, has no
            end-of-text token or more tokens than the model; if a weight is too large for float16.
        FileNotFoundError: If there is no `tokenizer.json`.
        IsADirectoryError: If `path` is a directory.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r} is unknown; choose one of {', '.join(_DTYPES)}")
    config = require_llama(model.config)
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory, expected the name of a file; add model.gguf to it")
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise ImportError(
            'export_gguf needs the package gguf, which is not installed; pip install "scratchlm-nnscratch[gguf]"'
        ) from error
    vocabulary = read_byte_level(read_tokenizer_files(Path(tokenizer_dir), config.vocab_size))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        writer = GGUFWriter(temporary, "llama")
        try:
            _add_architecture(writer, path.stem, config, dtype)
            _add_vocabulary(writer, vocabulary, config.vocab_size)
            _add_tensors(writer, untied_state(model, config.tie_embeddings), dtype)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _add_architecture(writer: GGUFWriter, name: str, config: TransformerConfig, dtype: str) -> None:
    from gguf import GGML_QUANT_VERSION, GGUFType, LlamaFileType

    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.d_k)
    writer.add_value_length(config.d_k)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.d_k)
    writer.add_vocab_size(config.vocab_size)
    kinds = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "bf16": LlamaFileType.MOSTLY_BF16}
    writer.add_file_type(kinds[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, vocab_size: int) -> None:
    from gguf import TokenType

    tokens, types = [], []
    for index in range(vocab_size):
        text = vocabulary.texts.get(index)
        if text is None:
            text, kind = f"[PAD{index}]", TokenType.UNUSED
            while text in vocabulary.ids:  # llama.cpp expects every token to have a text of its own.
                text = f"[{text}]"
        elif index in vocabulary.added:
            kind = TokenType.CONTROL if vocabulary.added[index] else TokenType.USER_DEFINED
        else:
            kind = TokenType.NORMAL
        tokens.append(text)
        types.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _add_tensors(writer: GGUFWriter, weights: dict[str, torch.Tensor], dtype: str) -> None:
    for name, tensor in weights.items():
        kind = "f32" if tensor.dim() == 1 else dtype
        array, raw_dtype = _stored(name, tensor, kind)
        writer.add_tensor(renamed(name, _NAMES, _BLOCK), array, raw_dtype=raw_dtype)


def _stored(name: str, tensor: torch.Tensor, dtype: str) -> tuple[np.ndarray, Any]:
    """Return the values and the type of a tensor as arguments of `GGUFWriter.add_tensor`."""
    from gguf import GGMLQuantizationType

    values = tensor.detach().cpu().to(_DTYPES[dtype]).contiguous()
    if dtype == "f16" and bool((values.isinf() & ~tensor.cpu().isinf()).any()):
        raise ValueError(
            f"{name} has a weight of {tensor.abs().max().item():.4g}, and float16 ends at 65504; choose dtype='bf16'"
        )
    if dtype == "bf16":  # numpy has no bfloat16, so the bytes are passed.
        return values.view(torch.uint8).numpy(), GGMLQuantizationType.BF16
    return values.numpy(), None
