"""The three lines of nnscratch's README that open a published model, on a small stand-in."""

import re
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

README = Path(__file__).parents[3] / "packages" / "nnscratch" / "README.md"


def save_small_smollm(directory):
    """A random model with the architecture and the kind of tokenizer of SmolLM 2."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = split.Sequence([split.Digits(individual_digits=True), split.ByteLevel(False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=split.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Gravity is what keeps 12 apples on the ground, is it not?\n"] * 3, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(directory)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # Larger weights, so that the text does not repeat one token.
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    for index in range(300):  # Only tokens that are text have logits other than 0.
        model.model.embed_tokens.weight.data[index] *= "\ufffd" not in fast.decode(index)
    model.save_pretrained(directory)
    return model, fast


def test_a_model_of_the_hub_opens_and_writes_in_three_lines(tmp_path, monkeypatch, capsys):
    (lines,) = re.findall(r"```python\n(import bpe, nnscratch as nn\n.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 3
    model, tokenizer = save_small_smollm(tmp_path / "SmolLM2-135M")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    prompt = tokenizer("Gravity is", return_tensors="pt")
    prompt.pop("token_type_ids", None)
    theirs = model.generate(**prompt, do_sample=False, max_new_tokens=40)[0, prompt["input_ids"].shape[1] :]
    assert len(set(theirs.tolist())) > 5
    assert capsys.readouterr().out == tokenizer.decode(theirs) + "\n"
