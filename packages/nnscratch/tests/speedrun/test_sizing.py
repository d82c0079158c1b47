"""Sizes by the budget."""

from dataclasses import replace

import pytest

from nnscratch.speedrun import RECIPES, changed, computing_parameters, flops_per_token, given_sizes, make_model
from nnscratch.speedrun.sizing import (
    COMPILING_PAYS_FROM,
    LADDER,
    batch_windows,
    choose,
    compiled_if_it_pays,
    resized,
)

CPU, GPU = RECIPES["speedrun"]("cpu"), RECIPES["speedrun"]("cuda")
HOURS = 3600.0


def chosen(recipe, flops, seconds, **settings):
    return choose(
        recipe,
        recipe.model.vocab_size,
        flops_per_second=flops,
        seconds=float(seconds),
        train_tokens=3_000_000,
        **settings,
    )


def test_flops_are_six_for_each_computing_parameter_attention_and_gates():
    attention = 12 * 12 * 1024 * 512  # layers, 12 for both products forward and back, width, the square of positions
    gates = 6 * 6 * 8 * 32  # on six layers, 6 for each weight, heads, channels
    expected = 6 * computing_parameters(GPU.model) + attention + gates
    assert flops_per_token(GPU.model, backward=True) == pytest.approx(expected, rel=1e-6)


def test_the_leaderboards_budget_gives_the_size_that_entrants_came_to():
    """1.5 H100 hours at 45 %: 12 layers x 1024 and about 2 G tokens, as the isoFLOP fits of nanochat say."""
    choice = chosen(GPU, 0.45 * 989e12, 85 * 60)
    assert (choice.recipe.model.num_layers, choice.recipe.model.d_model, choice.recipe.model.num_heads) == (12, 1024, 8)
    assert 1.5e9 < choice.tokens < 2.3e9
    assert choice.recipe.batches.batch_size * choice.recipe.model.context_length == 2**17


def test_a_small_cpu_gets_a_small_model():
    """Two cores make about 20 k tokens/s of 4 layers x 128: 1.6e11 operations per second."""
    ten_minutes = chosen(CPU, 1.6e11, 600)
    assert 64 <= ten_minutes.recipe.model.d_model <= 256
    assert 2 <= ten_minutes.tokens / ten_minutes.parameters <= 10
    assert 4096 <= ten_minutes.recipe.step_tokens <= 8192
    for length, windows in ((64, 64), (300, 16), (360, 16), (5000, 1)):
        given = chosen(changed(CPU, (f"context_length={length}",)), 1.6e11, 30)
        assert given.recipe.batches.batch_size == windows
    assert ten_minutes.recipe.model.d_model // ten_minutes.recipe.model.num_heads == 64


