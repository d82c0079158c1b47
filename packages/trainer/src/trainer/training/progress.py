"""Counts of a run, and intervals between what is done again and again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Counts:
    """Steps made, data read and time spent in training; the loop alone changes them."""

    step: int = 0
    """Optimizer steps made."""
    windows: int = 0
    """Training windows that these steps have read, all processes together; the next batches follow from it."""
    batch_offset: int = 0
    """Difference between the number of the next batch and that of `windows` in the present batches."""
    step_windows: int = 0
    """Windows of the step that is being made, or of the last one."""
    seconds_training: float = 0.0
    """Wall time of the steps, without compilation."""
    learning_rate: float | None = None
    """Learning rate of the last step."""

    def leave_out_used_batches(self, before: tuple[int, int], now: tuple[int, int]) -> None:
        """Continue with random batches that no earlier step has drawn, although their size has changed.

        A random batch is drawn by its step and its number in the step (`RandomWindows`). With another size, the next
        numbers would be those of earlier steps, and their windows would begin with the ones drawn there.

        Args:
            before: Earlier batch size and batches per step.
            now: The present ones.
        """
        used = -(-(self.batch_offset + self.windows // before[0]) // before[1])
        self.batch_offset = used * now[1] - self.windows // now[0]

    def windows_at(self, step: int) -> int:
        """Return the windows read up to a step: the last one, or the one that is being made."""
        return self.windows + (step - self.step) * self.step_windows

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        vars(self).update(state)


class Interval:
    """Multiples of a number of ticks, each of which is reported once.

    Args:
        every: Ticks between two of them; None for none at all.
    """

    def __init__(self, every: int | None) -> None:
        self._every = every
        self.checked = 0
        """The tick up to which multiples have been reported, or left out."""

    def passed(self, tick: int) -> bool:
        """Return whether a multiple lies after the last tick checked, up to this one."""
        before, self.checked = self.checked, max(self.checked, tick)
        return self._every is not None and before // self._every < self.checked // self._every

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"checked": self.checked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.checked = state["checked"]

    def go_back_to(self, tick: int) -> None:
        """Report multiples after this tick again, where the schedule has been moved back."""
        self.checked = min(self.checked, tick)

    def skip_to(self, tick: int) -> None:
        """Leave out the multiples up to a tick, such as those that pass while the action itself takes its time."""
        self.checked = max(self.checked, tick)
