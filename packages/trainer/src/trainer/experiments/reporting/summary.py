"""Names and values from the records: the key figures of an experiment, what is missing, and how the runs were made."""

from collections.abc import Callable, Sequence
from typing import Any

from trainer.experiments.reporting.numbers import (
    count,
    difference_and_interval,
    duration,
    mean,
    mean_and_spread,
    several,
    short_count,
    signed,
)
from trainer.experiments.reporting.words import BY_SEED
from trainer.experiments.results import (
    BatchFindings,
    Comparison,
    Experiment,
    Kind,
    Result,
    Wording,
    compare,
    study_batches,
    study_rates,
    summarised,
)

Facts = list[tuple[str, str]]
_WORDS = ("better", "worse", "unstable", "diverged", "inconclusive", "failed")
_SHOWN = 3  # values of a fact that differs between runs
_COMMIT_LETTERS = 12


def key_figures(experiment: Experiment) -> Facts:
    """The result in a few names and values."""
    if experiment.kind == "ablations":
        return _verdicts(compare(experiment))
    if experiment.kind == "lr-sweep":
        return _rates(experiment)
    return _batches(study_batches(experiment), experiment.target_loss)


def headline(experiment: Experiment) -> str:
    """The result in one sentence."""
    if experiment.kind == "ablations":
        return _largest_effect(compare(experiment), experiment.wording.baseline)
    figures = dict(key_figures(experiment))
    if (lowest := figures.get("lowest validation loss")) is None:
        return "No run ended without diverging."
    if experiment.kind == "lr-sweep":
        return f"The lowest validation loss is {lowest}, and the edge of stability lies {figures['edge of stability']}."
    return f"The lowest validation loss is {lowest}, and the highest throughput {figures['highest throughput']}."


def missing(experiment: Experiment) -> Facts:
    """Gaps in the experiment, such as failed runs; empty if nothing is known to be missing."""
    # A batch that does not fit into memory is a result of a batch-sweep.
    failed = [one.name for one in experiment.failures if not (experiment.kind == "batch-sweep" and one.out_of_memory)]
    found = [("not finished", list(experiment.unfinished)), ("failed", failed)]
    if experiment.kind == "ablations":
        if experiment.baseline is None or not experiment.baseline.runs:
            found.append(("no finished run", [experiment.wording.baseline]))
        sizes = {group.name: len(group.runs) + len(group.failures) for group in experiment.groups}
        most = max(sizes.values(), default=0)
        found.append((f"fewer than {several(most, 'run')}", [name for name, size in sizes.items() if size < most]))
    return [(name, ", ".join(values)) for name, values in found if values]


def has_equal_steps(runs: Sequence[Result]) -> bool:
    """Return whether runs have no time limit, and steps of equally many tokens; a ramp of the batch changes these."""
    sizes = {run.summary["tokens"] / max(1, run.summary["steps"]) for run in runs}
    return len(sizes) <= 1 and not any(run.recipe["time_limit_seconds"] for run in runs)


def setting(experiment: Experiment) -> Facts:
    """Settings and machine of the runs; where runs differ, up to three of the values."""
    runs = experiment.runs
    if not runs:
        return []
    first = runs[0] if experiment.baseline is None or not experiment.baseline.runs else experiment.baseline.runs[0]
    found = [
        ("data", experiment.dataset or "not recorded"),
        ("model", _model(first.recipe)),
        ("training", _training(experiment.kind, first.recipe)),
        ("seeds", _values(runs, lambda run: str(run.recipe.get("seed", "?")))),
        ("device", _values(runs, lambda run: f"{run.environment['device_name']} ({run.environment['device']})")),
        ("threads", _values(runs, lambda run: str(run.environment["threads"]))),
        ("data type", _values(runs, lambda run: run.environment["dtype"])),
        ("torch", _values(runs, lambda run: run.environment["torch"])),
        ("commit", _values(runs, _commit)),
        ("started", _values(runs, lambda run: run.environment["started"][:10])),
        ("command", _values(runs, lambda run: _command(run, experiment.wording))),
    ]
    return [(name, value) for name, value in found if value]


def _verdicts(comparisons: Sequence[Comparison]) -> Facts:
    """The variants of each verdict, and the single seeds of variants about which their runs leave a doubt."""
    ordered = sorted((one for one in comparisons if one.word in _WORDS), key=lambda one: _WORDS.index(one.word))
    verdicts = dict.fromkeys(one.verdict for one in ordered)
    found = [(verdict, ", ".join(one.group.name for one in ordered if one.verdict == verdict)) for verdict in verdicts]
    for one in ordered:
        if one.word in ("unstable", "inconclusive") and len(one.by_seed) > 1:
            seeds = (
                f"{'diverged' if change is None else signed(change)} (seed {seed})" for seed, change in one.by_seed
            )
            found.append((f"{one.group.name}{BY_SEED}", ", ".join(seeds)))
    return found


