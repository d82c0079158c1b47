"""Flags shared by several commands, as dataclasses; their docstrings are the text of `--help`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import tyro

from tinystories.recipes import PRESETS, FeedForward, Norm, OptimizerName, Position, PresetName, Recipe, default_preset
from tinystories.texts import CORPUS
from tinystories.training import Machine as Machine
from tinystories.training import TokenFiles
from trainer.experiments import texts
from trainer.experiments.long_limits import check_device
from trainer.support.durations import parse_duration

if TYPE_CHECKING:
    from nnscratch.speedrun import Recipe as SpeedrunRecipe

_IN_SPEEDRUN = {
    **{name: f"model.{name}" for name in "vocab_size context_length d_model num_layers num_heads d_ff ffn".split()},
    **{name: f"model.{name}" for name in "tie_embeddings qk_norm dropout".split()},
    "batch_size": "batches.batch_size",
    "muon_learning_rate": "optimizer.muon_learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "warmup_fraction": "schedule.warmup_fraction",
    "evaluations": "evaluations.count",
}
"""Settings of nnscratch's speedrun by the names of flags."""
_OF_SPEEDRUN = {"norm": "pre", "position": "rope", "optimizer": "muon", "learning_rate": None, "steps": None}
"""The one value of each further flag that suits the speedrun. None: no value does, because it has a rate for each kind
of parameter, and no steps."""

RunArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
"""A run directory, given without the name of a flag."""


@dataclass(frozen=True)
class DataFlags(texts.DataFlags):
    """Training and validation text."""

    corpus = CORPUS

    dataset: str | None = None
    """"sample" (the default: stories composed on this machine, no network needed), "tinystories" (TinyStories V2 from
    the Hugging Face hub, 2.2 GB, downloaded once) or the path of a text file (.txt, .gz, .zst) whose documents are
    separated by <|endoftext|>, of a table with --column, or of a folder of such files."""
    valid_bytes: int = 100_000
    """Use only the first documents of the validation text, up to this many bytes, because all of it is evaluated many
    times; 0 uses the whole text."""

    def token_files(self, vocab_sizes: Iterable[int]) -> dict[int, TokenFiles]:
        """Return the token files for each size of the vocabulary."""
        return {size: self.prepare(size) for size in sorted(set(vocab_sizes))}


