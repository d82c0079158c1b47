"""`lr-sweep`: the best learning rate, and the edge of stability."""

from dataclasses import dataclass, field
from pathlib import Path

from tinystories.commands.rate_runs import try_rates
from tinystories.commands.shared import Experiment, SweepFlags
from tinystories.flags import DataFlags, MachineFlags, RecipeFlags
from tinystories.results.grouping import group_key
from tinystories.sweeps.rate_search import best_rate, edge_of_stability, explore, find_edge, given
from tinystories.variants import VARIANTS, VariantName


@dataclass(frozen=True)
class LrSweep:
    """Train at rates from too low to divergent, look closer at the best one and at the edge of stability; report."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/lr-sweep-NAME, with the name of the data set."""
    variant: VariantName = "baseline"
    """The change of the recipe to train with."""
    rates: tuple[float, ...] = ()
    """Train at these rates and no others."""
    max_rates: int = 12
    """The most rates to try; a search is useful with 6 or more."""
    sweep: SweepFlags = field(default_factory=SweepFlags)
    data: DataFlags = field(default_factory=DataFlags)
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def run(self) -> int:
        """Search, and report."""
        self.sweep.check()
        if self.max_rates < 1 or any(rate <= 0 for rate in self.rates):
            raise ValueError(
                f"--max-rates {self.max_rates}, --rates {self.rates}: expected at least 1 rate, and rates above 0"
            )
        recipe = VARIANTS[self.variant].change(self.recipe.recipe(self.machine.device))
        files = self.data.token_files([recipe.vocab_size])
        suffix = "" if self.variant == "baseline" else f"-{self.variant}"
        out = self.out or Path("runs", f"lr-sweep-{self.data.name}{suffix}")
        title = f"Learning rates of {self.variant} on {self.data.name}"
        experiment = Experiment(out, "lr-sweep", title, self, recipe, files)
        print(f"up to {len(self.rates) or self.max_rates} rates, runs of {recipe.length}, records in {out}")
        rates = tuple(dict.fromkeys(self.rates))
        search = given(rates) if rates else find_edge(recipe.learning_rate, max_rates=self.max_rates)
        losses = explore(search, try_rates(experiment, recipe, files, seeds=self.sweep.seeds))
        experiment.note(found({rate: loss for rate, loss in losses.items() if not _failed(experiment, rate)}))
        return experiment.finish()


def found(losses: dict[float, float]) -> str:
    """Say what a search has found.

    Args:
        losses: of each rate, infinite where training diverged; without those at which a run failed, which says nothing.
    """
    best, (stable, divergent) = best_rate(losses), edge_of_stability(losses)
    if best is None:
        return "Training diverged or failed at every rate."
    if divergent is None:
        return f"The best rate is {best:g}; none that was tried diverged."
    if stable is None:
        return f"The best rate is {best:g}; {divergent:g}, the lowest that was tried, diverged."
    return f"The best rate is {best:g}; the edge of stability lies between {stable:g} and {divergent:g}."


def _failed(experiment: Experiment, rate: float) -> bool:
    """Whether a run at this rate ended with an error."""
    return any(group_key("lr-sweep", name, {})[1] == float(f"{rate:g}") for name in experiment.failed)
