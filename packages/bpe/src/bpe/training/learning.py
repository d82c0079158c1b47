"""Learning of merges from counts, in Python or by the kernels, and the vocabulary that they make."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from bpe import kernels
from bpe.progress import Progress
from bpe.training.counts import PretokenCounts
from bpe.training.limits import NO_LIMITS, Limits, warn_of_size
from bpe.training.merging_in_python import Split, learn_merges_in_python, single_bytes
from bpe.vocabulary import Merge, TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

    from bpe.kernels.merging.learning_state import MergeState

_MAX_CELLS = 2**31 - 1
_MOST = 2**63 - 1
_MERGES_PER_CALL, _MOST_MERGES_PER_CALL = 256, 1 << 14
"""After so many merges the kernel returns to the interpreter, for Ctrl-C and the progress report."""
_CALL_SECONDS = 0.05
"""Calls shorter than this are doubled, because each costs a tenth of a millisecond."""


def new_vocabulary(
    counts: PretokenCounts, vocab_size: int, special_tokens: list[str], limits: Limits, *, progress: bool
) -> TokenizerSpec:
    """Learn merges and assign the ids: bytes, merges in order, special tokens.

    Raises:
        ValueError: If there are no counts.

    Warns:
        VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached. The warning names the caller
            of the public function that calls this one.
    """
    check_not_empty(counts)
    merges = learn_merges(counts, vocab_size - 256 - len(special_tokens), limits, progress=progress)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in merges]
    tokens += [token.encode("utf-8") for token in special_tokens]
    warn_of_size(vocab_size, len(tokens), limits, stacklevel=3)
    return TokenizerSpec(dict(enumerate(tokens)), merges, special_tokens, counts.pattern)


def check_not_empty(counts: PretokenCounts) -> None:
    """Refuse counts without a pre-token."""
    if not counts:
        raise ValueError(
            "there is nothing to train on, expected text beside special tokens; check where it comes from (an iterator "
            "can be read only once)"
        )


def learn_merges(
    counts: PretokenCounts,
    max_merges: int,
    limits: Limits = NO_LIMITS,
    *,
    split: Split = single_bytes,
    progress: bool = False,
) -> list[Merge]:
    """Return at most `max_merges` merges, learned in Python or by the kernels, whichever suits the size.

    `split` returns the tokens of a pre-token before the first merge. Counts so large that the counts of pairs may
    exceed 64 bits are left to Python.
    """
    small = not (kernels.learning_loaded() or kernels.pay_off(counts.distinct_bytes, kernels.LEARNING_BYTES))
    if small or counts.total_bytes > _MOST:
        return learn_merges_in_python(counts, max_merges, limits, split=split)
    return learn_merges_with_kernels(counts, max_merges, limits, split=split, progress=progress)


def learn_merges_with_kernels(
    counts: PretokenCounts,
    max_merges: int,
    limits: Limits = NO_LIMITS,
    *,
    split: Split = single_bytes,
    progress: bool = False,
) -> list[Merge]:
    """Return at most `max_merges` merges; the counts of pairs must fit into 64 bits."""
    pretokens, _, weights = counts.arrays()
    if len(pretokens) + len(weights) >= _MAX_CELLS:
        raise ValueError(
            f"{len(weights):,} distinct pre-tokens have {len(pretokens):,} bytes, expected together fewer than "
            f"{_MAX_CELLS:,}; use less text, or a pattern of shorter pre-tokens"
        )
    # There cannot be more merges than bytes; a huge vocab_size must not allocate memory for nothing.
    max_merges = min(max_merges, counts.distinct_bytes)
    tokens = [bytes([byte]) for byte in range(256)]
    # In another thread, because Ctrl-C must not arrive inside Numba, which may not survive it.
    with ThreadPoolExecutor(1, thread_name_prefix="bpe") as pool:
        if split is single_bytes:
            state = pool.submit(_state_of_bytes, counts, max_merges).result()
        else:
            symbols = _symbols_of(counts, split, tokens)
            state = pool.submit(_state_of_symbols, counts, symbols, tokens, max_merges).result()
        with Progress("merging", max_merges, "merges", enabled=progress) as report:
            pairs = _learn_pairs(state, max_merges, limits, pool, report)
            report.finish()
    new = slice(len(tokens), len(tokens) + len(pairs))
    text, starts, sizes = pretokens.tobytes(), state.token_start[new].tolist(), state.token_size[new].tolist()
    tokens += [text[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    lefts, rights = (map(tokens.__getitem__, symbols) for symbols in pairs.T.tolist())
    return list(zip(lefts, rights, strict=True))


def _symbols_of(counts: PretokenCounts, split: Split, tokens: list[bytes]) -> np.ndarray:
    """Return the indices in `tokens` of the tokens of all pre-tokens: int32; new tokens are appended to `tokens`."""
    import numpy as np

    symbols = array("i")
    index = {token: symbol for symbol, token in enumerate(tokens)}
    for pretoken in counts:
        symbols.extend([index.setdefault(token, len(index)) for token in split(pretoken)])
    tokens[:] = index
    return np.frombuffer(symbols, dtype=np.int32) if symbols else np.zeros(0, dtype=np.int32)


def _state_of_bytes(counts: PretokenCounts, max_merges: int) -> MergeState:
    """Return the state of the kernel before the first merge."""
    from bpe.kernels.machine.arrays import read_only
    from bpe.kernels.merging.learning_state import first_state

    pretokens, offsets, weights = counts.arrays()
    return first_state(read_only(pretokens), offsets, weights, max_merges)


def _state_of_symbols(
    counts: PretokenCounts, symbols: np.ndarray, tokens: Sequence[bytes], max_merges: int
) -> MergeState:
    """Return the state of the kernel before the first new merge, where pre-tokens consist of symbols already."""
    import numpy as np

    from bpe.kernels.machine.arrays import read_only
    from bpe.kernels.merging.learning_state import state_of_symbols

    pretokens, offsets, weights = counts.arrays()
    sizes = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    return state_of_symbols(read_only(pretokens), offsets, weights, symbols, sizes, max_merges)


def _learn_pairs(
    state: MergeState, max_merges: int, limits: Limits, pool: ThreadPoolExecutor, report: Progress
) -> np.ndarray:
    """Return at most `max_merges` new merges as pairs of symbols: int32, shape (merges, 2)."""
    from bpe.kernels.machine.compiling import structure
    from bpe.kernels.merging.learning import merge_more
    from bpe.kernels.merging.learning_state import FINISHED, LEAST_COUNT, MERGES, MOST_BYTES, with_space

    state.numbers[LEAST_COUNT] = min(limits.min_frequency, _MOST)
    state.numbers[MOST_BYTES] = min(limits.max_token_length or _MOST, _MOST)
    argument = structure(state)
    first = int(state.numbers[MERGES])
    learned, per_call = 0, _MERGES_PER_CALL
    while learned < max_merges and not state.numbers[FINISHED]:
        until = first + min(learned + per_call, max_merges)
        begin = perf_counter()
        while not pool.submit(merge_more, argument, until).result():
            state = pool.submit(with_space, state).result()
            argument = structure(state)
        if perf_counter() - begin < _CALL_SECONDS:
            per_call = min(2 * per_call, _MOST_MERGES_PER_CALL)
        learned = int(state.numbers[MERGES]) - first
        report.update(learned)
    return state.merges[first : first + learned]
