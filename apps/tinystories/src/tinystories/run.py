"""The command line, `python -m tinystories.run COMMAND`; each command is a dataclass of its flags in `commands`."""

import io
import sys
from collections.abc import Sequence

import tyro

from tinystories.commands import Command as Command
from trainer.support.command_line import run_command


def parse(arguments: Sequence[str] | None = None) -> Command:
    """Parse arguments, by default those of the process, into a command; wrong ones and `--help` end the process."""
    command: Command = tyro.cli(
        Command,
        args=arguments,
        prog="python -m tinystories.run",
        description="The TinyStories experiments of Stanford CS336's first assignment, one command each.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 if done, 1 if a run failed, otherwise that of `run_command`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # write each line at once, also into a file
        sys.stdout.reconfigure(line_buffering=True)
    return run_command(lambda: parse(arguments).run())


if __name__ == "__main__":
    sys.exit(main())
