"""Variants for ablations: one change each, the opposite of the recipe."""

import pytest

from nnscratch.speedrun import RECIPES, changed, computing_parameters, to_record
from owt_leaderboard.variants import variants
from trainer.records import flatten

RECIPE = RECIPES["speedrun"]("cpu")
REVERSED = changed(RECIPE, [word for words in variants(RECIPE).values() for word in words])
both = pytest.mark.parametrize("full", [RECIPE, REVERSED], ids=["as it is", "reversed"])


@both
def test_every_variant_changes_one_thing_of_the_recipe(full):
    made, before = variants(full), flatten(to_record(full))
    assert len(made) == (32 if full.model.ngram_rows is None else 35)
    companions = {"model.d_ff", "batches.batch_size", "optimizer.muon_learning_rate"}
    for name, assignments in made.items():
        after = flatten(to_record(changed(full, assignments)))
        differing = {setting for setting in before if before[setting] != after[setting]}
        if len(differing) == 2:  # a moving average has a beginning
            differing -= {"schedule.average_from" if name == "moving_average" else "schedule.average_decay"}
        assert len(differing - companions) == (name != "full"), name


def test_a_variant_is_the_opposite_of_the_recipe():
    made, other = set(variants(RECIPE)), set(variants(REVERSED))
    assert made & other == {"full", "random"}  # the third of three kinds of sampling
    assert {"swiglu", "no_value_embeddings", "qk_norm", "adamw", "cosine", "random", "batch_ramp", "no_normuon"} <= made
    assert {"muon_momentum_start", "weight_decay_factors", "reference_batch_tokens", "documents"} <= made
    assert {"attention_gates", "smear", "backout"} <= made
    assert {"strong_weight_decay", "table_weight_decay", "moving_average"} <= made
    opposites = {"relu_squared", "value_embeddings", "no_qk_norm", "muon", "trapezoid", "shuffled", "no_batch_ramp"}
    opposites |= {"weak_weight_decay", "no_moving_average"}
    opposites |= {"no_muon_momentum_start", "no_weight_decay_factors", "no_reference_batch_tokens"}
    assert opposites <= other


def test_a_moving_average_from_the_start_has_its_opposites():
    made = variants(changed(RECIPE, ["average_from=0.0", "average_decay=0.99"]))
    assert made["no_average_from"] == ("average_from=None", "average_decay=None")
    assert made["no_moving_average"] == ("average_decay=None",)


@both
def test_the_other_feed_forward_network_has_as_many_parameters(full):
    (name,) = {"swiglu", "relu_squared"} & set(variants(full))
    other = changed(full, variants(full)[name])
    assert computing_parameters(other.model) == pytest.approx(computing_parameters(full.model), rel=0.01)
