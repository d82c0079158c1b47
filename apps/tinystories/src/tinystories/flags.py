"""The flags of every command, as dataclasses: what stands here is what `--help` shows."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from tinystories.experiments import VariantName
from tinystories.recipes import PRESETS, PresetName, Recipe
from tinystories.training import SAMPLE_PROMPT, SAMPLE_TOKENS, CompileMode, Machine, WandbMode


@dataclass(frozen=True)
class DataFlags:
    """The text."""

    dataset: str = "sample"
    """"sample" (stories composed here, no network needed), "tinystories" (TinyStories V2 from the Hugging Face hub, 2.2
    GB, downloaded once) or the path of a text file (.txt, .gz, .zst) whose documents are separated by <|endoftext|>."""
    valid_dataset: Path | None = None
    """Validation text; without it the last documents of --dataset are held out."""
    valid_bytes: int = 100_000
    """Use only the first documents of the validation text, up to this many bytes, because the whole of it is evaluated
    many times; 0 uses all of it."""
    data_dir: Path = Path("data")
    """Where tokenizers and token files are kept, to be found again."""


@dataclass(frozen=True)
class MachineFlags:
    """The machine."""

    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the matrix products."""
    compile: CompileMode = "auto"
    """torch.compile; "auto" only on CUDA."""

    def machine(self) -> Machine:
        """The same for the training code."""
        return Machine(device=self.device, dtype=self.dtype, compile=self.compile)


@dataclass(frozen=True)
class RecipeFlags:
    """Changes to the preset; everything left out keeps the preset's value."""

    preset: PresetName = "cpu-quick"
    """The recipe to start from."""
    vocab_size: int | None = None
    context_length: int | None = None
    d_model: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    steps: int | None = None
    """Optimizer steps."""
    batch_size: int | None = None
    """Windows per step."""
    learning_rate: float | None = None
    evaluations: int | None = None
    """Evaluations over the run."""
    seed: int | None = None

    def recipe(self) -> Recipe:
        """The preset with the changes."""
        changes = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "preset"}
        return replace(PRESETS[self.preset](), **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class Prepare:
    """Train the tokenizer and write the token files, and nothing else."""

    data: DataFlags = DataFlags()
    vocab_size: int = 2048
    """Entries of the tokenizer."""


@dataclass(frozen=True)
class Train:
    """Train one model."""

    out: Path = Path("runs/train")
    """The run directory."""
    variant: VariantName = "baseline"
    """The change of the recipe to train with."""
    data: DataFlags = DataFlags()
    wandb: WandbMode = "disabled"
    """Records to Weights & Biases, too: "auto" only if a key is configured, "offline" for a later `wandb sync`; needs
    packages/trainer[wandb]."""
    recipe: RecipeFlags = RecipeFlags()
    machine: MachineFlags = MachineFlags()


@dataclass(frozen=True)
class Ablations:
    """Train the baseline and its variants, and write a report with a table, learning curves and stories."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/ablations-NAME, with the name of the data set."""
    variants: tuple[VariantName, ...] = get_args(VariantName)
    """Which to train."""
    data: DataFlags = DataFlags()
    recipe: RecipeFlags = RecipeFlags()
    machine: MachineFlags = MachineFlags()


@dataclass(frozen=True)
class Evaluate:
    """Loss, perplexity and bits per byte of a trained model on any text."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    text: Annotated[Path, tyro.conf.Positional]
    """Text file (.txt, .gz, .zst)."""
    device: str = "auto"


@dataclass(frozen=True)
class Generate:
    """Let a trained model continue a prompt."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    prompt: str = SAMPLE_PROMPT
    max_new_tokens: int = SAMPLE_TOKENS
    """It ends earlier where the model writes <|endoftext|>."""
    temperature: float = 0.8
    """0 always takes the likeliest token."""
    top_k: int | None = None
    """Choose among the k likeliest tokens only."""
    top_p: float | None = 0.95
    """Choose among the likeliest tokens that together have this probability."""
    samples: int = 1
    """How many continuations."""
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Report:
    """Write the report of finished runs again."""

    directory: Annotated[Path, tyro.conf.Positional]
    """The directory given to ablations as --out."""


Command = Prepare | Train | Ablations | Evaluate | Generate | Report
