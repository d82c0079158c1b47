"""`ablations`: the baseline and its variants."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.commands.shared import ExperimentFlags, ExperimentRunner, SweepFlags
from tinystories.flags import Machine
from tinystories.variants import SetName, Variant, VariantName, chosen_variants

if TYPE_CHECKING:
    from tinystories.recipes import Recipe
    from tinystories.training import TokenFiles

MOST_RATES = 6  # for each variant
_MOST_JOBS = 4  # on a CPU, whose memory they share


def machine_jobs(machine: Machine) -> int:
    """Return the number of runs at the same time that suits a machine."""
    if machine.device_type == "cpu":
        return min(_MOST_JOBS, os.cpu_count() or 1)
    if machine.device not in ("auto", "cuda"):
        return 1
    import torch

    return max(1, torch.cuda.device_count())


@dataclass(frozen=True, kw_only=True)
class Ablations(ExperimentFlags):
    """Train the baseline and its variants, and write a report with tables, learning curves and stories."""

    sweep: SweepFlags = field(default_factory=lambda: SweepFlags(seeds=3))
    variants: tuple[VariantName | SetName, ...] = ("assignment",)
    """Variants to train: "assignment" selects those of the handout (baseline to silu), "all" every one."""
    tune_rates: bool = False
    """First search for the best learning rate of each variant, by factors of 2 with the first seed, and compare the
    variants at these rates; three times as many runs or more, in runs/ablations-NAME-tuned."""

    @property
    def jobs(self) -> int:
        """Runs at the same time; small models use several cores badly, and several runs do not."""
        if self.sweep.jobs is not None or self.sweep.engine != "local":
            return super().jobs
        return machine_jobs(self.machine)

    def run(self) -> int:
        """Train the runs that are not finished, and report."""
        self.sweep.check()
        recipe = self.recipe.recipe(self.machine, small="cpu-ablations")
        variants = chosen_variants(self.variants)
        if self.tune_rates:  # the search finds a lower rate by itself
            variants = [variant for variant in variants if variant.name != "no_rmsnorm_low_lr"]
        recipes = {variant.name: variant.change(recipe) for variant in variants}
        files = self.data.token_files(recipe.vocab_size for recipe in recipes.values())
        name = f"ablations-{self.data.name}" + ("-tuned" if self.tune_rates else "")
        out = self.out or Path("runs", name)
        title = f"Ablations on {self.data.name}" + (", each at its best learning rate" if self.tune_rates else "")
        runner = ExperimentRunner(out, "ablations", title, self, recipe, files)
        if self.tune_rates:
            tuned = {variant.name: self._tuned(variant, recipes, files, out) for variant in variants}
            recipes = {name: at_best for name, (at_best, _) in tuned.items()}
            for _, failed in tuned.values():
                runner.failed |= failed
            runner.note(
                f"Each variant is trained at its best learning rate of at most {MOST_RATES}, a factor of 2 apart, "
                "found with the first seed."
            )
        # The first seed of each comes first, so that an early report compares all variants.
        runs = [
            runner.run(recipes[variant.name], variant.name, number)
            for number in range(self.sweep.seeds)
            for variant in variants
        ]
        print(f"{len(runs)} runs of {recipe.length}, records in {out}")
        runner.train(runs)
        return runner.finish()

    def _tuned(
        self, variant: Variant, recipes: "dict[str, Recipe]", files: "dict[int, TokenFiles]", out: Path
    ) -> "tuple[Recipe, dict[str, str]]":
        """Search the best rate; return the recipe at that rate, and the failed runs of the search."""
        from tinystories.recipes import at_rate
        from tinystories.sweeps import best_rate, climb

        recipe = recipes[variant.name]
        directory = out / "tuning" / variant.name
        title = f"Learning rates of {variant.name} on {self.data.name}"
        runner = ExperimentRunner(directory, "lr-sweep", title, self, recipe, files)
        best = best_rate(climb(recipe.learning_rate, runner.try_rates(recipe), max_rates=MOST_RATES))
        runner.finish()
        if best is None:
            print(f"{variant.name} diverged or failed at every rate; it keeps {recipe.learning_rate:g}")
        return recipe if best is None else at_rate(recipe, best), runner.failed
