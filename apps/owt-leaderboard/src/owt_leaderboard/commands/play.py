"""Command `python -m owt_leaderboard.play RUN`: serve a web page on which the model of a run writes."""

from dataclasses import dataclass

from owt_leaderboard.commands.shared import RunArgument, command
from owt_leaderboard.run import APP
from trainer.experiments import commands


@dataclass(frozen=True)
class Flags(commands.Play):
    """Serve a web page on which a trained model writes, with the probability of each token and its alternatives."""

    app = APP

    run_directory: RunArgument
    """Run directory."""


main = command(Flags, Flags.run, "owt_leaderboard.play")
