"""`ablations`: the baseline and its variants."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.commands.rate_runs import try_rates
from tinystories.commands.shared import Experiment, SweepFlags, seeded_name
from tinystories.flags import DataFlags, MachineFlags, RecipeFlags
from tinystories.sweeps.rate_search import best_rate, climb, explore
from tinystories.variants import SetName, Variant, VariantName, chosen_variants

if TYPE_CHECKING:
    from tinystories.recipes import Recipe
    from tinystories.training import TokenFiles

MOST_RATES = 6  # for each variant


@dataclass(frozen=True)
class Ablations:
    """Train the baseline and its variants, and write a report with tables, learning curves and stories."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/ablations-NAME, with the name of the data set."""
    variants: tuple[VariantName | SetName, ...] = ("assignment",)
    """Which to train: "assignment" are the handout's (baseline to silu), "all" is every one."""
    tune_rates: bool = False
    """Look for the best learning rate of each variant first, by factors of 2 with the first seed, and compare them at
    these; three times as many runs or more, in runs/ablations-NAME-tuned."""
    sweep: SweepFlags = field(default_factory=SweepFlags)
    data: DataFlags = field(default_factory=DataFlags)
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def run(self) -> int:
        """Train what is not finished, and report."""
        from tinystories.sweeps.sweep import Run

        self.sweep.check()
        recipe = self.recipe.recipe(self.machine.device)
        variants = chosen_variants(self.variants)
        if self.tune_rates:  # its lower rate is what tuning finds
            variants = [variant for variant in variants if variant.name != "no_rmsnorm_low_lr"]
        recipes = {variant.name: variant.change(recipe) for variant in variants}
        files = self.data.token_files(recipe.vocab_size for recipe in recipes.values())
        name = f"ablations-{self.data.name}" + ("-tuned" if self.tune_rates else "")
        out = self.out or Path("runs", name)
        title = f"Ablations on {self.data.name}" + (", each at its best learning rate" if self.tune_rates else "")
        experiment = Experiment(out, "ablations", title, self, recipe, files)
        if self.tune_rates:
            tuned = {variant.name: self._tuned(variant, recipes, files, out) for variant in variants}
            recipes = {name: at_best for name, (at_best, _) in tuned.items()}
            experiment.add_failures(error for _, failed in tuned.values() for error in failed.items())
            tried = f"{MOST_RATES} rates at most, a factor of 2 apart, with the first seed"
            experiment.note(f"Each variant has the best of {tried}.")
        runs = []
        for number in range(self.sweep.seeds):  # one of each first, so that an early look compares all
            for variant in variants:
                chosen = replace(recipes[variant.name], seed=recipe.seed + number)
                directory = out / seeded_name(variant.name, number, chosen.seed)
                runs.append(Run(chosen, directory, files[chosen.vocab_size]))
        print(f"{len(runs)} runs of {recipe.length}, records in {out}")
        experiment.train(runs)
        return experiment.finish()

    def _tuned(
        self, variant: Variant, recipes: "dict[str, Recipe]", files: "dict[int, TokenFiles]", out: Path
    ) -> "tuple[Recipe, dict[str, str]]":
        """The variant's recipe at the best rate, and the runs of the search that failed."""
        from tinystories.recipes import at_rate

        recipe = recipes[variant.name]
        directory = out / "tuning" / variant.name
        title = f"Learning rates of {variant.name} on {self.data.name}"
        experiment = Experiment(directory, "lr-sweep", title, self, recipe, files)
        losses = explore(climb(recipe.learning_rate, max_rates=MOST_RATES), try_rates(experiment, recipe, files))
        best = best_rate(losses)
        experiment.finish()
        if best is None:
            print(f"{variant.name} diverged or failed at every rate; it keeps {recipe.learning_rate:g}")
        return recipe if best is None else at_rate(recipe, best), experiment.failed
