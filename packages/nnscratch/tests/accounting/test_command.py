import dataclasses
import json
import subprocess
import sys

import pytest

from nnscratch import TransformerConfig, count_parameters, memory_estimate
from nnscratch.accounting.__main__ import main
from nnscratch.accounting.presets import GPT2


def printed(capsys, *arguments):
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_the_command_prints_the_assignment_s_tables(capsys):
    text = printed(capsys)
    for figure in ("2,127,057,600", "8.51 GB", "4.513 TFLOP", "0.3496 TFLOP", "1.033 TFLOP", "2.258 TFLOP"):
        assert figure in text
    for figure in ("149.5 TFLOP", "55.2 %", "66.9 %", "16.7 %", "29,778,806,400", "+ 34.03 GB", "6,583.6 days"):
        assert figure in text
    values = json.loads(printed(capsys, "--format", "json"))
    assert list(values["models"]) == ["gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    assert values["models"]["gpt2-xl"]["parameters"] == 2_127_057_600
    assert values["models"]["gpt2-xl"]["forward_flops"] == 4_513_336_524_800
    assert values["long_context"]["gpt2-xl"]["forward_flops"] == pytest.approx(149.5e12, rel=1e-3)
    assert values["training"]["gpt2-xl"]["training_days"] == pytest.approx(6_580, rel=1e-3)


def test_the_command_takes_any_model(capsys):
    sizes = "--vocab-size 10000 --context-length 256 --d-model 512 --num-layers 4 --num-heads 16 --d-ff 1344".split()
    options = (
        "--tie-embeddings --qk-norm --norm post --ffn silu --position none --optimizer muon --batch-size 32 "
        "--num-kv-heads 4 --head-size 24 --window 64 --qkv-bias --ngram-rows 500 --ngrams 2 4 "
        "--checkpoint-blocks".split()
    )
    architecture = {"norm": "post", "ffn": "silu", "position": "none", "num_kv_heads": 4, "head_size": 24}
    architecture |= {"window": 64, "qkv_bias": True, "ngram_rows": 500, "ngrams": (2, 4)}
    config = TransformerConfig(10_000, 256, 512, 4, 16, 1344, tie_embeddings=True, qk_norm=True, **architecture)
    values = json.loads(printed(capsys, *sizes, *options, "--format", "json"))
    assert values["models"]["model"]["config"] == config.to_dict()
    assert values["models"]["model"]["parameters"] == count_parameters(config)
    assert values["models"]["model"]["cache_bytes_per_sequence"] == 4 * 2 * 4 * 256 * 4 * 24
    estimate = memory_estimate(config, 32, optimizer="muon", checkpoint_blocks=True)
    assert values["training"]["model"]["activations"][0]["bytes_at_batch_size"] == estimate.total
    assert values["training"]["model"]["adamw_step_flops"] is None
    values = json.loads(printed(capsys, "--model", "gpt2-small", "--context-length", "64", "--format", "json"))
    assert (
        values["models"]["gpt2-small"]["config"] == dataclasses.replace(GPT2["gpt2-small"], context_length=64).to_dict()
    )
    assert f"{count_parameters(GPT2['gpt2-small']):,}" in printed(capsys, "--model", "gpt2-small")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--d-model", "512"], "the model lacks --vocab-size, --context-length, --num-layers"),
        (["--model", "gpt2-xl", "--num-heads", "7"], "num_heads=7 does not divide d_model=1600"),
        (["--mfu", "1.5"], "mfu=1.5 is out of range; choose a number above 0 and up to 1"),
        (["--steps", "0"], "steps=0 is out of range; choose a positive number"),
        (["--memory-gb", "nan"], "memory=nan is out of range; choose a finite number of bytes of at least 0"),
        (["--bytes-per-value", "0"], "bytes_per_value=0 is out of range; choose at least 1"),
    ],
)
def test_the_command_ends_with_one_line_for_a_wrong_value(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nnscratch.accounting: error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_the_command_needs_no_torch(arguments):
    code = (
        "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('nnscratch.accounting', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "gpt2-xl" in result.stdout
