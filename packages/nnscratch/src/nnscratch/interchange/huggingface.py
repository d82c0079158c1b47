"""Exchange with directories of `transformers` that hold a LlamaForCausalLM."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nnscratch.interchange.files import replacing
from nnscratch.interchange.llama import halves_to_pairs, is_rotated, pairs_to_halves, renamed, require_llama
from nnscratch.interchange.llama_config import llama_config, read_llama_config
from nnscratch.interchange.native import CONFIG_FILE, WEIGHTS_FILE, untied_state, write_json, write_weights
from nnscratch.interchange.shards import check_names_and_shapes, find_shards, read_headers, read_tensors
from nnscratch.interchange.tokenizer_files import SETTINGS_FILE, TokenizerFiles, read_tokenizer_files
from nnscratch.transformer import TransformerLM

_GENERATION_FILE = "generation_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_WRITTEN = (*_TOKENIZER_FILES, SETTINGS_FILE, WEIGHTS_FILE, _GENERATION_FILE, CONFIG_FILE)
_NAMES = {
    "token_embeddings": "model.embed_tokens",
    "ln_final": "model.norm",
    "lm_head": "lm_head",
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w2": "mlp.down_proj",
    "ffn.w3": "mlp.up_proj",
}
_BLOCK = "model.layers"
_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"


def export_huggingface(model: TransformerLM, tokenizer_dir: str | Path, out_dir: str | Path) -> None:
    """Write a directory that `AutoModelForCausalLM` and `AutoTokenizer` of transformers open.

    Rows of the query and key projections are put in another order, because Llama turns x[k] with x[k + d_k/2] where
    this package turns x[2k] with x[2k + 1]; scores do not change by it.

    The tokens before and after a text (bos and eos) are those that tokenizer_config.json names; what it does not name
    is `<|endoftext|>`, if the tokenizer has it. Where it names no tokenizer class, the one is written that takes
    tokenizer.json as it is.

    A new directory appears whole. In one that is there already, files of an earlier export are replaced, and others
    left alone; config.json, without which nothing opens it, goes first and comes back last.

    Args:
        model: a model that is a Llama: norm "pre", position "rope", ffn "swiglu", no qk_norm, no logit_soft_cap.
        tokenizer_dir: where `tokenizer.json` and its companions are; they are copied.
        out_dir: the directory to write; made if need be.

    Raises:
        ValueError: if the model is not a Llama, the tokenizer has more tokens than the model or files that disagree,
            or a model of `save_pretrained` is in `out_dir`.
        FileNotFoundError: if there is no `tokenizer.json`.
        NotADirectoryError: if `out_dir` is a file.
    """
    config = model.config
    require_llama(config)
    tokenizer = read_tokenizer_files(Path(tokenizer_dir), config.vocab_size)
    with _replacing_directory(Path(out_dir)) as folder:
        _copy_tokenizer(tokenizer, folder)
        weights = {
            renamed(name, _NAMES, _BLOCK): pairs_to_halves(tensor, config) if is_rotated(name) else tensor
            for name, tensor in untied_state(model).items()
        }
        write_weights(weights, folder / WEIGHTS_FILE, {})
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        if known := {name: index for name, index in ids.items() if index is not None}:
            write_json(known, folder / _GENERATION_FILE)
        dtype = model.token_embeddings.weight.dtype
        write_json(llama_config(config, dtype, tokenizer.bos_id, tokenizer.eos_id), folder / CONFIG_FILE)


def import_huggingface(directory: str | Path, device: torch.device | str = "cpu") -> TransformerLM:
    """Return the model of a directory that transformers, or `export_huggingface`, wrote for a LlamaForCausalLM.

    It reads config.json, and model.safetensors or the shards of model.safetensors.index.json; never a pickle. Rows of
    the query and key projections come back into the order of adjacent pairs.

    The model has the dtype of the weights, whatever config.json says; where they have several (float32 norms among
    bfloat16 matrices, say), the narrowest that holds all of them exactly. `model.to(dtype)` makes it another.

    Args:
        directory: a local directory.
        device: where the parameters live.

    Raises:
        FileNotFoundError: if config.json, the weights or one of their shards is missing.
        ValueError: if a file is damaged; if the config asks for what `TransformerConfig` cannot express, naming the
            field; if parameters are missing, unexpected, of a wrong shape or not floating point.
    """
    directory = Path(directory)
    if not (directory / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"no file {str(directory / CONFIG_FILE)!r}; name a local directory that save_pretrained of transformers, "
            f"or export_huggingface, wrote"
        )
    config = read_llama_config(directory / CONFIG_FILE)
    shards = find_shards(directory)
    stored = read_headers(shards)
    expected = TransformerLM(config, device="meta").state_dict()
    our_name = {renamed(name, _NAMES, _BLOCK): name for name in expected}
    shapes = {theirs: tuple(expected[ours].shape) for theirs, ours in our_name.items()}
    optional = {_HEAD} if config.tie_embeddings else set()
    dtype = check_names_and_shapes(directory, stored, shapes, optional)
    state = {}
    for theirs, tensor in read_tensors(shards, shapes.keys()):
        ours = our_name[theirs]
        state[ours] = (halves_to_pairs(tensor, config) if is_rotated(ours) else tensor).to(dtype)
    if config.tie_embeddings:
        embedding = state[our_name[_EMBEDDING]]
        if not torch.equal(state.setdefault(our_name[_HEAD], embedding), embedding):
            raise ValueError(
                f"{str(directory)!r} has tie_word_embeddings=True and a {_HEAD} other than {_EMBEDDING}, expected "
                f"one matrix; set tie_word_embeddings to false if they are two"
            )
    model = TransformerLM(config, device=device, dtype=dtype)
    model.load_state_dict(state)
    return model


def _copy_tokenizer(tokenizer: TokenizerFiles, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        source = tokenizer.path.with_name(name)
        if source.is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(source, temporary)
    # Without a class, older versions of transformers take the one of Llama 2, which splits text in another way.
    write_json({"tokenizer_class": "PreTrainedTokenizerFast"} | tokenizer.settings, folder / SETTINGS_FILE)


@contextmanager
def _replacing_directory(directory: Path) -> Iterator[Path]:
    """Give a temporary directory; when the block ends well, its files go to `directory`, config.json last."""
    target = directory.resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{str(directory)!r} is a file, expected a directory; name another")
    if _holds_own_model(target):
        raise ValueError(
            f"{str(directory)!r} holds a model of save_pretrained, which the export would overwrite; "
            f"name another directory"
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not target.exists():
            temporary.rename(target)
            return
        for name in (CONFIG_FILE, *_WRITTEN):
            if name == CONFIG_FILE or not (temporary / name).exists():
                (target / name).unlink(missing_ok=True)
        for name in _WRITTEN:
            if (temporary / name).exists():
                (temporary / name).replace(target / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds_own_model(directory: Path) -> bool:
    """Tell whether a directory has the config.json of `save_pretrained`."""
    try:
        content = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == "nnscratch"