@dataclass(frozen=True)
class RecipeFlags:
    """Changes to the preset; other settings keep the preset's value."""

    preset: PresetName | Literal["auto"] = "auto"
    """Recipe to start from; "auto" is gpu-course on CUDA and cpu-quick elsewhere, for ablations cpu-ablations. With
    train --time-limit it is the recipe of owt_leaderboard instead, in sizes that suit the device and the limit."""
    vocab_size: int | None = None
    """Entries of the tokenizer's vocabulary."""
    context_length: int | None = None
    """Tokens in one window."""
    d_model: int | None = None
    """Width of the residual stream."""
    num_layers: int | None = None
    """Number of Transformer blocks."""
    num_heads: int | None = None
    """Attention heads in a block."""
    d_ff: int | None = None
    """Width inside the feed-forward layers."""
    norm: Norm | None = None
    """RMSNorm before each part of a block, after its residual sum, or nowhere."""
    position: Position | None = None
    """Rotary position embedding, or none."""
    ffn: FeedForward | None = None
    """Kind of feed-forward layer."""
    tie_embeddings: bool | None = None
    """Share one matrix between embedding and output layer."""
    qk_norm: bool | None = None
    """Normalise every head's queries and keys."""
    dropout: float | None = None
    """In training, share of the numbers set to 0 in the embeddings and in the outputs of attention and feed-forward."""
    optimizer: OptimizerName | None = None
    """AdamW for everything, or Muon for the matrices inside the blocks."""
    steps: int | None = None
    """Optimizer steps."""
    time_limit: str | None = None
    """Train for a duration (90s, 5m, 1.5h) instead of --steps, with start-up and evaluations; the schedule follows the
    clock."""
    batch_size: int | None = None
    """Windows per step."""
    learning_rate: float | None = None
    """AdamW's learning rate after the warm-up."""
    muon_learning_rate: float | None = None
    """Learning rate of the matrices inside the blocks with --optimizer muon."""
    warmup_fraction: float | None = None
    """Fraction of the steps in which the learning rate rises."""
    weight_decay: float | None = None
    """Fraction by which parameters shrink in a step, per unit of the learning rate."""
    evaluations: int | None = None
    """Number of evaluations."""
    seed: int | None = None
    """Seed of the weights, the order of the data and the samples."""

    @property
    def is_sized(self) -> bool:
        """True if `train` chooses recipe and sizes by the time limit, because no preset is named."""
        return self.time_limit is not None and self.preset == "auto"

    def sized_recipe(
        self, machine: Machine, is_known: "Callable[[SpeedrunRecipe, frozenset[str]], bool]"
    ) -> "tuple[SpeedrunRecipe, frozenset[str], float]":
        """Apply the changes to the recipe of a time limit, and check the machine.

        What a GPU trains depends on the limit, except that a run keeps the recipe that it began with: the one for which
        `is_known`, called with a recipe and its given sizes, returns True.

        Returns:
            The recipe before its sizes are chosen, the names of the sizes that are given, and the limit in seconds.

        Raises:
            ValueError: If the recipe has no such setting, and otherwise as in `recipe`.
        """
        from nnscratch.speedrun import RECIPES, changed, compiled_if_it_pays, given_sizes

        seconds = parse_duration(self.time_limit or "")
        check_device(machine.device, seconds)
        assignments = [
            f"{setting}={value!r}"
            for name, setting in _IN_SPEEDRUN.items()
            if (value := getattr(self, name)) is not None
        ]
        for name, value in _OF_SPEEDRUN.items():
            if getattr(self, name) not in (None, value):
                refuse_flag(name, getattr(self, name), machine)
        kind, fixed = machine.device_type, given_sizes(assignments)

        def changed_for(flops: float | None) -> "SpeedrunRecipe":
            return replace(changed(RECIPES["speedrun"](kind, flops), assignments), seed=self.seed or 0)

        recipes = map(changed_for, (0.0, inf))
        recipe = next((recipe for recipe in recipes if is_known(recipe, fixed)), None)
        recipe = recipe or changed_for(machine.expected_flops(seconds))
        if machine.compile == "on" and recipe.batches.sampled_tokens is not None:
            refuse_flag(
                "compile", "on", machine, "the shapes of the loss that a time limit chooses change in every step"
            )
        recipe = replace(recipe, compile=machine.compile)
        machine.check_compilers(compiled_if_it_pays(recipe, kind, seconds).compile)
        return recipe, fixed, seconds

    def recipe(self, machine: Machine, small: PresetName = "cpu-quick") -> Recipe:
        """Apply the changes to the preset, and check the machine.

        Args:
            machine: Where the recipe will run.
            small: The preset without CUDA if none is named.

        Raises:
            ValueError: If a value is out of range, the time limit is long and the device a CPU that was not asked for,
                or a compiler is missing.
        """
        preset = default_preset(machine.device, small) if self.preset == "auto" else self.preset
        names = [field.name for field in fields(self) if field.name not in ("preset", "time_limit")]
        changes = {name: value for name in names if (value := getattr(self, name)) is not None}
        self._check_gate(PRESETS[preset])
        if self.time_limit is not None:
            changes["time_limit_seconds"] = parse_duration(self.time_limit)
            check_device(machine.device, changes["time_limit_seconds"])
        machine.check_compilers()
        return replace(PRESETS[preset], **changes)

    def _check_gate(self, preset: Recipe) -> None:
        """Refuse another number of matrices in the feed-forward layers that keeps their width: SwiGLU has a third."""
        now = self.ffn or preset.ffn
        if self.d_ff is None and (now == "swiglu") != (preset.ffn == "swiglu"):
            raise ValueError(
                f"--ffn {now} with the preset's d_ff {preset.d_ff} has 2/3 of the parameters of {preset.ffn}: give "
                f"--d-ff too, such as {4 * (self.d_model or preset.d_model)} for about as many, or {preset.d_ff}"
            )


def refuse_flag(
    name: str, value: object, machine: Machine, reason: str = "the recipe that a time limit chooses does not allow it"
) -> NoReturn:
    """Refuse a flag that does not suit the recipe of a time limit."""
    raise ValueError(
        f"--{name.replace('_', '-')} {value}: {reason}; leave it out, or give --preset "
        f"{default_preset(machine.device)} to train that preset for the time limit"
    )
