"""`train`: one model."""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tinystories.commands.shared import check_text, next_step
from tinystories.flags import DataFlags, Machine, RecipeFlags, refuse_flag
from tinystories.training import TokenFiles, WandbMode
from tinystories.variants import VARIANTS, VariantName


@dataclass(frozen=True)
class Train:
    """Train one model."""

    out: Path = Path("runs/train")
    """The run directory."""
    variant: VariantName = "baseline"
    """Change of the recipe to train with."""
    data: DataFlags = field(default_factory=DataFlags)
    wandb: WandbMode = "disabled"
    """Also log to Weights & Biases: "auto" only if a key is configured, "offline" for a later `wandb sync`; needs
    packages/trainer[wandb]."""
    init_from: Path | None = None
    """Begin with the weights and the tokenizer of another run, or of an export in the native format."""
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: Machine = field(default_factory=Machine)

    def run(self) -> int:
        """Train, and print a next step; exit code 1 if the run diverged."""
        from tinystories.timed_training import check_processes, is_recipe_of, train_for
        from tinystories.training import train
        from trainer.checkpoints import CheckpointStore
        from trainer.experiments.texts import prepared_by_one
        from trainer.loggers import check_wandb
        from trainer.support.command_line import print_once

        began, is_given = time.perf_counter(), self.data.dataset is not None
        check_wandb(self.wandb)

        def prepared(vocab_size: int) -> TokenFiles:
            tokenizer = self._given_tokenizer()
            return prepared_by_one(self.machine.device, lambda: self.data.prepare(vocab_size, tokenizer))

        if self.recipe.is_sized:
            self._check_sized()
            sized, fixed, seconds = self.recipe.sized_recipe(self.machine, partial(is_recipe_of, self.out))
            check_processes(sized, self.machine)
            before = time.perf_counter()
            files = prepared(sized.model.vocab_size)
            began += time.perf_counter() - before  # preparing the text does not count
            summary = train_for(
                seconds,
                sized,
                fixed,
                files,
                self.out,
                self.machine,
                spent=lambda: time.perf_counter() - began,
                is_text_given=is_given,
                wandb=self.wandb,
                notify=print_once,
            )
        else:
            recipe = VARIANTS[self.variant].change(self.recipe.recipe(self.machine))
            files = prepared(recipe.vocab_size)
            check_text(recipe, files, self.machine.device, is_given=is_given)
            summary = train(recipe, files, self.out, self.machine, wandb=self.wandb, init_from=self.init_from)
        print_once(f"{summary.status}: records in {self.out}")
        if not CheckpointStore(self.out / "checkpoints", keep=1).is_empty():
            print_once(next_step(self.out))
        return 1 if summary.status == "diverged" else 0

    def _check_sized(self) -> None:
        """Refuse flags that belong to the recipes of presets."""
        if self.variant != "baseline":
            refuse_flag("variant", self.variant, self.machine)
        if self.init_from is not None:
            refuse_flag("init_from", self.init_from, self.machine)

    def _given_tokenizer(self) -> Path | None:
        """Return the tokenizer of the weights that a run begins with, whose embeddings fit no other; None without."""
        from trainer.experiments.texts import has_begun, tokenizer_of_weights

        if self.init_from is None:
            return None
        found = tokenizer_of_weights(self.out if has_begun(self.out) else self.init_from)
        if found is None:
            raise FileNotFoundError(
                f"--init-from {self.init_from} has no tokenizer, which its weights need: expected a run, one of its "
                "checkpoints, or an export in the native format"
            )
        return found
