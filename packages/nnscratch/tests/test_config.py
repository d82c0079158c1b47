import dataclasses
import json
import math

import pytest

from nnscratch import RopeScaling, TransformerConfig

SIZES = {"vocab_size": 50, "context_length": 16, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64}


def test_defaults_and_the_order_of_fields():
    config = TransformerConfig(50, 16, 32, 2, 4, 64, 10_000.0)
    assert config == TransformerConfig(**SIZES)
    assert (config.norm, config.position, config.ffn, config.tie_embeddings) == ("pre", "rope", "swiglu", False)
    assert (config.num_kv_heads, config.kv_heads, config.head_size, config.d_k) == (None, 4, None, 8)
    assert dataclasses.replace(config, d_model=48, num_heads=2).d_k == 24
    assert dataclasses.replace(config, num_heads=2).kv_heads == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_ff = 3


def test_heads_may_share_keys_and_have_any_size():
    config = TransformerConfig(**SIZES | {"num_heads": 6}, num_kv_heads=2, head_size=10)
    assert (config.kv_heads, config.d_k) == (2, 10)


def test_a_config_survives_json():
    config = TransformerConfig(**SIZES, norm="post", tie_embeddings=True, logit_soft_cap=30.0, num_kv_heads=2)
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    config = dataclasses.replace(
        config, no_rope_layers=(0, 1), rope_scaling=RopeScaling(factor=2.0), ngram_rows=9, ngrams=(3,)
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert values == config.to_dict()
    assert TransformerConfig.from_dict(values) == config
    assert TransformerConfig.from_dict(SIZES) == TransformerConfig(**SIZES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: 0}, f"{name}=0 is out of range; choose an integer of at least 1") for name in SIZES),
        ({"d_model": 32.0}, "d_model=32.0 is out of range"),
        ({"num_layers": True}, "num_layers=True is out of range"),
        ({"norm": "layer"}, "norm='layer' is unknown; choose one of pre, post, reordered, none"),
        ({"qk_norm_scope": "row", "qk_norm": True}, "qk_norm_scope='row' is unknown; choose one of head, all_heads"),
        ({"qk_norm_scope": "all_heads"}, "qk_norm_scope='all_heads' needs qk_norm=True; set it, or choose 'head'"),
        ({"dropout": 1.0}, "dropout=1.0 is out of range; choose a number from 0 up to, not including, 1"),
        ({"dropout": -0.1}, "dropout=-0.1 is out of range"),
        ({"attention_dropout": False}, "attention_dropout=False is out of range"),
        ({"ngram_dropout": 1}, "ngram_dropout=1 is out of range"),
        ({"attention_dropout": math.nan}, "attention_dropout=nan is out of range"),
        ({"document_separator": 50}, "document_separator=50 is no token; choose an id below vocab_size=50, or None"),
        ({"document_separator": -1}, "document_separator=-1 is no token"),
        ({"ngram_rows": 1}, r"ngram_rows=1 is out of range; choose an integer from 2 to 2\*\*31, or None"),
        ({"ngram_rows": 2**31 + 1}, "ngram_rows=2147483649 is out of range"),
        ({"ngram_rows": True}, "ngram_rows=True is out of range"),
        ({"ngram_rows": 9, "ngrams": [3, 2]}, r"ngrams=\(3, 2\) is out of range; give ascending integers of at least"),
        ({"ngram_rows": 9, "ngrams": [1]}, r"ngrams=\(1,\) is out of range"),
        ({"ngram_rows": 9, "ngrams": []}, r"ngrams=\(\) is out of range"),
        ({"ngram_rows": 9, "ngrams": 2}, "ngrams=2 is out of range"),
        ({"ngram_rows": 9, "ngram_min_count": 0}, "ngram_min_count=0 is out of range; choose an integer of at least 1"),
        (
            {"ngram_rows": 9, "ngram_min_count": 2, "ngrams": (2, 40)},
            r"ngrams=\(2, 40\) are too long to be numbered in 64 bits with vocab_size=",
        ),
        ({"ngrams": [2]}, r"ngrams=\(2,\) needs ngram_rows; give the rows of each table, or leave ngrams out"),
        ({"qkv_bias": 1}, "qkv_bias=1 is not a switch"),
        ({"window": 0}, "window=0 is out of range; choose an integer of at least 1, or None"),
        ({"full_attention_layers": [0]}, r"full_attention_layers=\(0,\) needs a window; give one, or no layers"),
        ({"no_rope_layers": [2]}, r"no_rope_layers=\(2,\) names layer 2, but num_layers=2; layers are counted from 0"),
        ({"no_rope_layers": [1, 0]}, r"no_rope_layers=\(1, 0\) is out of range; give ascending indices of layers"),
        ({"no_rope_layers": [0, 0]}, r"no_rope_layers=\(0, 0\) is out of range"),
        ({"no_rope_layers": [-1]}, r"no_rope_layers=\(-1,\) is out of range"),
        ({"no_rope_layers": 1}, "no_rope_layers=1 is out of range"),
        ({"no_rope_layers": [1], "position": "none"}, r"no_rope_layers=\(1,\) needs position='rope'; choose it, or"),
        ({"rope_scaling": 8.0}, "rope_scaling=8.0 is out of range; choose a RopeScaling, or None"),
        ({"rope_scaling": {"scale": 8.0}}, r"rope_scaling has unknown fields \['scale'\]; known are factor, low_freq"),
        ({"rope_scaling": {"factor": 0.0}}, "rope_scaling.factor=0.0 is out of range; choose a number above 0"),
        (
            {"rope_scaling": {"original_context_length": 8.5}},
            "rope_scaling.original_context_length=8.5 is out of range",
        ),
        ({"rope_scaling": {"high_freq_factor": 1.0}}, "high_freq_factor=1.0 and low_freq_factor=1.0; choose a higher"),
        ({"rope_scaling": {}, "position": "none"}, r"rope_scaling=.* needs position='rope'"),
        ({"position": "sine"}, "position='sine' is unknown; choose one of rope, none"),
        ({"ffn": "gelu"}, "ffn='gelu' is unknown; choose one of swiglu, silu, relu_squared"),
        ({"tie_embeddings": 1}, "tie_embeddings=1 is not a switch; choose True or False"),
        ({"qk_norm_gains": 1, "qk_norm": True}, "qk_norm_gains=1 is not a switch"),
        ({"qk_norm_gains": False}, "qk_norm_gains=False needs qk_norm=True; set it, or leave qk_norm_gains out"),
        ({"qk_norm": "yes"}, "qk_norm='yes' is not a switch"),
        ({"rope_theta": 0.0}, "rope_theta=0.0 is out of range"),
        ({"norm_eps": math.nan}, "norm_eps=nan is out of range; choose a number above 0"),
        ({"logit_soft_cap": 0.0}, "logit_soft_cap=0.0 is out of range; choose a number above 0, or None"),
        ({"num_heads": 5}, "num_heads=5 does not divide d_model=32; choose a divisor of it, or give head_size"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4; choose a divisor of it"),
        ({"num_kv_heads": 8}, "num_kv_heads=8 does not divide num_heads=4"),
        ({"num_kv_heads": 0}, "num_kv_heads=0 is out of range; choose an integer of at least 1, or None"),
        ({"head_size": 8.0}, "head_size=8.0 is out of range; choose an integer of at least 1, or None"),
        ({"head_size": 7}, "head_size gives heads of 7, which rope cannot rotate in pairs"),
        ({"num_heads": 32}, "d_model=32 over num_heads=32 gives heads of 1, which rope cannot rotate in pairs"),
    ],
)
def test_invalid_configs_are_refused(unchecked_shapes, changes, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig.from_dict(SIZES | changes)


def test_odd_heads_are_fine_without_rope():
    assert TransformerConfig(**SIZES | {"num_heads": 32}, position="none").d_k == 1


def test_from_dict_refuses_unknown_and_missing_fields():
    with pytest.raises(
        ValueError, match=r"unknown fields \['dff'\] in a model config; known are attention_dropout, context_length"
    ):
        TransformerConfig.from_dict(SIZES | {"dff": 3})
    with pytest.raises(ValueError, match="a model config lacks d_model, d_ff; add them"):
        TransformerConfig.from_dict({key: SIZES[key] for key in SIZES if key not in ("d_model", "d_ff")})
