"""Checks before a run with a long time limit, of which a wrong beginning would waste hours."""

from __future__ import annotations

from collections.abc import Callable

LONG_SECONDS = 600.0
"""Time limit in seconds from which on a limit is long."""
MOST_EPOCHS = 20.0
"""Epochs from which on a training text counts as repeated too often."""


def check_device(device: str, seconds: float) -> None:
    """Check that a long run on the CPU is meant to be one: its user names the device.

    Args:
        device: The flag --device.
        seconds: The time limit.

    Raises:
        ValueError: If the device is "auto", this machine has only its CPU, and the limit is long.
    """
    from trainer.devices import resolve_device

    if device == "auto" and seconds >= LONG_SECONDS and resolve_device(device).type == "cpu":
        import torch

        raise ValueError(
            f"the time limit is {seconds:,.0f} s and this machine has no GPU that torch {torch.__version__} can use "
            f"(torch.version.cuda is {torch.version.cuda}): give --device cpu to train on the CPU on purpose, or a "
            f"limit below {LONG_SECONDS:.0f} s"
        )


def check_repetition(
    tokens: float, text_tokens: int, *, is_text_given: bool, device_type: str, notify: Callable[[str], None]
) -> None:
    """Check that the text of a long run on a GPU is large enough, and name the epochs of one that is repeated often.

    On a CPU the sample is the usual text, so it is only named.

    Args:
        tokens: Training tokens that the run is expected to see.
        text_tokens: Tokens of the training text.
        is_text_given: Whether the user named the text, which is then repeated on purpose.
        device_type: "cuda", "mps" or "cpu".
        notify: Receives the line about a text that is repeated more than `MOST_EPOCHS` times.

    Raises:
        ValueError: If the text was not named, is repeated more often than that, and the device is a GPU.
    """
    epochs = tokens / text_tokens
    if epochs <= MOST_EPOCHS:
        return
    found = f"the training text has {text_tokens:,} tokens and would be seen about {epochs:,.0f} times in this run"
    if is_text_given or device_type == "cpu":
        notify(found)
        return
    raise ValueError(
        f"{found}: expected at most {MOST_EPOCHS:.0f} times. Choose a larger text with --dataset, by "
        "its name or PATH, or give --dataset sample to repeat the sample on purpose"
    )
