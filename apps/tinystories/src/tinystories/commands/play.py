"""`play`: a web page that writes stories with a model."""

from dataclasses import dataclass

from tinystories.flags import RunArgument
from tinystories.writing import APP
from trainer.experiments import commands


@dataclass(frozen=True)
class Play(commands.Play):
    """Serve a web page on which a trained model writes, with the probability of each token and its alternatives."""

    app = APP

    run_directory: RunArgument
    """Run directory."""