def test_more_time_or_speed_never_makes_it_smaller():
    sizes = [chosen(CPU, 1e11, seconds).parameters for seconds in (1, 10, 60, 600, HOURS, 24 * HOURS, 1000 * HOURS)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 4
    assert sizes == [
        chosen(CPU, 1e9, 100 * seconds).parameters for seconds in (1, 10, 60, 600, HOURS, 24 * HOURS, 1000 * HOURS)
    ]


def test_given_sizes_stay():
    recipe = changed(CPU, ("d_model=192", "num_heads=3", "batch_size=5"))
    choice = chosen(recipe, 1e12, HOURS, fixed={"model.d_model", "model.num_heads", "batches.batch_size"})
    assert (choice.recipe.model.d_model, choice.recipe.model.num_heads, choice.recipe.batches.batch_size) == (192, 3, 5)
    assert choice.recipe.model.d_ff == 4 * 192
    assert choice.recipe.model.num_layers in {layers for layers, _ in LADDER}


def test_reasons_say_what_was_weighed():
    how, steps = chosen(CPU, 1.6e11, 600).reasons
    assert "160.0 GFLOP/s" in how
    assert "closest to 5" in how
    assert "epochs of the training text" in steps


def test_inputs_are_masked_where_the_text_is_seen_again_and_again():
    often, once = chosen(CPU, 1.6e11, 1200), chosen(CPU, 1.6e11, 60)
    assert often.tokens / 3_000_000 > 2 > once.tokens / 3_000_000
    assert (often.recipe.batches.masked_inputs, once.recipe.batches.masked_inputs) == (0.1, 0.0)
    assert "epochs of the training text, so 10% of the input tokens are masked" in often.reasons[1]
    given = changed(CPU, ("masked_inputs=0.3",))
    assert chosen(given, 1.6e11, 60).recipe.batches.masked_inputs == 0.3
    unknown = choose(CPU, 4096, flops_per_second=1.6e11, seconds=600.0, train_tokens=None)
    assert unknown.recipe.batches.masked_inputs == 0.0


def test_the_more_often_a_text_is_seen_the_more_vectors_of_ngrams_are_dropped():
    choices = [chosen(CPU, 1.6e11, seconds) for seconds in (20, 180, 600, HOURS)]
    shares = [choice.recipe.model.ngram_dropout for choice in choices]
    epochs = [choice.tokens / 3_000_000 for choice in choices]
    assert epochs[0] < 1
    assert shares == [round(min(0.75, max(0, (number - 1) / 4)), 2) for number in epochs]
    assert len(set(shares)) > 2
    assert choices[2].reasons[1].endswith(f"; {shares[2]:.0%} of the vectors of n-grams are dropped")
    given = chosen(changed(CPU, ("ngram_dropout=0.1",)), 1.6e11, 600, fixed=given_sizes(["ngram_dropout=0.1"]))
    assert given.recipe.model.ngram_dropout == 0.1
    assert chosen(GPU, 0.45 * 989e12, 600).recipe.model.ngram_dropout == 0  # no tables


def test_evaluations_on_the_way_take_a_fiftieth_of_a_small_budget():
    choices = [chosen(CPU, 1e11, seconds) for seconds in (1, 120, HOURS)]
    least, some, most = (choice.recipe.evaluations.evaluated_windows for choice in choices)
    assert (least, most) == (16, CPU.evaluations.evaluated_windows)
    evaluations, length = CPU.evaluations.count + 1, CPU.model.context_length
    # A token takes a third of its operations in training.
    assert evaluations * some * length / 3 == pytest.approx(0.02 * choices[1].tokens, rel=0.05)
    setting = ["evaluated_windows=100"]
    given = chosen(changed(CPU, setting), 1e11, 1, fixed=given_sizes(setting))
    assert given.recipe.evaluations.evaluated_windows == 100


def test_every_size_makes_a_model():
    for layers, width in LADDER:
        recipe = resized(CPU, layers, width)
        assert recipe.model.d_model % recipe.model.num_heads == 0
        assert recipe.model.d_model // recipe.model.num_heads in (64, 128)
        gated = resized(changed(CPU, ("ffn=swiglu",)), layers, width)
        assert computing_parameters(gated.model) == pytest.approx(computing_parameters(recipe.model), rel=0.1)


def test_batches_count_what_a_ramp_accumulates():
    ramp = changed(GPU, ("batch_ramp=((0.0, 1), (0.25, 2), (0.5, 4))",))
    assert ramp.batches.mean_passes == pytest.approx(0.25 + 0.5 + 2.0)
    assert batch_windows(GPU, 2e9) == 256
    assert batch_windows(ramp, 2e9) == 128  # 256 / 2.75 = 93 by the next power of two
    assert batch_windows(CPU, 10e6) * CPU.model.context_length == 4096
    assert batch_windows(CPU, 1.0) * CPU.model.context_length == 4096


@pytest.mark.parametrize("processes", [1, 3, 7, 8])
def test_processes_can_share_the_batch(processes):
    choice = chosen(CPU, 1.6e11, 600, processes=processes)
    assert choice.recipe.batches.batch_size % processes == 0
    assert 0 <= choice.recipe.batches.batch_size - chosen(CPU, 1.6e11, 600).recipe.batches.batch_size < processes


@pytest.mark.parametrize("heads", [3, 6, 11, 12])
def test_heads_that_are_given_choose_among_the_widths_that_they_divide(heads):
    recipe = chosen(changed(CPU, (f"num_heads={heads}",)), 1e12, HOURS, fixed={"model.num_heads"}).recipe
    assert recipe.model.num_heads == heads
    assert recipe.model.d_model % (2 * heads) == 0
    make_model(recipe, 64, "meta")


def test_heads_that_divide_no_width():
    with pytest.raises(ValueError, match=r"num_heads=13 divides none of the widths .*64, 128, 192.*give d_model, too"):
        chosen(changed(CPU, ("num_heads=13",)), 1e12, HOURS, fixed={"model.num_heads"})


@pytest.mark.parametrize(("width", "heads"), [(480, 8), (720, 12), (800, 10), (100, 2), (64, 1), (1024, 8), (6, 1)])
def test_any_even_width_gets_heads_that_divide_it(width, heads):
    recipe = resized(changed(CPU, (f"d_model={width}", "num_layers=2")), 2, 64, {"model.d_model"})
    assert recipe.model.num_heads == heads
    make_model(recipe, 64, "meta")


@pytest.mark.parametrize("name", RECIPES)
def test_a_device_compiles_where_there_is_time_for_it(name):
    recipe = changed(RECIPES[name]("cpu"), ("sampled_tokens=None", "ngram_rows=None"))
    for device, least in COMPILING_PAYS_FROM.items():
        assert compiled_if_it_pays(recipe, device, least) == replace(recipe, compile="on")
        assert compiled_if_it_pays(recipe, device, least - 1) == replace(recipe, compile="off")
        for given in ("on", "off"):
            assert compiled_if_it_pays(replace(recipe, compile=given), device, 1000.0).compile == given
    assert compiled_if_it_pays(recipe, "mps", 5400.0) == recipe


@pytest.mark.parametrize(("change", "compiles"), [("sampled_tokens=64", []), ("ngram_rows=64", ["cuda"])])
def test_a_recipe_that_gains_nothing_from_compiling_is_not_compiled(change, compiles):
    recipe = changed(RECIPES["baseline"]("cpu"), (change,))
    for device in COMPILING_PAYS_FROM:
        assert compiled_if_it_pays(recipe, device, 5400.0).compile == ("on" if device in compiles else "off")
