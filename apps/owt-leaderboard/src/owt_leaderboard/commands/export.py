"""Command `python -m owt_leaderboard.export RUN OUT`: write the model of a run in another format."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from owt_leaderboard.commands.shared import RunArgument, command
from owt_leaderboard.run import APP
from trainer.experiments import commands


@dataclass(frozen=True)
class Flags(commands.Export):
    """Write a trained model in the format of another program, or without the state of its training."""

    app = APP

    run_directory: RunArgument
    """Run directory."""
    out: tyro.conf.Positional[Path]
    """Destination: a directory, or for gguf a file."""


main = command(Flags, Flags.run, "owt_leaderboard.export")
