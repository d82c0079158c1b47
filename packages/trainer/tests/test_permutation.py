import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.permutation import ROUNDS, Permutation


def make_keys(*entropy):
    return np.random.SeedSequence(entropy).generate_state(ROUNDS, np.uint64)


def whole(size, *entropy):
    return Permutation(size, make_keys(*entropy))(np.arange(size, dtype=np.uint64))


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.integers(1, 300), st.integers(4000, 20_000)), st.integers(0, 2**70))
def test_everything_once(size, seed):
    order = whole(size, seed)
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [100, 5000, 4096, 4097])
def test_a_place_does_not_depend_on_what_else_is_asked(size):
    order, permutation = whole(size, 5), Permutation(size, make_keys(5))
    places = np.random.default_rng(0).integers(size, size=37).astype(np.uint64)
    assert np.array_equal(permutation(places), order[places])
    assert [int(permutation(places[index : index + 1])[0]) for index in range(37)] == order[places].tolist()


def encrypt_with_python_numbers(value, size, keys):
    """The definition once more, in whole numbers without limits."""

    def mix(number):
        number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
        return (number ^ (number >> 31)) // 2

    a = math.isqrt(size - 1) + 1
    b = (size + a - 1) // a
    while True:
        right, left = divmod(value, a)
        for first, second in zip(keys[::2], keys[1::2], strict=True):
            left = (left + mix(right ^ first)) % a
            right = (right + mix(left ^ second)) % b
        value = right * a + left
        if value < size:
            return value


@pytest.mark.parametrize("size", [4097, 10**6 + 3, 2**40 + 12345, 2**62])
def test_equals_the_definition_in_python_numbers(size):
    """So it stays the same on every machine: who resumes elsewhere goes on in the same order."""
    keys = make_keys(1, size)
    places = np.array([0, 1, size // 2, size - 2, size - 1], dtype=np.uint64)
    expected = [encrypt_with_python_numbers(int(place), size, keys.tolist()) for place in places]
    assert Permutation(size, keys)(places).tolist() == expected


def test_all_orders_of_few_things_are_equally_likely():
    draws = 7200
    counts = Counter(tuple(whole(5, 7, epoch).tolist()) for epoch in range(draws))
    expected = draws / math.factorial(5)
    chi_squared = sum((counts[order] - expected) ** 2 / expected for order in itertools.permutations(range(5)))
    assert abs(chi_squared - 119) < 4 * math.sqrt(2 * 119)


@pytest.mark.parametrize("size", [300, 6000])
def test_looks_like_chance(size):
    """Neighbours, fixed points and other keys: what a permutation drawn by chance has, within five deviations."""
    epochs = 200
    orders = np.stack([whole(size, 3, epoch) for epoch in range(epochs)]).astype(float)
    spread = 5 / math.sqrt(epochs * size)
    assert abs(np.mean([np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]) + 1 / size) < spread
    assert abs(np.mean([np.corrcoef(*pair)[0, 1] for pair in itertools.pairwise(orders)])) < spread
    for fixed in (orders == np.arange(size), np.diff(orders) == 1):
        assert abs(fixed.sum() / epochs - 1) < 5 / math.sqrt(epochs)
    first = orders[:, :10].mean()  # what comes first is from anywhere
    assert abs(first - (size - 1) / 2) < 5 * size / math.sqrt(12 * 10 * epochs)


@pytest.mark.parametrize(("size", "count"), [(0, ROUNDS), (2**62 + 1, ROUNDS), (5, ROUNDS - 1)])
def test_refuses(size, count):
    with pytest.raises(ValueError, match=rf"size is {size} with {count} keys: expected 1 to 2\*\*62 and 8 keys"):
        Permutation(size, make_keys(0)[:count])
