"""Runs of one recipe at several learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tinystories.commands.experiment import Experiment, seeded_name

if TYPE_CHECKING:
    from tinystories.recipes import Recipe
    from tinystories.training import TokenFiles


def at_rate(recipe: "Recipe", rate: float) -> "Recipe":
    """The recipe at another rate; Muon's changes in the same proportion."""
    factor = rate / recipe.learning_rate
    return replace(recipe, learning_rate=rate, muon_learning_rate=recipe.muon_learning_rate * factor)


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
    from tinystories.sweeps import Run

    def losses(rates: Sequence[float]) -> dict[float, float]:
        runs: dict[float, list[Run]] = {rate: [] for rate in rates}
        for number in range(seeds):
            for rate in rates:
                chosen = replace(at_rate(recipe, rate), seed=recipe.seed + number)
                directory = experiment.directory / seeded_name(f"{prefix}rate-{rate:g}", number, chosen.seed)
                runs[rate].append(Run(chosen, directory, files[recipe.vocab_size]))
        experiment.train([run for several in runs.values() for run in several])
        return {rate: sum(run.final_loss for run in several) / seeds for rate, several in runs.items()}

    return losses