def _largest_effect(comparisons: Sequence[Comparison], baseline: str) -> str:
    others = [one for one in comparisons if one.group.name != baseline]
    if len(others) == len(comparisons):
        return f"There is no finished run of {baseline} to compare {several(len(others), 'variant')} with."
    counts = {word: sum(one.word == word for one in others) for word in _WORDS}
    if not counts["better"] + counts["worse"]:
        return f"None of {several(len(others), 'variant')} is known to be better or worse than {baseline}."
    changes = {
        one.group.name: (one.bits_difference or one.loss_difference, "bits per byte" if one.bits_difference else "nats")
        for one in others
        if one.word in ("better", "worse")
    }
    name, (change, unit) = max(changes.items(), key=lambda item: abs(item[1][0].value) if item[1][0] else 0.0)
    largest = f"{name} differs most from {baseline}, by {difference_and_interval(change)} {unit}"
    words = [f"{number} {word}" for word, number in counts.items() if number]
    shown = " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])
    return f"{largest}. Of {several(len(others), 'variant')}: {shown}."


def _rates(experiment: Experiment) -> Facts:
    findings = study_rates(experiment.groups)
    best, stable, divergent, tried = findings.best, findings.stable, findings.divergent, findings.tried
    figures = []
    if best is not None:
        loss = mean_and_spread(summarised(best, "final_valid_loss"))
        figure = f"{loss} nats per token at {best.name}"
        if len(tried) > 1 and best in (tried[0], tried[-1]):
            figure += f" (the {'lowest' if best is tried[0] else 'highest'} rate tried)"
        figures.append(("lowest validation loss", figure))
    if divergent is None:
        edge = f"above {tried[-1].name}, the highest rate tried" if tried else "unknown"
    else:
        edge = f"below {divergent.name}" if stable is None else f"between {stable.name} and {divergent.name}"
    figures.append(("edge of stability", edge))
    if best and best.rate and stable and stable.rate and divergent and divergent.rate and best.rate < divergent.rate:
        below = f"by a factor of {stable.rate / best.rate:.3g} to {divergent.rate / best.rate:.3g}"
        figures.append(("best rate below the edge", below))
    if findings.stable_again:
        figures.append(("stable rates above the edge", ", ".join(group.name for group in findings.stable_again)))
    return figures


def _batches(batches: Sequence[BatchFindings], target: float | None) -> Facts:
    trained = [found for found in batches if found.best is not None]
    figures = []

    def lowest(name: str, values: dict[int, float | None], form: Callable[[float], str]) -> None:
        known = {size: value for size, value in values.items() if value is not None}
        if known:
            size = min(known, key=lambda size: known[size])
            figures.append((name, f"{form(known[size])} with a batch of {size}"))

    def of_best(name: str) -> dict[int, float | None]:
        return {found.batch_size: mean(found.best.values(name)) for found in trained if found.best}

    lowest("lowest validation loss", of_best("final_valid_loss"), lambda loss: f"{loss:.4f} nats per token")
    if target is not None:
        reached = [found for found in trained if found.costs and len(found.reached) == len(found.costs)]
        tokens = {found.batch_size: mean([cost.tokens for cost in found.reached]) for found in reached}
        seconds = {found.batch_size: mean([cost.seconds for cost in found.reached]) for found in reached}
        lowest(f"fewest tokens to a loss of {target:.4g}", tokens, short_count)
        lowest(f"least training time to a loss of {target:.4g}", seconds, duration)
    speeds = {size: None if speed is None else -speed for size, speed in of_best("tokens_per_second").items()}
    lowest("highest throughput", speeds, lambda speed: f"{count(-speed)} tokens/s")
    full = [str(found.batch_size) for found in batches if found.out_of_memory]
    figures.append(("out of memory", f"at a batch of {full[0]}" if full else "at no batch size"))
    return figures


def _model(recipe: dict[str, Any]) -> str:
    return (
        f"{recipe['num_layers']} layers, width {recipe['d_model']}, {recipe['num_heads']} heads, context "
        f"{recipe['context_length']}, vocabulary {recipe['vocab_size']:,}"
    )


def _training(kind: Kind, recipe: dict[str, Any]) -> str:
    name = str(recipe.get("optimizer", recipe.get("optimizer.kind")))
    optimizer = {"adamw": "AdamW", "muon": "Muon and AdamW"}.get(name, name)
    limit = recipe["time_limit_seconds"]
    if kind == "batch-sweep":
        length = f"{recipe['steps'] * recipe['batch_size'] * recipe['context_length']:,} tokens"
        return f"{length if limit is None else f'{limit:g} seconds'}, {optimizer}"
    length = f"{recipe['steps']:,} steps" if limit is None else f"{limit:g} seconds"
    length += f" of {recipe['batch_size']} windows, {optimizer}"
    return length if kind == "lr-sweep" else f"{length} at {recipe['learning_rate']:g} unless the variant changes it"


def _commit(run: Result) -> str:
    git = run.environment.get("git")
    if git is None:
        return "not in a git repository"
    return git["commit"][:_COMMIT_LETTERS] + (" with uncommitted changes" if git["dirty"] else "")


def _command(run: Result, wording: Wording) -> str:
    command = run.environment.get("command") or [""]
    return wording.command(command) if command[0] else ""


def _values(runs: Sequence[Result], value: Callable[[Result], str]) -> str:
    different = list(dict.fromkeys(value(run) for run in runs))
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return "; ".join(different[:_SHOWN]) + more
