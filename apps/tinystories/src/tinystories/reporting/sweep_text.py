"""What sweeps of learning rates and batch sizes have found, in plain sentences drawn from the numbers."""

import math
from collections.abc import Sequence

from tinystories.reporting.numbers import (
    count,
    difference_and_interval,
    duration,
    listed,
    mean,
    mean_and_spread,
    several,
    short_count,
    shown_interval,
)
from tinystories.results.batches import BatchFindings
from tinystories.results.comparisons import summarised
from tinystories.results.rates import RateFindings, is_alike, to_best
from tinystories.results.records import Group


def rate_sentences(findings: RateFindings) -> list[str]:
    """The best rate, the edge of stability, and how far the one is from the other."""
    sentences = []
    best = findings.best
    if best is None or best.rate is None:
        sentences.append("No rate has only runs that did not diverge, so that none is the best.")
    else:
        loss = mean_and_spread(summarised(best, "final_valid_loss"))
        sentences.append(
            f"The lowest validation loss, {loss} nats per token, came at a learning rate of {best.rate:g}."
        )
        sentences += _doubts(best, findings)
    sentences += _edge(findings)
    if best is not None and best.rate and findings.divergent is not None and findings.divergent.rate:
        sentences.append(_distance(best, findings, findings.divergent.rate))
    return sentences


def batch_sentences(batches: Sequence[BatchFindings], target: float | None) -> list[str]:
    """The best rates, what the target loss took, throughput, and the memory limit."""
    sentences = []
    trained = [found for found in batches if found.best is not None]
    if not trained:
        sentences.append("No batch size has a rate at which no run diverged.")
    else:
        sentences += _losses_and_rates(trained)
        if target is None:
            sentences.append("No target loss was set, so that tokens and seconds to it are not compared.")
        else:
            sentences += _costs(trained, target)
        sentences += _speeds(trained)
    full = [found.batch_size for found in batches if found.out_of_memory]
    if full:
        fitting = [found.batch_size for found in batches if any(group.runs for group in found.tried)]
        within = f"; {max(fitting)} windows still fit" if fitting else ""
        sentences.append(f"The memory limit was met: a batch of {min(full)} windows ran out of memory{within}.")
    elif trained:
        sentences.append("No batch size that was tried ran out of memory: the limit was not met.")
    return sentences


def _doubts(best: Group, findings: RateFindings) -> list[str]:
    sentences = []
    if len(best.runs) == 1:
        sentences.append(
            "With one run per rate, which of the neighbouring rates is the best cannot be told: a small difference "
            "may be "
            "chance."
        )
    elif findings.alike:
        names = listed([group.name for group in findings.alike])
        sentences.append(f"The difference to {names} is within the noise: any of these may be the best.")
    if len(findings.tried) > 1 and best is findings.tried[0]:
        sentences.append("It is the lowest rate that was tried: a lower one may be better.")
    if len(findings.tried) > 1 and best is findings.tried[-1]:
        sentences.append("It is the highest rate that was tried: a higher one may be better.")
    return sentences


def _edge(findings: RateFindings) -> list[str]:
    if not findings.tried:
        return []
    if findings.divergent is None:
        return [
            f"No run diverged up to the highest rate that was tried, {findings.tried[-1].name}: the edge of stability "
            "lies "
            "above it."
        ]
    diverged = findings.divergent
    share = f"{len(diverged.diverged)} of {several(len(diverged.runs), 'run')}"
    where = f"at {diverged.name} training diverged ({share}: {diverged.diverged[0].divergence})"
    if findings.stable is None:
        sentences = [f"Already at the lowest rates there is no stable training: {where}."]
    else:
        sentences = [
            f"The edge of stability lies between {findings.stable.name} and {diverged.name}: at "
            f"{findings.stable.name} no "
            f"run diverged, {where}."
        ]
    if findings.stable_again:
        names = listed([group.name for group in findings.stable_again])
        sentences.append(f"Above it no run diverged at {names}: the edge is not sharp, and depends on chance.")
    return sentences


