"""Batch sizes, their recipes, the default target and the limits."""

import math
from dataclasses import replace

import pytest
from small_runs import TINY

from tinystories.sweeps import batch_sizes, default_target, obstacle, recipe_for


def test_batch_sizes_include_those_of_the_handout():
    sizes = batch_sizes()
    assert [next(sizes) for _ in range(6)] == [1, 4, 16, 64, 128, 256]


def test_a_batch_sizes_recipe_sees_as_many_tokens():
    recipe = recipe_for(TINY, 16, 64_000)
    assert recipe.tokens == 64_000
    assert recipe.learning_rate == pytest.approx(2 * TINY.learning_rate)
    assert recipe.muon_learning_rate == pytest.approx(2 * TINY.muon_learning_rate)


def test_half_of_the_batch_sizes_reach_the_default_target():
    assert default_target([1.6, 1.4, 1.9, 3.1, 4.1]) == 1.9
    assert default_target([1.6, 1.4]) == 1.6
    assert default_target([1.6, math.inf, math.inf]) is None
    assert default_target([]) is None


def test_memory_of_a_cpu_is_estimated_before():
    assert obstacle(replace(TINY, steps=20), on_cpu=True) is None
    assert "20 are needed" in obstacle(replace(TINY, steps=19), on_cpu=False)
    huge = replace(TINY, steps=20, batch_size=1 << 40)
    assert "GB" in obstacle(huge, on_cpu=True)
    assert obstacle(huge, on_cpu=False) is None
