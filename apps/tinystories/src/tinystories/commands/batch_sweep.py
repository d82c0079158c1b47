"""`batch-sweep`: batch sizes from 1 to the memory limit, each at a rate of its own."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from tinystories.commands.shared import ExperimentFlags, ExperimentRunner


@dataclass(frozen=True, kw_only=True)
class BatchSweep(ExperimentFlags):
    """Train with batches from one window up to the memory limit, at tuned rates and equal tokens, and report."""

    batch_sizes: tuple[int, ...] = ()
    """Windows per step; by default 1, 4, 16, 64 and then every doubling."""
    tokens: int | None = None
    """Tokens of each run; by default two fifths of the recipe's, and 20,480,000 at most."""
    max_rates: int = 4
    """Limit on the learning rates for each batch size: the square root rule's, its neighbours by a factor of 2, and
    further ones in the better direction; 1 takes the rule's."""
    target_loss: float | None = None
    """Compare the tokens and seconds to this validation loss; by default one that half of the batch sizes reach."""

    def run(self) -> int:
        """Train size by size until a limit is met, and report."""
        from tinystories.sweeps import (
            batch_sizes,
            best_rate,
            climb,
            default_target,
            default_tokens,
            obstacle,
            recipe_for,
        )
        from trainer import resolve_device

        self.sweep.check()
        self._check()
        recipe = replace(self.recipe.recipe(self.machine), evaluations=16)
        tokens = self.tokens or default_tokens(recipe)
        files = self.data.token_files([recipe.vocab_size])
        out = self.out or Path("runs", f"batch-sweep-{self.data.name}")
        machine = replace(self.machine, halve_on_out_of_memory=False)
        on_cpu = resolve_device(machine.device).type == "cpu"
        chosen = sorted(set(self.batch_sizes))
        smallest = recipe_for(recipe, chosen[0] if chosen else next(batch_sizes()), tokens)
        if (reason := obstacle(smallest, on_cpu=on_cpu)) is not None:
            raise ValueError(f"not even the smallest batch size can be tried: {reason}")
        base = recipe_for(recipe, recipe.batch_size, tokens)
        title = f"Batch sizes on {self.data.name}"
        runner = ExperimentRunner(out, "batch-sweep", title, self, base, files, machine)
        if runner.engine is not None:
            runner.note(f"Times were measured on a Ray cluster, {runner.engine.share}.")
        elif on_cpu and self.jobs > 1:
            runner.note(f"Times were measured with up to {self.jobs} runs at the same time on one processor.")
        worst: list[float] = []
        for size in chosen or batch_sizes():
            sized = recipe_for(recipe, size, tokens)
            if (reason := obstacle(sized, on_cpu=on_cpu)) is not None:
                runner.note(f"No larger batches: {reason}.")
                break
            print(f"batch size {size}: {sized.steps:,} steps of {size * sized.context_length:,} tokens")
            prefix, seeds = f"batch-{size}-", self.sweep.seeds
            try_size = runner.try_rates(sized, seeds=seeds, prefix=prefix)
            rate = best_rate(climb(sized.learning_rate, try_size, max_rates=self.max_rates))
            # Take the worst seed: a target that only some seeds reach could not be compared.
            runs = [] if rate is None else runner.runs_at(sized, rate, seeds=seeds, prefix=prefix)
            worst.append(max((run.final_loss for run in runs), default=math.inf))
            if runner.accept_lack_of_memory():
                runner.note(f"No larger batches: {size} windows do not fit into memory.")
                break
        return runner.finish(target_loss=self.target_loss or default_target(worst))

    def _check(self) -> None:
        for name, value in (("max-rates", self.max_rates), ("tokens", self.tokens), ("target-loss", self.target_loss)):
            if value is not None and not value > 0:
                raise ValueError(f"--{name} {value}: expected a number above 0")
        if any(size < 1 for size in self.batch_sizes):
            raise ValueError(f"--batch-sizes {' '.join(map(str, self.batch_sizes))}: expected at least 1 for each")
