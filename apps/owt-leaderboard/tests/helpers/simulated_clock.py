"""Runs on a simulated machine, so that no test depends on how fast this machine is."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from nnscratch.speedrun.language_model import SpeedrunLM
from owt_leaderboard.commands import train
from owt_leaderboard.report import entry


@dataclass
class SimulatedClock:
    """A clock that advances only during passes of the model and while pictures are drawn.

    `training`, `evaluating` and `drawing` are the seconds of each, and may change during a run.
    """

    seconds: float = 1000.0
    training: float = 0.5
    evaluating: float = 0.05
    drawing: float = 0.2
    started: float = 0.0
    events: list = field(default_factory=list)
    """(age of the process, action at the first pass from then on), in order."""

    def age(self):
        """Seconds since the simulated process started."""
        return self.seconds - self.started

    def start_process(self, importing=3.0):
        """Start another process, which then has imported everything."""
        self.started = self.seconds
        self.seconds += importing

    def pass_of(self, module):
        self.seconds += self.training if module.training else self.evaluating
        while self.events and self.age() >= self.events[0][0]:
            self.events.pop(0)[1]()


@contextmanager
def simulated_clock(*, draws=True):
    """Make all code of this process read a simulated clock.

    Without `draws`, entries have short samples and an empty picture, which takes less real time.
    """
    clock = SimulatedClock()
    clock.start_process()
    frozen = threading.local()

    def now():
        """Work of other threads, such as saving, takes no simulated time, however long this machine needs for it."""
        if threading.current_thread() is threading.main_thread():
            return clock.seconds
        if not hasattr(frozen, "seconds"):
            frozen.seconds = clock.seconds
        return frozen.seconds

    loss_of, picture_bytes = SpeedrunLM.loss, entry.picture_bytes

    def loss(model, inputs, targets, **settings):
        clock.pass_of(model)
        return loss_of(model, inputs, targets, **settings)

    def draw(*arguments, **settings):
        clock.seconds += clock.drawing
        return picture_bytes(*arguments, **settings) if draws else b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", now)
        patch.setattr(SpeedrunLM, "loss", loss, raising=False)
        patch.setattr(entry, "picture_bytes", draw)
        patch.setattr(train, "process_age", clock.age)
        if not draws:
            patch.setattr(entry, "ENTRY_SAMPLE_TOKENS", 8)
        yield clock
