"""Names and words of an app in the reports of its experiments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

BASELINE = "baseline"


class Described(NamedTuple):
    """Variant of an ablation in words."""

    change: str
    """Difference from the baseline, in a few words."""
    hypothesis: str = ""
    """Prediction, written before the runs; empty if there is none."""
    expected: str | None = None
    """The hypothesis in a word, "better" or "worse"."""


def _program(arguments: Sequence[str]) -> str:
    program = Path(arguments[0])
    module = f"python -m {program.parent.name}.{program.stem}".removesuffix(".__main__")
    return " ".join([module if program.suffix == ".py" else program.name, *arguments[1:]])


@dataclass(frozen=True)
class Wording:
    """Names and words of an app in the reports of its experiments."""

    variants: Mapping[str, Described] = field(default_factory=dict)
    """Variants of ablations by name, in the order of the report."""
    baseline: str = BASELINE
    """Name of the variant that the others are compared with."""
    text: str = "text"
    """Word for a text that a model wrote in training."""
    text_note: str = ""
    """How these texts were sampled, if all runs did it alike."""
    command: Callable[[Sequence[str]], str] = _program
    """Returns the command line to show, given the program and the arguments of a run's process."""


PLAIN = Wording()
"""Words of no app."""
