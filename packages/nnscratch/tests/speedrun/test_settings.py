"""Settings by their names, on the command line and in records."""

import json
import re

import pytest
from speedrun_models import TINY

from nnscratch.speedrun import RECIPES, changed, from_record, given_settings, given_sizes, to_record
from nnscratch.speedrun.settings import full_name

CPU = RECIPES["speedrun"]("cpu")


def test_changes_of_every_type():
    recipe = changed(
        RECIPES["speedrun"]("cuda"),
        [
            "learning_rate=1",
            "qk_norm=False",
            "model.logit_soft_cap=None",
            "optimizer.normuon=True",
            "schedule=cosine",
            "batch_ramp=((0.0, 1), (0.5, 2))",
        ],
    )
    assert recipe.optimizer.learning_rate == 1.0
    assert isinstance(recipe.optimizer.learning_rate, float)
    assert (recipe.model.qk_norm, recipe.model.logit_soft_cap, recipe.schedule.kind) == (False, None, "cosine")
    assert recipe.optimizer.normuon is True
    assert recipe.batches.batch_ramp == ((0.0, 1), (0.5, 2))


@pytest.mark.parametrize(
    "assignment", ["batch_size=2.5", "qk_norm=1", "d_model=wide", "num_layers", "=3", "learning_rate=True", "seed=None"]
)
def test_changes_that_are_none(assignment):
    with pytest.raises(ValueError, match=rf"{re.escape(assignment)}.*expected"):
        changed(RECIPES["baseline"]("cpu"), [assignment])


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("d_model", "model.d_model"),
        ("model.d_model", "model.d_model"),
        ("optimizer", "optimizer.kind"),
        ("schedule", "schedule.kind"),
        ("evaluations", "evaluations.count"),
        ("compile", "compile"),
    ],
)
def test_a_name_without_its_group_is_enough(short, full):
    assert full_name(short) == full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kind", "'kind' names several settings: expected one of optimizer.kind, schedule.kind$"),
        ("color", "'color' is not a setting: expected one of model.vocab_size, model.context_length"),
        ("batches.d_model", "'batches.d_model' is not a setting"),
    ],
)
def test_names_that_are_ambiguous_or_unknown_are_refused_with_the_candidates(name, message):
    with pytest.raises(ValueError, match=message):
        changed(CPU, [f"{name}=1"])


def test_sizes_that_are_given():
    assert given_settings(("d_model=64", "optimizer=adamw")) == {"model.d_model", "optimizer.kind"}
    assert given_sizes(("d_model=64", "batches.batch_size=2", "qk_norm=True")) == {
        "model.d_model",
        "batches.batch_size",
    }


def test_sizes_that_the_budget_will_choose_do_not_contradict_those_that_are_given():
    assert changed(CPU, ["num_heads=11"]).model.num_heads == 11
    assert changed(CPU, ["d_model=6"]).model.d_model == 6
    with pytest.raises(ValueError, match="num_heads=11 does not divide d_model=128"):
        changed(CPU, ["num_heads=11", "sized_by_budget=False"])
    with pytest.raises(ValueError, match="num_heads=3 does not divide d_model=64"):
        changed(CPU, ["num_heads=3", "d_model=64"])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    recipe = changed(RECIPES[name]("cuda"), ["batch_ramp=((0.0, 1), (0.5, 2))", *TINY, "num_layers=2"])
    assert from_record(json.loads(json.dumps(to_record(recipe)))) == recipe


def test_records_of_another_version_are_refused_in_one_sentence():
    flat = {"vocab_size": 4096, "d_model": 128, "qk_norm": False, "learning_rate": 0.01}  # as version 0.1 wrote them
    with pytest.raises(
        ValueError, match=r"another version recorded this recipe \(its form has version 1, this one writes 2\)"
    ):
        from_record(flat)
    unknown = to_record(CPU)
    unknown["model"]["magic"] = True
    with pytest.raises(ValueError, match=r"another version recorded this recipe .*'magic'"):
        from_record(unknown)


def test_a_gate_that_changes_the_number_of_parameters_silently_is_refused():
    """SwiGLU has a third matrix: with the same d_ff, 1.5 times the parameters."""
    fixed = changed(CPU, ["sized_by_budget=False"])
    baseline = RECIPES["baseline"]("cpu")
    with pytest.raises(ValueError, match=r"^ffn=swiglu: with d_ff=512 it has 3/2 of .*; give d_ff too, .*d_ff=344 for"):
        changed(CPU, ["ffn=swiglu", "sized_by_budget=False"])
    with pytest.raises(ValueError, match=r"^ffn=silu: .* 2/3 of the parameters of swiglu; give d_ff too"):
        changed(baseline, ["ffn=silu"])
    assert changed(fixed, ["ffn=swiglu", "d_ff=512"]).model.d_ff == 512
    assert changed(fixed, ["ffn=silu"]).model.d_ff == 512
    assert changed(baseline, ["ffn=swiglu"]) == baseline
    assert changed(CPU, ["ffn=swiglu"]).model.ffn == "swiglu"  # the budget finds a d_ff for it
