"""The command line: `python -m tinystories.run COMMAND`. Every command is a dataclass of its flags in `commands`."""

import io
import sys
from collections.abc import Sequence

import tyro

from tinystories.commands.ablations import Ablations
from tinystories.commands.batch_sweep import BatchSweep
from tinystories.commands.evaluate import Evaluate
from tinystories.commands.export import Export
from tinystories.commands.generate import Generate
from tinystories.commands.lr_sweep import LrSweep
from tinystories.commands.play import Play
from tinystories.commands.prepare import Prepare
from tinystories.commands.report import Report
from tinystories.commands.tokenizer_report import TokenizerReport
from tinystories.commands.train import Train
from trainer.support.command_line import run_command

Command = (
    Prepare | TokenizerReport | Train | LrSweep | BatchSweep | Ablations | Report | Evaluate | Generate | Play | Export
)


def parse(arguments: Sequence[str] | None = None) -> Command:
    """The command that arguments, by default the process's, ask for; wrong ones and `--help` end the process."""
    command: Command = tyro.cli(
        Command,
        args=arguments,
        prog="python -m tinystories.run",
        description="The TinyStories experiments of Stanford CS336's first assignment, one command each.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code: 0 done, 1 a run failed; of failures that of `run_command`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # into a file, too, each line as it comes
        sys.stdout.reconfigure(line_buffering=True)
    return run_command(lambda: parse(arguments).run())


if __name__ == "__main__":
    sys.exit(main())
