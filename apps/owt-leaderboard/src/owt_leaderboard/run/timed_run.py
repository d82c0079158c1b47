"""A run from beginning to end, every second of it counted: sizes, training, the final validation and the entry."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from owt_leaderboard.budget.clock import SESSIONS_FILE, Sessions
from owt_leaderboard.recipe.recipes import Recipe
from owt_leaderboard.run.decisions import BEGINNING_FILE, Beginning, find_beginning
from owt_leaderboard.run.training import Data, WandbMode, close_at_last, make_loggers, train

if TYPE_CHECKING:
    from torch import nn

    from bpe import Tokenizer
    from trainer import Logger, Summary

Result = TypeVar("Result")

# Seconds of the limit, kept for what comes after the entry: printing, the end of the process, and some air. On a CPU it
# takes about 0.4 s; more on a GPU, where contexts and pinned memory are given back, which has not been measured.
EXIT_SECONDS = {"cpu": 1.0, "mps": 1.0, "cuda": 3.0}
# Seconds of limit. On a CPU compiling takes 27 to 126 s, and 9 to 22 % off a step; on a GPU more is gained, and neither
# has been measured.
COMPILING_PAYS_FROM = {"cpu": 1800.0, "cuda": 300.0}
_PREPARATION_TIMEOUT = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class TimedRun:
    """What is to be run, and how its time is counted."""

    recipe: Recipe
    fixed: frozenset[str]
    """Sizes that the user gave."""
    run_dir: Path
    time_limit_seconds: float
    spent: Callable[[], float]
    """What this process has spent of the limit."""
    device: str
    wandb: WandbMode
    notify: Callable[[str], None]

    def run(self, data: Data) -> "Summary":
        """Train, and write the entry; called by all processes of the run.

        Raises:
            ModuleNotFoundError: wandb is asked for and not installed.
            ValueError: the limit is too short, or the directory holds another run.
            OSError: another process is at it.
            trainer.TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
        """
        from bpe import Tokenizer
        from trainer.distributed.processes import joined_processes
        from trainer.distributed.rank import find_place, resolve_process_device

        if self.time_limit_seconds <= self._exit_seconds():
            raise ValueError(
                f"the time limit is {self.time_limit_seconds:g} s: expected more than {self._exit_seconds():g} s"
            )
        loggers = make_loggers(self.wandb)
        tokenizer = Tokenizer.from_pretrained(data.tokenizer_directory)
        place = find_place()
        device = resolve_process_device(self.device, place)
        with joined_processes(place, device, timeout_seconds=600.0) as processes:
            sessions = Sessions(self.run_dir, self.spent)
            is_finished = (self.run_dir / "summary.json").exists()
            try:
                beginning = processes.from_writer(lambda: self._begin(sessions, data, tokenizer, processes.world_size))
                earlier = 0.0 if is_finished else sessions.seconds_of_earlier
                model, summary = self._train(beginning, data, tokenizer, earlier, loggers)
                has_loss = summary.final_valid_loss is not None
                if processes.is_writer and has_loss and not (is_finished and (self.run_dir / "entry.md").exists()):
                    from owt_leaderboard.report.entry import write_entry

                    if is_finished:  # and was killed before its entry was written
                        sessions.begin()
                    else:
                        sessions.note()
                    write_entry(self.run_dir, model, tokenizer)
            except ValueError:
                if processes.is_writer and not any((self.run_dir / "checkpoints").glob("step_*")):
                    sessions.forget()  # so that another limit can be tried in this directory
                raise
            finally:
                sessions.end()
                if processes.is_writer:
                    close_at_last(loggers)
            processes.wait()  # as soon as one process ends, torchrun may end the others
        return summary

    def _train(
        self, beginning: Beginning, data: Data, tokenizer: "Tokenizer", earlier: float, loggers: "list[Logger]"
    ) -> "tuple[nn.Module, Summary]":
        left = self.time_limit_seconds - self._exit_seconds() - beginning.entry_seconds
        if left <= 0:
            raise ValueError(
                f"the time limit is {self.time_limit_seconds:g} s, and the end needs about "
                f"{self._exit_seconds() + beginning.entry_seconds:.1f} s: expected more"
            )
        return train(
            beginning.recipe,
            data,
            tokenizer,
            self.run_dir,
            time_limit_seconds=left,
            seconds_before=self.spent,
            seconds_of_earlier_sessions=earlier,
            device=self.device,
            loggers=loggers,
        )

    def _exit_seconds(self) -> float:
        from trainer import resolve_device

        return EXIT_SECONDS[resolve_device(self.device).type]

    def _begin(self, sessions: Sessions, data: Data, tokenizer: "Tokenizer", processes: int) -> Beginning:
        """Decide what is not decided yet; the writer's part."""
        from owt_leaderboard.report.entry import rehearse
        from trainer import resolve_device

        sessions.acquire()
        asked = {"time_limit_seconds": self.time_limit_seconds, "fixed": sorted(self.fixed), **asdict(self.recipe)}
        known = find_beginning(self.run_dir, asked)
        if (self.run_dir / "summary.json").exists() and known is not None:
            return known
        if known is None and (self.run_dir / BEGINNING_FILE).exists():  # of another command, and nothing came of it
            for file in (SESSIONS_FILE, BEGINNING_FILE):
                (self.run_dir / file).unlink(missing_ok=True)
        sessions.begin()
        if sessions.seconds_of_earlier:
            self.notify(f"going on: earlier processes have spent {sessions.seconds_of_earlier:.1f} s of the limit")
        recipe = compiled_if_it_pays(self.recipe, resolve_device(self.device).type, self.time_limit_seconds)
        reasons: tuple[str, ...] = ()
        speed: float | None = None
        if known is not None:
            recipe, reasons = known.recipe, known.reasons
        elif recipe.sized_by_budget:
            recipe, reasons, speed = self._size(recipe, data, tokenizer, processes)
        for reason in reasons:
            self.notify(reason)
        # Every process does this once, so that nothing is loaded for the first time at the end.
        seconds = rehearse(recipe, tokenizer, self.device)
        if known is not None:
            return known
        beginning = Beginning(asked, recipe, reasons, speed, seconds)
        beginning.write(self.run_dir)
        return beginning

    def _size(
        self, recipe: Recipe, data: Data, tokenizer: "Tokenizer", processes: int
    ) -> tuple[Recipe, tuple[str, ...], float]:
        from owt_leaderboard.budget.sizing import TRAINING_SHARE
        from owt_leaderboard.budget.speed_trial import size_for_device
        from trainer import TokenDataset, resolve_device

        choice = size_for_device(
            recipe,
            tokenizer.vocab_size,
            resolve_device(self.device),
            seconds=TRAINING_SHARE * max(1.0, self.time_limit_seconds - self.spent()),
            train_tokens=len(TokenDataset(data.train_tokens)),
            processes=processes,
            fixed=self.fixed,
        )
        return choice.recipe, choice.reasons, choice.tokens_per_second


def compiled_if_it_pays(recipe: Recipe, device_type: str, seconds: float) -> Recipe:
    """The recipe with `compile` decided, where it is left to the device and the time limit."""
    if recipe.compile != "auto" or device_type not in COMPILING_PAYS_FROM:
        return recipe
    return replace(recipe, compile="on" if seconds >= COMPILING_PAYS_FROM[device_type] else "off")


def prepared_by_one(device: str, prepare: Callable[[], Data]) -> tuple[Data, float]:
    """Let one process prepare the data while the others wait; return them and the seconds that this one spent on it."""
    from trainer.distributed.processes import joined_processes
    from trainer.distributed.rank import find_place, resolve_process_device

    began = time.perf_counter()
    place = find_place()
    with joined_processes(place, resolve_process_device(device, place), _PREPARATION_TIMEOUT) as processes:
        data = processes.from_writer(prepare)
    return data, time.perf_counter() - began
