"""The commands: a dataclass of flags, shown by `--help`, with a method `run`."""

from tinystories.commands.ablations import Ablations
from tinystories.commands.batch_sweep import BatchSweep
from tinystories.commands.evaluate import Evaluate
from tinystories.commands.export import Export
from tinystories.commands.generate import Generate
from tinystories.commands.lr_sweep import LrSweep
from tinystories.commands.play import Play
from tinystories.commands.prepare import Prepare
from tinystories.commands.report import Compare, Report
from tinystories.commands.tokenizer_report import TokenizerReport
from tinystories.commands.train import Train

Command = (
    Prepare
    | TokenizerReport
    | Train
    | LrSweep
    | BatchSweep
    | Ablations
    | Report
    | Compare
    | Evaluate
    | Generate
    | Play
    | Export
)
