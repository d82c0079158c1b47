"""`lr-sweep`: the best learning rate, and the edge of stability."""

from dataclasses import dataclass, field
from pathlib import Path

from tinystories.commands.experiment import Experiment, SweepFlags
from tinystories.commands.rate_runs import try_rates
from tinystories.experiments import VARIANTS, VariantName
from tinystories.flags import DataFlags, MachineFlags, RecipeFlags
from tinystories.rate_search import best_rate, edge_of_stability, explore, find_edge, given


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
        experiment = Experiment(out, "lr-sweep", title, self.data.name, self.machine.machine(), self.sweep.jobs)
        print(f"up to {len(self.rates) or self.max_rates} rates, runs of {recipe.length}, records in {out}")
        search = given(self.rates) if self.rates else find_edge(recipe.learning_rate, max_rates=self.max_rates)
        losses = explore(search, try_rates(experiment, recipe, files, seeds=self.sweep.seeds))
        best, (stable, divergent) = best_rate(losses), edge_of_stability(losses)
        if best is None:
            experiment.note("Training diverged or failed at every rate.")
        elif divergent is None or stable is None:
            experiment.note(f"The best rate is {best:g}; none that was tried diverged.")
        else:
            experiment.note(
                f"The best rate is {best:g}; the edge of stability lies between {stable:g} and {divergent:g}."
            )
        return experiment.finish()
