"""Command `python -m owt_leaderboard.evaluate RUN`: compute the final loss of a run again."""

from dataclasses import dataclass

from owt_leaderboard.commands.shared import RunArgument, command
from owt_leaderboard.run import evaluate_run, finished


@dataclass(frozen=True)
class Flags:
    """Compute a run's validation loss again, on all of its validation text, from the weights that it saved."""

    run_directory: RunArgument
    """Run directory."""
    batch_size: int | None = None
    """Windows in one forward pass; by default those of training. Changes the speed, not the result."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""


def _run(flags: Flags) -> int:
    loss, bits = evaluate_run(flags.run_directory, flags.batch_size, flags.device)
    print(f"Validation loss {loss:.4f}  bits per byte {'unknown' if bits is None else f'{bits:.4f}'}")
    summary = finished(flags.run_directory)
    if summary is not None:
        recorded = summary["final_valid_loss"]
        if recorded is None:
            print("the run diverged and recorded no final loss: these are the weights that it had saved before")
        else:
            print(f"the run recorded {recorded:.4f}: a difference of {abs(loss - recorded):.1e}")
    return 0


main = command(Flags, _run, "owt_leaderboard.evaluate")
