import dataclasses
import subprocess
import sys

import pytest
import torch
from speedrun_models import CONFIGS, OFF, ON
from torch.utils.flop_counter import FlopCounterMode

import nnscratch
from nnscratch.speedrun import SWITCHES, SpeedrunConfig, computing_parameters, flops_per_token, parameters_by_group
from nnscratch.speedrun.language_model import SpeedrunLM

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def test_the_config_and_its_accounting_do_without_torch():
    code = (
        "import sys; from nnscratch.speedrun import *; "
        "flops_per_token(SpeedrunConfig(9, 9, 8, 2, 2, 8)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_value_embeddings_are_on_the_last_layer_and_every_other_one():
    layers = {
        num_layers: dataclasses.replace(ON, num_layers=num_layers).value_embedding_layers for num_layers in (2, 5, 12)
    }
    assert layers == {2: (1,), 5: (0, 2, 4), 12: (1, 3, 5, 7, 9, 11)}
    assert OFF.value_embedding_layers == ()


@every_config
def test_a_config_comes_back_from_a_dictionary(config):
    assert SpeedrunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ffn": "gelu"}, "ffn='gelu' is unknown; choose one of swiglu, silu, relu_squared"),
        ({"norm": "post"}, "norm='post' is not supported here; choose 'pre'"),
        ({"position": "none"}, "position='none' is not supported here; choose 'rope'"),
        ({"num_kv_heads": 2}, "num_kv_heads=2 is not supported here; choose None"),
        ({"head_size": 16}, "head_size=16 is not supported here; choose None"),
        ({"window": 8}, "window=8 is not supported here; choose None"),
        ({"qkv_bias": True}, "qkv_bias=True is not supported here; choose False"),
        ({"value_embeddings": 1}, "value_embeddings=1 is not a switch; choose True or False"),
        ({"qk_norm": None}, "qk_norm=None is not a switch; choose True or False"),
        ({"logit_soft_cap": 0.0}, "logit_soft_cap=0.0 is .*choose a number above 0, or None"),
        ({"num_layers": 1, "skip_connections": True}, "skip_connections=True needs two halves, but num_layers=1"),
        ({"num_heads": 3}, "num_heads=3 does not divide d_model=32"),
        ({"d_ff": 0}, "d_ff=0 is .*choose an integer of at least 1"),
    ],
)
def test_what_makes_no_model_is_refused(unchecked_shapes, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(OFF, **changes)


def test_switches_are_the_fields_that_are_on_or_off():
    switches = {name for name, value in vars(ON).items() if isinstance(value, bool)}
    others = {"qkv_bias", "qk_norm_gains"}  # no speedrun model has the first; the second is no addition
    assert set(SWITCHES) == switches - others
    assert not any(getattr(OFF, name) for name in SWITCHES)


def test_a_record_from_before_a_switch_has_it_off():
    values = ON.to_dict()
    del values["gainless_norms"]
    assert SpeedrunConfig.from_dict(values) == ON


def test_norms_of_queries_and_keys_without_gains_have_no_parameters():
    with_gains, without = (dataclasses.replace(ON, qk_norm_gains=gains) for gains in (True, False))
    states = [SpeedrunLM(config).state_dict() for config in (with_gains, without)]
    assert states[0].keys() - states[1].keys() == {
        f"layers.{layer}.attn.{name}_norm.weight" for layer in range(4) for name in "qk"
    }


@every_config
def test_parameters_are_those_of_the_model(config):
    groups = SpeedrunLM(config).parameter_groups()
    expected = {name: sum(param.numel() for param in params) for name, params in groups.items()}
    assert parameters_by_group(config) == expected


def test_parameters_that_compute_are_the_matrices_of_blocks_and_output_layer():
    config = SpeedrunConfig(32_000, 512, 1024, 12, 8, 4096, ffn="relu_squared", value_embeddings=True)
    assert computing_parameters(config) == 12 * 12 * 1024**2 + 32_000 * 1024


@every_config
def test_flops_are_those_that_torch_counts(config):
    model, token_ids = SpeedrunLM(config), torch.randint(50, (3, 12))
    # With padding, of none here, attention takes the whole square, which is what is counted.
    with FlopCounterMode(display=False) as forward:
        logits = model(token_ids, padding=torch.zeros(3, dtype=torch.long))
    assert forward.get_total_flops() == 3 * 12 * flops_per_token(config)
    with FlopCounterMode(display=False) as backward:
        logits.square().sum().backward()
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == pytest.approx(3 * 12 * flops_per_token(config, backward=True), rel=0.01)


def test_flops_beside_those_of_the_transformer():
    assert flops_per_token(OFF, 5) == nnscratch.flops_per_token(OFF, 5)
    gates = 2 * (2 * 4 * 32)  # two gated layers, products of 32 channels for each of 4 heads
    assert flops_per_token(CONFIGS["value_embeddings"]) == flops_per_token(OFF) + gates
