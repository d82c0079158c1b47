"""`export`: a model in the format of other programs."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from tinystories.flags import RunArgument
from tinystories.writing import APP
from trainer.experiments import commands


@dataclass(frozen=True)
class Export(commands.Export):
    """Write a trained model in the format of another program, or without the state of its training."""

    app = APP

    run_directory: RunArgument
    """Run directory."""
    out: tyro.conf.Positional[Path]
    """Destination: a directory, or for gguf a file."""