def _distance(best: Group, findings: RateFindings, divergent: float) -> str:
    stable = findings.stable
    if stable is None or not stable.rate or not best.rate or best.rate > divergent:
        return "The lowest loss was not found below the edge."
    if stable is best:
        return (
            "The best rate is the highest stable one: the edge is at most a factor of "
            f"{divergent / best.rate:.3g} above it."
        )
    distance = (
        f"The best rate is a factor of {stable.rate / best.rate:.3g} to {divergent / best.rate:.3g} below the edge"
    )
    change = to_best(stable, best)
    if shown_interval(change) is None:
        return f"{distance}."
    if stable in findings.alike:
        return f"{distance}, but the highest stable rate, {stable.name}, cannot be told from it."
    more = difference_and_interval(change)
    return f"{distance}; at the highest stable rate, {stable.name}, the loss is higher than at the best: {more}."


def _losses_and_rates(trained: Sequence[BatchFindings]) -> list[str]:
    losses = {found.batch_size: mean(found.best.values("final_valid_loss")) or 0.0 for found in trained if found.best}
    lowest = min(losses, key=lambda size: losses[size])
    sentences = [
        f"At the best rate of each, the lowest validation loss is that of batch size {lowest}: "
        f"{losses[lowest]:.4f} nats per "
        "token."
    ]
    if all(found.best is not None and len(found.best.runs) == 1 for found in trained):
        sentences.append("These are single runs: a small difference may be chance.")
    winner = next(found.best for found in trained if found.batch_size == lowest)
    rivals = [
        str(one.batch_size)
        for one in trained
        if one.best and winner and one.best is not winner and is_alike(one.best, winner)
    ]
    if rivals:
        sentences.append(f"The difference to batch {_sizes(rivals)} is within the noise.")
    first, last = trained[0], trained[-1]
    if len(trained) > 1 and first.best and last.best and first.best.rate and last.best.rate:
        growth = last.batch_size / first.batch_size
        sentences.append(
            f"From batch size {first.batch_size} to {last.batch_size} (times {growth:.3g}) the best rate went from "
            f"{first.best.rate:g} to {last.best.rate:g} (times {last.best.rate / first.best.rate:.3g}); growing with "
            "the "
            f"square root would have been times {math.sqrt(growth):.3g}, in proportion times {growth:.3g}."
        )
    at_end = [str(found.batch_size) for found in trained if found.at_end in ("lowest", "highest")]
    if at_end:
        sentences.append(
            f"For batch {_sizes(at_end)} the best rate is at an end of those tried: a better one may lie outside."
        )
    only = [str(found.batch_size) for found in trained if found.at_end == "only"]
    if only:
        sentences.append(f"For batch {_sizes(only)} one rate has finished: it was not tuned.")
    return sentences


def _costs(trained: Sequence[BatchFindings], target: float) -> list[str]:
    reached = [found for found in trained if found.costs and len(found.reached) == len(found.costs)]
    sentences = []
    if reached:
        tokens = {found.batch_size: mean([cost.tokens for cost in found.reached]) or 0.0 for found in reached}
        seconds = {found.batch_size: mean([cost.seconds for cost in found.reached]) or 0.0 for found in reached}
        thrifty, fast = min(tokens, key=lambda size: tokens[size]), min(seconds, key=lambda size: seconds[size])
        sentences.append(
            f"A loss of {target:.4g} took the fewest tokens at batch size {thrifty} ({short_count(tokens[thrifty])}) "
            "and the "
            f"least time of training at batch size {fast} ({duration(seconds[fast])}), interpolated between "
            "evaluations."
        )
    short = [str(found.batch_size) for found in trained if found not in reached]
    if short:
        sentences.append(f"Not every run at batch {_sizes(short)} reached a loss of {target:.4g}.")
    return sentences


def _speeds(trained: Sequence[BatchFindings]) -> list[str]:
    speeds = {
        found.batch_size: speed
        for found in trained
        if found.best and (speed := mean(found.best.values("tokens_per_second"))) is not None
    }
    if len(speeds) < 2:
        return []
    slow, fast = min(speeds, key=lambda size: speeds[size]), max(speeds, key=lambda size: speeds[size])
    return [
        f"Throughput was lowest at batch size {slow} ({count(speeds[slow])} tokens/s) and highest at {fast} "
        f"({count(speeds[fast])} tokens/s)."
    ]


def _sizes(sizes: Sequence[str]) -> str:
    return f"size{'' if len(sizes) == 1 else 's'} {listed(sizes)}"
