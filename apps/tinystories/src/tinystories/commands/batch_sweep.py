"""`batch-sweep`: batch sizes from 1 to the memory's limit, each at a rate of its own."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinystories.commands.rate_runs import runs_at, try_rates
from tinystories.commands.shared import Experiment, SweepFlags
from tinystories.flags import DataFlags, MachineFlags, RecipeFlags
from tinystories.sweeps.batch_search import MOST_TOKENS, TOKENS_SHARE, batch_sizes, default_target, recipe_for, why_not
from tinystories.sweeps.rate_search import best_rate, climb, explore


@dataclass(frozen=True)
class BatchSweep:
    """Train with batches from one window to as many as memory holds, at re-tuned rates and equal tokens, and report."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/batch-sweep-NAME, with the name of the data set."""
    batch_sizes: tuple[int, ...] = ()
    """Windows per step; by default 1, 4, 16, 64 and every doubling from there on."""
    tokens: int | None = None
    """Tokens of each run; by default two fifths of the recipe's, and 20,480,000 at most."""
    max_rates: int = 4
    """The most learning rates for each batch size: the one of the square root rule, its neighbours by a factor of 2,
    and on from there towards the better side; 1 takes the rule's."""
    target_loss: float | None = None
    """Compare the tokens and seconds to this validation loss; by default one that half of the batch sizes reach."""
    sweep: SweepFlags = field(default_factory=SweepFlags)
    data: DataFlags = field(default_factory=DataFlags)
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def run(self) -> int:
        """Train size by size until something stops it, and report."""
        from trainer import resolve_device

        self.sweep.check()
        self._check()
        recipe = replace(self.recipe.recipe(self.machine.device), evaluations=16)
        tokens = self.tokens or min(round(recipe.tokens * TOKENS_SHARE), MOST_TOKENS)
        files = self.data.token_files([recipe.vocab_size])
        out = self.out or Path("runs", f"batch-sweep-{self.data.name}")
        machine = replace(self.machine.machine(), halve_on_out_of_memory=False)
        title = f"Batch sizes on {self.data.name}"
        on_cpu = resolve_device(machine.device).type == "cpu"
        chosen = sorted(set(self.batch_sizes))
        smallest = recipe_for(recipe, chosen[0] if chosen else next(batch_sizes()), tokens)
        if (stop := why_not(smallest, on_cpu=on_cpu)) is not None:
            raise ValueError(f"not even the smallest batch size can be tried: {stop.reason}")
        base = recipe_for(recipe, recipe.batch_size, tokens)
        experiment = Experiment(out, "batch-sweep", title, self, base, files, machine)
        if on_cpu and self.sweep.jobs > 1:
            experiment.note(f"Times are of up to {self.sweep.jobs} runs at the same time on one processor.")
        best: list[float] = []
        for size in chosen or batch_sizes():
            sized = recipe_for(recipe, size, tokens)
            if (stop := why_not(sized, on_cpu=on_cpu)) is not None:
                experiment.note(f"No larger batches: {stop.reason}.")
                break
            print(f"batch size {size}: {sized.steps:,} steps of {size * sized.context_length:,} tokens")
            prefix, seeds = f"batch-{size}-", self.sweep.seeds
            try_size = try_rates(experiment, sized, files, seeds=seeds, prefix=prefix)
            rate = best_rate(explore(climb(sized.learning_rate, max_rates=self.max_rates), try_size))
            # The worst seed: a target that only some of them reach could not be compared.
            runs = [] if rate is None else runs_at(experiment, sized, rate, files, seeds=seeds, prefix=prefix)
            best.append(max((run.final_loss for run in runs), default=math.inf))
            if experiment.accept_lack_of_memory():
                experiment.note(f"No larger batches: {size} windows have no room in memory.")
                break
        return experiment.finish(target_loss=self.target_loss or default_target(best))

    def _check(self) -> None:
        for name, value in (("max-rates", self.max_rates), ("tokens", self.tokens), ("target-loss", self.target_loss)):
            if value is not None and not value > 0:
                raise ValueError(f"--{name} {value}: expected a number above 0")
        if any(size < 1 for size in self.batch_sizes):
            raise ValueError(f"--batch-sizes {' '.join(map(str, self.batch_sizes))}: expected 1 or more of each")
