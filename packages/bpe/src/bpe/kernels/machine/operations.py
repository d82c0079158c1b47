"""Vector and atomic operations of the kernels: machine instructions under Numba, plain Python otherwise."""

from __future__ import annotations

from bpe.kernels.machine.compiling import NUMBA

BLOCK = 64
"""Bytes that one mask describes."""

if NUMBA:
    from bpe.kernels.machine.atomics import add_and_fetch_old as add_and_fetch_old
    from bpe.kernels.machine.atomics import load_acquire as load_acquire
    from bpe.kernels.machine.atomics import store_release as store_release
    from bpe.kernels.machine.atomics import swap_if_equal as swap_if_equal
    from bpe.kernels.machine.vectors import byte_masks as byte_masks
    from bpe.kernels.machine.vectors import copy_ids as copy_ids
    from bpe.kernels.machine.vectors import count_ones as count_ones
    from bpe.kernels.machine.vectors import equal_mask as equal_mask
    from bpe.kernels.machine.vectors import equal_words as equal_words
    from bpe.kernels.machine.vectors import high_mask as high_mask
    from bpe.kernels.machine.vectors import leading_zeros as leading_zeros
    from bpe.kernels.machine.vectors import load_word as load_word
    from bpe.kernels.machine.vectors import lowest_of_32 as lowest_of_32
    from bpe.kernels.machine.vectors import prefetch as prefetch
    from bpe.kernels.machine.vectors import range_mask as range_mask
    from bpe.kernels.machine.vectors import store_ids as store_ids
    from bpe.kernels.machine.vectors import trailing_zeros as trailing_zeros
else:
    from bpe.kernels.machine.interpreted import *  # noqa: F403
