"""Ordered work on threads."""

import pytest

from bpe.threads import map_in_order


def test_results_are_in_order_and_few_items_are_pending():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for done, result in enumerate(map_in_order(lambda number: number * number, items(), 3)):
        assert result == done * done
        assert len(taken) <= done + 1 + 2 * 3


def test_errors_in_threads_are_raised():
    def fail(number):
        if number == 5:
            raise ValueError("five")
        return number

    for threads in (1, 2):
        with pytest.raises(ValueError, match="five"):
            list(map_in_order(fail, range(100), threads))
