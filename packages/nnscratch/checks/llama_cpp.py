"""Run exported models in llama.cpp, and compare token ids, greedy texts and probabilities with ours.

    pip install xllamacpp packages/bpe packages/nnscratch[gguf]
    python packages/nnscratch/checks/llama_cpp.py [--dtype f32|f16|bf16] [--strings 2000] [--narrow-cache]

The models are small, untied, tied, and with shared keys and values, with random weights and a tokenizer trained on two
sentences. llama.cpp keeps keys and values in float32 here; `--narrow-cache` selects float16, its default. The exit
status is 1 if ids differ, or if greedy texts differ although nothing is rounded to fewer bits.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import torch
import xllamacpp

import bpe
from nnscratch import TransformerConfig, TransformerLM, export_gguf, generate

TEXTS = [
    "The quick brown fox jumps over the lazy dog's tail.\n\n  It can't be 1234 or  naïve 漢字 🙂!\n",
    "the cat sat on the mat, they've seen them there.\n",
] * 20
PROMPTS = ["the cat's tail", " naïve 漢字 🙂\n\n  they've 1234  ", "The quick<|endoftext|>the"]
CHARACTERS = "the cat's  \n\t123.,!é漢🙂 aA'llve\u00a0\u0301\r_-#"
NEW_TOKENS = 24


MODELS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied": {"tie_embeddings": True},
    "shared keys and values": {"num_kv_heads": 2, "head_size": 24},
}


def make_model(changes: dict[str, Any]) -> TransformerLM:
    """Return a model with gains other than 1, so that a missing gain shows."""
    torch.manual_seed(0)
    model = TransformerLM(
        TransformerConfig(
            vocab_size=512,
            context_length=256,
            d_model=64,
            num_layers=3,
            num_heads=4,
            d_ff=192,
            rope_theta=500.0,
            norm_eps=1e-3,
            **changes,
        )
    )
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


class LlamaCpp:
    """Server of llama.cpp with one model."""

    def __init__(self, path: Path, narrow_cache: bool) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_gpu_layers, parameters.n_parallel = 256, 0, 1
        parameters.warmup = parameters.fit_params = False
        parameters.cpuparams.n_threads = 2
        if not narrow_cache:
            parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(parameters)
        address = str(self.server.listening_address)
        self.address = address if address.startswith("http") else f"http://{address}"

    def ask(self, route: str, **body: Any) -> Any:
        """Return the response to a request."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + route, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def compare(name: str, options: argparse.Namespace, folder: Path) -> bool:
    """Print the differences and return whether ids and texts are equal."""
    tokenizer = bpe.train_from_iterator(TEXTS, 400)
    tokenizer.save_pretrained(folder / "tokenizer")
    model = make_model(MODELS[name])
    export_gguf(model, folder / "tokenizer", folder / "model.gguf", dtype=options.dtype)
    llama = LlamaCpp(folder / "model.gguf", options.narrow_cache)
    draw = random.Random(0)
    strings = PROMPTS + ["".join(draw.choices(CHARACTERS, k=draw.randrange(1, 30))) for _ in range(options.strings)]
    different = sum(
        llama.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"] != tokenizer.encode(text)
        for text in strings
    )
    other_texts, furthest = 0, 0.0
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        answer = llama.ask(
            "/completion", prompt=ids, n_predict=NEW_TOKENS, temperature=0.0, return_tokens=True, cache_prompt=False
        )
        ours = generate(model, ids, max_new_tokens=NEW_TOKENS, temperature=0.0, eos_id=tokenizer.eot_id)[0]
        new = ours.tolist()[len(ids) :]
        other_texts += answer["tokens"] != new
        for length in range(len(new)):
            seen = ids + new[:length]
            answer = llama.ask(
                "/completion", prompt=seen, n_predict=1, temperature=0.0, n_probs=512, cache_prompt=False
            )
            with torch.no_grad():
                expected = model(torch.tensor([seen]))[0, -1].log_softmax(-1)
            for step in answer.get("completion_probabilities", []):  # An end of text has none.
                for token in step["top_logprobs"]:
                    furthest = max(furthest, abs(token["logprob"] - float(expected[token["id"]])))
    print(
        f"{options.dtype}, {name}: {different} of {len(strings):,} strings have different ids, "
        f"{other_texts} of {len(PROMPTS)} greedy texts differ, log-probabilities differ by {furthest:.1e} at most"
    )
    exact = options.dtype == "f32" and not options.narrow_cache
    return different == 0 and not (exact and other_texts)


def main() -> None:
    """Compare each of the models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--narrow-cache", action="store_true")
    options = parser.parse_args()
    print(xllamacpp.BUILD_INFO)
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(name, options, Path(folder)) for name in MODELS]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
