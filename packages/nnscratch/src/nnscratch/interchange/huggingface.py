"""Export and import of model directories of the transformers library."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from nnscratch.config import TransformerConfig
from nnscratch.interchange.families import OLMO_2, Family, family_of
from nnscratch.interchange.files import replacing, write_json
from nnscratch.interchange.huggingface_config import huggingface_config, read_huggingface_config
from nnscratch.interchange.native import CONFIG_FILE, FORMAT, WEIGHTS_FILE, untied_state, write_weights
from nnscratch.interchange.parameter_names import halves_to_pairs, is_rotated, pairs_to_halves, renamed
from nnscratch.interchange.shards import check_names_and_shapes, find_shards, read_headers, read_tensors
from nnscratch.interchange.tokenizer_files import SETTINGS_FILE, TokenizerFiles, read_tokenizer_files
from nnscratch.language_model import LanguageModel

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
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w2": "mlp.down_proj",
    "ffn.w3": "mlp.up_proj",
}
_REORDERED_NORMS = {"ln1": "post_attention_layernorm", "ln2": "post_feedforward_layernorm"}
_BLOCK = "model.layers"
_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"


def export_huggingface(model: LanguageModel, tokenizer_dir: str | Path, out_dir: str | Path) -> None:
    """Write a directory that `AutoModelForCausalLM` and `AutoTokenizer` of transformers open.

    The config decides on the architecture: Llama, Mistral (a window, or a number of heads that does not divide the
    width), Qwen 2 (qkv_bias), Qwen 3 (qk_norm), OLMo 2 (norm "reordered") or SmolLM 3 (layers without RoPE, or some
    without a window).

    Rows of the query and key projections are reordered, because these models rotate the pair (x[k], x[k + d_k/2]) where
    this package rotates (x[2k], x[2k + 1]). Attention scores do not change. No family has QK-norm without gains: gains
    of one are written, and `import_huggingface` returns a model with gains.

    The tokens before and after a text (bos and eos) are those named in tokenizer_config.json, or else `<|endoftext|>`
    if the tokenizer has it. If no tokenizer class is named, the class that uses tokenizer.json unchanged is written.

    A new directory appears complete or not at all. In an existing directory, files of an earlier export are replaced
    and other files are kept; config.json, without which nothing opens the directory, is removed first and written last.

    Args:
        model: A `TransformerLM` with position "rope", ffn "swiglu", no logit_soft_cap, and the norms of a family.
        tokenizer_dir: Directory of `tokenizer.json` and the other tokenizer files, which are copied.
        out_dir: Directory to write, created if necessary.

    Raises:
        ValueError: If no family has such models, naming the field; if the tokenizer has more tokens than the model, or
            its files contradict one another; if `out_dir` holds a model of `TransformerLM.save_pretrained`.
        FileNotFoundError: If there is no `tokenizer.json`.
        NotADirectoryError: If `out_dir` is a file.
    """
    family, config = family_of(model.config, getattr(model, "model_type", None))
    names = _names(family)
    tokenizer = read_tokenizer_files(Path(tokenizer_dir), config.vocab_size)
    with _replacing_directory(Path(out_dir)) as folder:
        _copy_tokenizer(tokenizer, folder)
        weights = {
            renamed(name, names, _BLOCK): pairs_to_halves(tensor, config) if is_rotated(name) else tensor
            for name, tensor in (untied_state(model, config.tie_embeddings) | _gains_of_one(model, config)).items()
        }
        write_weights(weights, folder / WEIGHTS_FILE, {})
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        if known := {name: index for name, index in ids.items() if index is not None}:
            write_json(known, folder / _GENERATION_FILE)
        dtype = model.token_embeddings.weight.dtype
        write_json(huggingface_config(config, family, dtype, tokenizer.bos_id, tokenizer.eos_id), folder / CONFIG_FILE)


def read_huggingface(
    directory: Path, shapes_of: Callable[[TransformerConfig], Mapping[str, tuple[int, ...]]]
) -> tuple[TransformerConfig, dict[str, Tensor], str]:
    """Read the config and the weights of a model, with our names and our order of rows, and its model_type.

    Args:
        directory: A local directory with config.json and safetensors.
        shapes_of: Function that returns the shape of every parameter of a model with a config.

    Raises:
        FileNotFoundError: If config.json, the weights or a shard is missing.
        ValueError: If a file is damaged, `TransformerLM` cannot represent the config, or the weights do not fit the
            config.
    """
    if not (directory / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"no file {str(directory / CONFIG_FILE)!r}; name a local directory that save_pretrained of transformers, "
            f"or export_huggingface, wrote"
        )
    config, family = read_huggingface_config(directory / CONFIG_FILE)
    shards = find_shards(directory)
    our_shapes = shapes_of(config)
    names = _names(family)
    our_name = {renamed(name, names, _BLOCK): name for name in our_shapes}
    shapes = {theirs: our_shapes[ours] for theirs, ours in our_name.items()}
    optional = {_HEAD} if config.tie_embeddings else set()
    dtype = check_names_and_shapes(directory, read_headers(shards), shapes, optional)
    weights = {}
    for theirs, tensor in read_tensors(shards, shapes.keys()):
        ours = our_name[theirs]
        weights[ours] = (halves_to_pairs(tensor, config) if is_rotated(ours) else tensor).to(dtype)
    if config.tie_embeddings:
        embedding = weights[our_name[_EMBEDDING]]
        if not torch.equal(weights.setdefault(our_name[_HEAD], embedding), embedding):
            raise ValueError(
                f"{str(directory)!r} has tie_word_embeddings=True and a {_HEAD} that differs from {_EMBEDDING}, "
                f"expected one matrix; set tie_word_embeddings to false if they are two"
            )
    return config, weights, family.model_type


def _gains_of_one(model: LanguageModel, config: TransformerConfig) -> dict[str, Tensor]:
    """Return a gain for each norm of `qk_norm` that has none."""
    if not config.qk_norm or config.qk_norm_gains:
        return {}
    gains = {}
    for name, weight in model.state_dict().items():
        if name.endswith(("attn.q_proj.weight", "attn.k_proj.weight")):
            width = config.d_k if config.qk_norm_scope == "head" else weight.shape[0]
            gains[name.replace("_proj.", "_norm.")] = weight.new_ones(width)
    return gains


def _names(family: Family) -> dict[str, str]:
    """Return the names in transformers of our modules."""
    return _NAMES | _REORDERED_NORMS if family is OLMO_2 else _NAMES


def _copy_tokenizer(tokenizer: TokenizerFiles, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        source = tokenizer.path.with_name(name)
        if source.is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(source, temporary)
    # If no class is named, older versions of transformers use the class of Llama 2, which splits text differently.
    write_json({"tokenizer_class": "PreTrainedTokenizerFast"} | tokenizer.settings, folder / SETTINGS_FILE)


@contextmanager
def _replacing_directory(directory: Path) -> Iterator[Path]:
    """Yield a temporary directory; if the block succeeds, its files move to `directory`, config.json last."""
    target = directory.resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{str(directory)!r} is a file, expected a directory; name another")
    if _holds_native_model(target):
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
        # Nothing opens a directory without config.json, so no reader finds a mixture of old and new files.
        for name in (CONFIG_FILE, *_WRITTEN):
            if name == CONFIG_FILE or not (temporary / name).exists():
                (target / name).unlink(missing_ok=True)
        for name in _WRITTEN:
            if (temporary / name).exists():
                (temporary / name).replace(target / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds_native_model(directory: Path) -> bool:
    """Return whether a directory has the config.json of `save_pretrained`."""
    try:
        content = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
