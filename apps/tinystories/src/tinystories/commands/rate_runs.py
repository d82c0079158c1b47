"""Runs of one recipe at several learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tinystories.commands.shared import Experiment, seeded_name

if TYPE_CHECKING:
    from tinystories.recipes import Recipe
    from tinystories.sweeps.sweep import Run
    from tinystories.training import TokenFiles


def try_rates(
    experiment: Experiment,
    recipe: "Recipe",
    files: "dict[int, TokenFiles]",
    *,
    seeds: int = 1,
    prefix: str = "",
) -> Callable[[Sequence[float]], dict[float, float]]:
    """What trains a recipe at several rates and returns the mean loss of each, infinite where one diverged or failed.

    Args:
        experiment: where the runs belong.
        recipe: what to train.
        files: its texts, by size of the vocabulary.
        seeds: runs of each rate.
        prefix: goes before the names of the runs.
    """

    def losses(rates: Sequence[float]) -> dict[float, float]:
        runs = {rate: runs_at(experiment, recipe, rate, files, seeds=seeds, prefix=prefix) for rate in rates}
        experiment.train([run for several in runs.values() for run in several])
        return {rate: sum(run.final_loss for run in several) / seeds for rate, several in runs.items()}

    return losses


def runs_at(
    experiment: Experiment,
    recipe: "Recipe",
    rate: float,
    files: "dict[int, TokenFiles]",
    *,
    seeds: int,
    prefix: str = "",
) -> "list[Run]":
    """The runs of a recipe at one rate, one for each seed, as `try_rates` trains them."""
    from tinystories.recipes import at_rate
    from tinystories.sweeps.sweep import Run

    runs = []
    for number in range(seeds):
        chosen = replace(at_rate(recipe, rate), seed=recipe.seed + number)
        directory = experiment.directory / seeded_name(f"{prefix}rate-{rate:g}", number, chosen.seed)
        runs.append(Run(chosen, directory, files[recipe.vocab_size]))
    return runs
