"""`train`: one model."""

from dataclasses import dataclass, field
from pathlib import Path

from tinystories.commands.shared import next_step
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
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: Machine = field(default_factory=Machine)

    def run(self) -> int:
        """Train, and print a next step."""
        from tinystories.training import train

        recipe = VARIANTS[self.variant].change(self.recipe.recipe(self.machine.device))
        files = self.data.prepare(recipe.vocab_size)
        summary = train(recipe, files, self.out, self.machine, wandb=self.wandb)
        print(f"{summary.status}: records in {self.out}")
        print(next_step(self.out))
        return 0
