"""Recipes, and what each device gets."""

import pytest

from nnscratch.speedrun import RECIPES, SWITCHES, RecipeName, changed
from nnscratch.speedrun.recipes import SMALL_FLOPS, Batches


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["muon_learning_rate=None"], "muon_learning_rate is None"),
        (["warmup_fraction=0.5"], "more than the whole time"),
        (["evaluations=0"], "count is 0: expected a whole number, 1 or more"),
        (["batch_size=0"], "batch_size is 0"),
        (["muon_momentum_start=1.0"], "muon_momentum_start is 1.0: expected a number from 0 to below 1, or None"),
        (["muon_momentum=0.0", "muon_momentum_start=0.5"], "but muon_momentum is 0: expected a momentum to rise to"),
        (["momentum_warmup_fraction=0.6", "momentum_cooldown_fraction=0.5"], "expected a sum of at most 1"),
        (["weight_decay_factors=(0.0, 1.0)"], r"weight_decay_factors is \(0.0, 1.0\): expected pairs"),
        (["weight_decay_factors=((0.0, -1.0),)"], "expected pairs of a share of the time and a factor of at least 0"),
        (["weight_decay_factors=((0.5, 1.0), (0.5, 0.0))"], "expected shares of the time in rising order"),
        (["reference_batch_tokens=0"], "reference_batch_tokens is 0: expected a whole number, 1 or more"),
        (["average_decay=0.9"], "average_decay is 0.9 and average_from is None: expected a share between 0 and 1"),
        (["average_decay=1.0", "average_from=0.1"], "average_decay is 1.0 and average_from is 0.1"),
        (["average_from=1.5"], "average_from is 1.5: expected a number from 0 to 1"),
        (["head_learning_rate=-1"], "head_learning_rate is -1: expected a number above 0"),
        (["final_learning_rate_fraction=1.5"], "expected a number from 0 to 1"),
        (["learning_rate=0"], "learning_rate is 0.0: expected a number above 0"),
        (["tokens_per_parameter=0"], "tokens_per_parameter is 0.0: expected a number above 0"),
        (["batch_ramp=((0.0, 1))"], r"batch_ramp is \(0.0, 1\): expected pairs"),
        (["sampled_tokens=0"], "sampled_tokens is 0: expected a whole number, 1 or more"),
        (["compile=on"], "sampled_tokens is 2048 and compile is on, .*expected sampled_tokens=None or compile=off"),
        (["skip_connections=True", "num_layers=1"], "skip_connections=True needs two halves"),
    ],
)
def test_recipes_that_contradict_themselves(unchecked_shapes, assignments, message):
    with pytest.raises(ValueError, match=message):
        changed(RECIPES["speedrun"]("cpu"), assignments)


def test_small_budgets_have_only_the_switches_that_gained_on_a_cpu_and_large_ones_those_of_the_records():
    def are_on(*budget):
        return {name for name in SWITCHES if getattr(RECIPES["speedrun"](*budget).model, name)}

    assert are_on("mps") == are_on("cpu") == {"value_embeddings", "zero_init_projections", "embedding_norm"}
    assert are_on("cuda") == {
        "value_embeddings",
        "qk_norm",
        "zero_init_projections",
        "skip_connections",
        "embedding_shortcut",
        "embedding_norm",
        "gainless_norms",
        "narrow_stream",
    }
    decay = [RECIPES["speedrun"](device).optimizer.cautious_weight_decay for device in ("cpu", "mps", "cuda")]
    assert decay == [False, False, True]


def test_a_gpu_trains_what_suits_its_budget():
    """On two processors that take the same time, a recipe is the same."""
    speedrun = RECIPES["speedrun"]
    below, above = SMALL_FLOPS * 0.999, SMALL_FLOPS
    assert speedrun("cuda", below) == speedrun("mps", below) == speedrun("mps")
    assert speedrun("cuda", above) == speedrun("mps", above) == speedrun("cuda")
    assert speedrun("cpu", above) == speedrun("cpu")
    assert (speedrun("mps").model.vocab_size, speedrun("cuda").model.vocab_size) == (4096, 32_000)
    assert speedrun("mps").batches.sampled_tokens is None  # which only saves time where logits are expensive


def test_a_sampled_output_layer_takes_fewer_operations():
    cpu = RECIPES["speedrun"]("cpu")
    rows = cpu.flops_per_token(4096) - cpu.flops_per_token(2048)
    assert rows == 0
    whole = changed(cpu, ["sampled_tokens=None"])
    assert whole.flops_per_token(4096) - whole.flops_per_token(1024) == 6 * (4096 - 1024) * cpu.model.d_model
    assert whole.flops_per_token(300) == cpu.flops_per_token(300)


def test_recipe_names_of_the_command_line_are_those_of_the_table():
    assert list(RecipeName.__args__) == list(RECIPES)


def test_passes_per_step_are_a_mean_over_time():
    assert Batches(batch_size=4).mean_passes == 1
    assert Batches(batch_size=4, batch_ramp=((0.0, 1), (0.5, 3))).mean_passes == 2
