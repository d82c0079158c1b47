"""`ablations`: the baseline and its variants."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from tinystories.commands.report import report
from tinystories.experiments import SetName, VariantName, chosen_variants
from tinystories.flags import DataFlags, MachineFlags, RecipeFlags


@dataclass(frozen=True)
class Ablations:
    """Train the baseline and its variants, and write a report with a table, learning curves and stories."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/ablations-NAME, with the name of the data set."""
    variants: tuple[VariantName | SetName, ...] = ("assignment",)
    """Which to train: "assignment" are the handout's (baseline to silu), "all" is every one."""
    data: DataFlags = field(default_factory=DataFlags)
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def run(self) -> int:
        """Train what is not finished, and report."""
        from tinystories.sweeps import Run, run_all
        from tinystories.training import train

        recipe = self.recipe.recipe(self.machine.device)
        machine = self.machine.machine()
        preparation = self.data.prepare(recipe.vocab_size)
        out = self.out or Path("runs", f"ablations-{self.data.name}")
        variants = chosen_variants(self.variants)
        runs = [Run(variant.name, variant.change(recipe), out / variant.name) for variant in variants]
        print(f"{len(runs)} runs of {recipe.tokens:,} tokens each, records in {out}")
        failed = run_all(runs, lambda run: train(run.recipe, preparation, run.directory, machine), print)
        if len(failed) < len(runs):
            report(out)
        for failure in failed:
            place = out / failure / "failure.json"
            print(f"{failure} failed: see {place}; the same command tries it again", file=sys.stderr)
        return 1 if failed else 0
