"""`train`: one model."""

from dataclasses import dataclass, field
from pathlib import Path

from tinystories.commands.shared import check_text, next_step
from tinystories.flags import DataFlags, Machine, RecipeFlags
from tinystories.training import WandbMode
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
        from tinystories.training import train
        from trainer.checkpoints import CheckpointStore
        from trainer.experiments.texts import prepared_by_one
        from trainer.support.command_line import print_once

        recipe = VARIANTS[self.variant].change(self.recipe.recipe(self.machine))
        tokenizer = self._given_tokenizer()
        files = prepared_by_one(self.machine.device, lambda: self.data.prepare(recipe.vocab_size, tokenizer))
        check_text(recipe, files, self.machine.device, is_given=self.data.dataset is not None)
        summary = train(recipe, files, self.out, self.machine, wandb=self.wandb, init_from=self.init_from)
        print_once(f"{summary.status}: records in {self.out}")
        if not CheckpointStore(self.out / "checkpoints", keep=1).is_empty():
            print_once(next_step(self.out))
        return 1 if summary.status == "diverged" else 0

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
