"""Recipes and flags of runs that finish in a second, and what tests say about commands."""

import json
from dataclasses import asdict, replace

from synthetic import make_run

from tinystories.recipes import PRESETS
from tinystories.run import main
from tinystories.training import Machine

CPU = Machine(device="cpu")
TINY = replace(
    PRESETS["cpu-quick"],
    vocab_size=300,
    context_length=16,
    d_model=16,
    num_layers=1,
    num_heads=2,
    d_ff=40,
    steps=4,
    batch_size=4,
    evaluations=1,
)
SMALL = (
    "--vocab-size 300 --context-length 16 --d-model 16 --num-layers 2 --num-heads 2 --d-ff 40 "
    "--steps 8 --batch-size 4 --evaluations 2"
)


def write_stories(path):
    """Write a text of 60 short stories, and return its path."""
    names = ["Mia", "Tom", "Ben", "Lily", "Sam"]
    stories = [f"{names[i % 5]} had {i} red balls. {names[(i + 1) % 5]} took one home." for i in range(60)]
    path.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories), "utf-8")
    return path


def small_flags(text, data_dir):
    """Flags for a small run on a text: `[command, *flags]`."""
    return ["--dataset", str(text), "--data-dir", str(data_dir), "--device", "cpu", *SMALL.split()]


def refused(arguments, capsys):
    """The one line on standard error of a command that must refuse its input."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def summary_of(run):
    """The summary of a finished run."""
    return json.loads((run / "summary.json").read_text("utf-8"))


class FakeTraining:
    """Takes the place of `train`: writes the records of a run at once, with the loss of a function of its recipe.

    The function returns a loss, None for a run that diverges, or an exception to raise.
    """

    def __init__(self, loss_of):
        self.loss_of, self.machines = loss_of, []

    def __call__(self, recipe, files, directory, machine, **options):
        self.machines.append(machine)
        if (directory / "summary.json").exists():
            return
        loss = self.loss_of(recipe)
        if isinstance(loss, Exception):
            raise loss
        make_run(directory, [7.0, 5.0, loss], at=17 if loss is None else None, recipe=asdict(recipe))
