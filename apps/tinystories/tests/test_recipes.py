"""Presets and variants: parameters, a training step, changed settings, schedules."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from nnscratch import TransformerLM
from tinystories.building import make_model, make_optimizer, model_config
from tinystories.flags import RecipeFlags
from tinystories.recipes import PRESETS, PresetName
from tinystories.training import Machine, learning_rate_schedule, train_config
from tinystories.variants import ABLATIONS, LOWER_RATE_FRACTION, VARIANTS


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("cpu-ablations", 658_048), ("cpu-quick", 1_315_968), ("cpu-course", 22_696_448), ("gpu-course", 22_696_448)],
)
def test_preset_builds(preset, expected):
    """Parameters by hand: two matrices of the vocabulary, per block four of attention and three of SwiGLU, norms."""
    recipe = PRESETS[preset]
    d, layers = recipe.d_model, recipe.num_layers
    by_hand = 2 * recipe.vocab_size * d + layers * (4 * d * d + 3 * d * recipe.d_ff + 2 * d) + d
    with torch.device("meta"):
        model = TransformerLM(model_config(recipe, recipe.vocab_size))
    assert sum(parameter.numel() for parameter in model.parameters()) == by_hand == expected


@pytest.mark.parametrize("variant", ABLATIONS, ids=lambda variant: variant.name)
def test_variants_begin_with_the_values_that_they_share_with_the_baseline(variant):
    tiny = replace(PRESETS["cpu-quick"], d_model=16, d_ff=48, vocab_size=300, seed=3)
    changed, base = (make_model(recipe, recipe.vocab_size).state_dict() for recipe in (variant.change(tiny), tiny))
    shared = [name for name in changed if name in base and changed[name].shape == base[name].shape]
    assert "layers.3.attn.output_proj.weight" in shared
    for name in shared:
        if variant.name == "tied_embeddings" and name in ("token_embeddings.weight", "lm_head.weight"):
            continue  # one matrix, with a standard deviation of its own
        torch.testing.assert_close(changed[name], base[name], rtol=0, atol=0)
    other = make_model(replace(tiny, seed=4), 300).state_dict()
    assert not torch.equal(other["layers.3.attn.output_proj.weight"], base["layers.3.attn.output_proj.weight"])
    first, second = base["layers.0.attn.output_proj.weight"], base["layers.1.attn.output_proj.weight"]
    assert not torch.equal(first, second)


def test_a_tied_model_begins_with_embeddings():
    """The output layer would draw wider values."""
    tied = make_model(replace(PRESETS["cpu-quick"], tie_embeddings=True), 2048)
    assert tied.lm_head.weight is tied.token_embeddings.weight
    assert tied.token_embeddings.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)


@pytest.mark.parametrize("variant", ABLATIONS, ids=lambda variant: variant.name)
def test_variant_trains(variant):
    recipe = variant.change(replace(PRESETS["cpu-quick"], context_length=16, learning_rate=1e-3))
    torch.manual_seed(0)
    model = TransformerLM(model_config(recipe, 300))
    tokens = torch.randint(300, (2, 17))
    optimizer = make_optimizer(model, recipe)
    losses = []
    for _ in range(2):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
    assert losses[1] < losses[0]


def test_dropout_acts_in_training_only():
    assert RecipeFlags().recipe(Machine("cpu")).dropout == 0
    recipe = replace(RecipeFlags(dropout=0.5).recipe(Machine("cpu")), context_length=16, d_model=32)
    model = TransformerLM(model_config(recipe, 300))
    tokens = torch.randint(300, (2, 17))
    first, second = (model.loss(tokens[:, :-1], tokens[:, 1:]).item() for _ in range(2))
    assert first != second
    model.eval()
    first, second = (model.loss(tokens[:, :-1], tokens[:, 1:]).item() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_dropout_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=f"dropout is {share}: expected a number from 0 up to, not including, 1"):
        RecipeFlags(dropout=share).recipe(Machine("cpu"))


def parameters(name):
    recipe = VARIANTS[name].change(PRESETS["cpu-quick"])
    return sum(p.numel() for p in TransformerLM(model_config(recipe, recipe.vocab_size)).parameters())


def test_silu_matches_the_parameters_of_swiglu():
    assert parameters("silu") == pytest.approx(parameters("baseline"), rel=0.01)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("baseline", set()),
        ("no_rmsnorm", {"norm"}),
        ("no_rmsnorm_low_lr", {"norm", "learning_rate"}),
        ("post_norm", {"norm"}),
        ("nope", {"position"}),
        ("silu", {"ffn", "d_ff"}),
        ("tied_embeddings", {"tie_embeddings"}),
        ("qk_norm", {"qk_norm"}),
        ("relu_squared", {"ffn", "d_ff"}),
        ("muon", {"optimizer"}),
        ("half_vocabulary", {"vocab_size"}),
        ("double_vocabulary", {"vocab_size"}),
        ("speedrun", {"optimizer", "qk_norm", "ffn", "d_ff"}),
    ],
)
def test_variant_changes_only_what_it_says(name, changed):
    base = PRESETS["cpu-quick"]
    before, after = asdict(base), asdict(VARIANTS[name].change(base))
    assert {field for field in before if before[field] != after[field]} == changed


def test_names_in_the_command_line_are_the_names_of_the_tables():
    assert list(PresetName.__args__) == list(PRESETS)


def test_lower_rate_is_lower():
    base = PRESETS["cpu-quick"]
    assert VARIANTS["no_rmsnorm_low_lr"].change(base).learning_rate == base.learning_rate * LOWER_RATE_FRACTION


def test_schedule_warms_up_peaks_and_ends_at_its_minimum():
    recipe = replace(PRESETS["cpu-quick"], steps=100, warmup_fraction=0.1, learning_rate=1.0)
    schedule = learning_rate_schedule(recipe)
    rates = [schedule(step) for step in range(recipe.steps)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(recipe.final_learning_rate_fraction)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_handouts_token_budgets():
    assert PRESETS["cpu-course"].tokens == 40_960_000
    assert PRESETS["gpu-course"].tokens == 327_680_000


def test_evaluations_are_spread_over_the_run():
    config = train_config(PRESETS["cpu-quick"], Machine(device="cpu"))
    assert config.steps // config.eval_interval == PRESETS["cpu-quick"].evaluations
