"""Command `python -m owt_leaderboard.generate RUN`: continue a prompt with the model of a run."""

from dataclasses import dataclass

from owt_leaderboard.commands.shared import RunArgument, command
from owt_leaderboard.run import APP
from trainer.experiments import commands


@dataclass(frozen=True)
class Flags(commands.Generate):
    """Continue a prompt with a trained model."""

    app = APP

    run_directory: RunArgument
    """Run directory."""
    prompt: str = APP.prompt
    """Beginning of the text, which is printed too."""


main = command(Flags, Flags.run, "owt_leaderboard.generate")
