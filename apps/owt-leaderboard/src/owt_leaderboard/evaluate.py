"""`python -m owt_leaderboard.evaluate RUN`: the final loss of a run, computed again from its last checkpoint."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Compute a run's validation loss again, on the whole validation text, from the weights that it saved."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    batch_size: int | None = None
    """Windows in one forward pass; by default those of training. It changes the speed, not the result."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1."""


def evaluate_run(run_dir: Path, batch_size: int | None, device: str) -> tuple[float, float | None]:
    """Return the loss in nats per token and the bits per byte, if the bytes are known.

    Windows and their order are those of the run; the type of the products is what `device` trains in, which is that of
    the run on a device of the same kind. Batches of another size may be multiplied in another order, which changes the
    last bits of a float32; the means are summed in float64.

    Raises:
        FileNotFoundError: there is no run, or its tokenizer or validation text is gone.
        ValueError: a file is damaged, or batch_size is below 1.
    """
    from typing import cast

    from nnscratch import LanguageModel
    from owt_leaderboard.run.finished_run import read_run
    from trainer import TokenDataset, evaluate, resolve_device, resolve_dtype

    run = read_run(run_dir, device)
    where = resolve_device(device)
    result = evaluate(
        run.model,
        TokenDataset(run.recorded["valid_tokens"]),
        run.recipe.context_length,
        batch_size=run.recipe.batch_size if batch_size is None else batch_size,
        loss_fn=lambda module, inputs, targets: cast(LanguageModel, module).loss(inputs, targets),
        device=where,
        dtype=resolve_dtype("auto", where),
    )
    return result.loss, result.bits_per_byte


def _run(flags: Flags) -> int:
    import json

    loss, bits = evaluate_run(flags.run_directory, flags.batch_size, flags.device)
    print(f"Validation loss {loss:.4f}  bits per byte {'not known' if bits is None else f'{bits:.4f}'}")
    summary = flags.run_directory / "summary.json"
    if summary.exists():
        recorded = json.loads(summary.read_text("utf-8"))["final_valid_loss"]
        if recorded is None:
            print("the run recorded no final loss, for it diverged: these are the weights that it saved before")
        else:
            print(f"the run recorded {recorded:.4f}: {abs(loss - recorded):.1e} away")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, and return the process's exit code: 0 done; of failures that of `run_command`."""
    flags = tyro.cli(Flags, args=arguments, prog="python -m owt_leaderboard.evaluate")
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
