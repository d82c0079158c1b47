"""`generate`: text from a model, printed token by token."""

from dataclasses import dataclass

from tinystories.flags import RunArgument
from tinystories.writing import APP, SAMPLE_PROMPT
from trainer.experiments import commands


@dataclass(frozen=True)
class Generate(commands.Generate):
    """Continue a prompt with a trained model."""

    app = APP

    run_directory: RunArgument
    """Run directory."""
    prompt: str = SAMPLE_PROMPT
    """Beginning of the text, which is printed too."""
