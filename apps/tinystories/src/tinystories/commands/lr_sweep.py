"""`lr-sweep`: the best learning rate, and the edge of stability."""

from dataclasses import dataclass
from pathlib import Path

from tinystories.commands.shared import ExperimentFlags, ExperimentRunner
from tinystories.variants import VARIANTS, VariantName


@dataclass(frozen=True, kw_only=True)
class LrSweep(ExperimentFlags):
    """Train at rates from too low to divergent, refine around the best one and the edge of stability, and report."""

    variant: VariantName = "baseline"
    """Change of the recipe to train with."""
    rates: tuple[float, ...] = ()
    """Train at exactly these rates instead of searching."""
    max_rates: int = 12
    """Limit on the number of rates; a search is useful with 6 or more."""

    def run(self) -> int:
        """Search, and report."""
        from tinystories.sweeps import find_edge

        self.sweep.check()
        if self.max_rates < 1 or any(rate <= 0 for rate in self.rates):
            raise ValueError(
                f"--max-rates {self.max_rates}, --rates {self.rates}: expected at least 1 rate, and rates above 0"
            )
        recipe = VARIANTS[self.variant].change(self.recipe.recipe(self.machine))
        files = self.data.token_files([recipe.vocab_size])
        suffix = "" if self.variant == "baseline" else f"-{self.variant}"
        out = self.out or Path("runs", f"lr-sweep-{self.data.name}{suffix}")
        title = f"Learning rates of {self.variant} on {self.data.name}"
        runner = ExperimentRunner(out, "lr-sweep", title, self, recipe, files)
        print(f"up to {len(self.rates) or self.max_rates} rates, runs of {recipe.length}, records in {out}")
        try_rates = runner.try_rates(recipe, seeds=self.sweep.seeds)
        if self.rates:
            try_rates(tuple(dict.fromkeys(self.rates)))
        else:
            find_edge(recipe.learning_rate, try_rates, max_rates=self.max_rates)
        return runner.finish()
