"""Run within a time limit, which covers the choice of sizes, training, the final validation and the entry."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nnscratch import speedrun
from nnscratch.speedrun import SIZE_NAMES, TRAINING_SHARE, Recipe, compiled_if_it_pays, with_settings
from owt_leaderboard.budget import (
    EXIT_SECONDS,
    SESSIONS_FILE,
    Sessions,
    read_sessions,
)
from owt_leaderboard.report import ENTRY_FILE, PICTURE_FILE, rehearse, write_entry
from owt_leaderboard.run.decisions import (
    DECISIONS_FILE,
    Decisions,
    asked_of,
    check_app,
    earlier_limits,
    find_decisions,
    last_limit,
)
from owt_leaderboard.run.processes import finished
from owt_leaderboard.run.training import train
from owt_leaderboard.run.tuned_rates import TunedRates
from owt_leaderboard.texts import TokenFiles
from trainer.experiments.long_limits import LONG_SECONDS, check_repetition
from trainer.experiments.speed_trial import size_for_device

if TYPE_CHECKING:
    from bpe import Tokenizer
    from trainer import Summary

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True, kw_only=True)
class TimedRun:
    """Run within a time limit, and the way in which its time is counted."""

    recipe: Recipe
    fixed: frozenset[str]
    """Names of the sizes that the user gave; the budget leaves them unchanged."""
    run_dir: Path
    time_limit_seconds: float
    spent: Callable[[], float]
    """Returns the seconds of the time limit that this process has spent."""
    device: str
    is_text_given: bool
    """Whether the user named the training text; a GPU does not repeat another one all through a long limit."""
    wandb: WandbMode
    notify: Callable[[str], None]
    """Called with each line to print."""
    rates: TunedRates | None = None
    """Rates that a run gets when it begins; later sessions keep those of the first one."""

    def run(self, files: TokenFiles) -> "Summary":
        """Train, and write the entry; every process of the run must call this.

        A run goes on with another time limit, and keeps its sizes; also after its end, with a longer one.

        Raises:
            ModuleNotFoundError: If wandb is requested but not installed.
            ValueError: If the limit is too short, for the time already spent too, or the directory holds another run.
            OSError: If another process uses the directory.
            trainer.TrainingInterrupted: If a signal such as SIGINT or SIGTERM came; everything is saved.
        """
        from bpe import Tokenizer
        from owt_leaderboard.run.uploads import Uploads
        from trainer import ConsoleLogger
        from trainer.distributed.processes import joined_processes
        from trainer.distributed.rank import read_ranks, resolve_process_device

        check_app(self.run_dir)
        if self.time_limit_seconds <= EXIT_SECONDS:
            raise ValueError(f"the time limit is {self.time_limit_seconds:g} s: expected more than {EXIT_SECONDS:g} s")
        uploads = Uploads(self.wandb)
        tokenizer = Tokenizer.from_pretrained(files.tokenizer)
        ranks = read_ranks()
        with joined_processes(ranks, resolve_process_device(self.device, ranks), timeout_seconds=600.0) as processes:
            sessions = Sessions(self.run_dir, self.spent)
            try:
                decisions, is_finished = processes.on_rank_0(
                    lambda: self._decide(sessions, files, tokenizer, processes.world_size)
                )
                model, summary = train(
                    decisions.recipe,
                    files,
                    tokenizer,
                    self.run_dir,
                    time_limit_seconds=self._training_limit(decisions),
                    whole_limit_seconds=self.time_limit_seconds,
                    spent=self.spent,
                    seconds_of_earlier_sessions=sessions.seconds_of_earlier,
                    device=self.device,
                    loggers=[ConsoleLogger(), uploads],
                )
                has_entry = is_finished and (self.run_dir / ENTRY_FILE).exists()
                if processes.is_rank_0 and summary.final_valid_loss is not None and not has_entry:
                    if is_finished:  # an earlier process was killed before it wrote the entry
                        sessions.begin()
                    sessions.note()
                    write_entry(
                        self.run_dir,
                        model,
                        tokenizer,
                        recipe=decisions.recipe,
                        time_limit_seconds=self.time_limit_seconds,
                        earlier_limits=earlier_limits(self.run_dir),
                        reasons=decisions.reasons,
                    )
            except ValueError:
                if processes.is_rank_0 and not any((self.run_dir / "checkpoints").glob("step_*")):
                    sessions.forget()  # lets the user try another limit in this directory
                raise
            finally:
                sessions.end()
                if processes.is_rank_0:
                    uploads.finish()
            processes.wait()  # as soon as one process ends, torchrun may end the others
        return summary

    def _training_limit(self, decisions: Decisions) -> float:
        """Return the trainer's time limit, without the seconds reserved for the entry and the end of the process."""
        reserved = EXIT_SECONDS + decisions.entry_seconds
        if self.time_limit_seconds <= reserved:
            raise ValueError(
                f"the time limit is {self.time_limit_seconds:g} s, and the end needs about {reserved:.1f} s: expected "
                "more"
            )
        return self.time_limit_seconds - reserved

    def _goes_on(self, known: Decisions) -> bool:
        """Return whether a run has something left to train; a finished one only with a longer limit.

        Raises:
            ValueError: If the limit is too short for the run as it is.
        """
        before, now = last_limit(self.run_dir, known), self.time_limit_seconds
        is_finished = finished(self.run_dir) is not None
        if now == before:
            return not is_finished
        spent = sum(float(session["seconds"]) for session in read_sessions(self.run_dir))
        if now < before and is_finished:
            raise ValueError(
                f"the time limit is {now:g} s, but {self.run_dir} is finished and has spent {spent:.1f} s of {before:g}"
                f" s: expected more than {before:g} s to go on, the same to read it, or another directory with --out"
            )
        if now <= (least := spent + self.spent() + EXIT_SECONDS + known.entry_seconds):
            raise ValueError(
                f"the time limit is {now:g} s, but the run in {self.run_dir} has spent {spent:.1f} s already: expected "
                f"more than {least:.1f} s, which includes the time for its end, or another directory with --out"
            )
        self.notify(
            f"going on: the time limit was {before:g} s and is now {now:g} s; the sizes stay as they were chosen for "
            f"{known.time_limit_seconds:g} s, and the schedule follows the new limit"
        )
        return True

    def _decide(
        self, sessions: Sessions, files: TokenFiles, tokenizer: "Tokenizer", processes: int
    ) -> tuple[Decisions, bool]:
        """Choose sizes and the time to reserve for the entry, unless an earlier session did; only rank 0 calls this.

        Returns:
            The decisions, and whether the run is finished and only has to be read.
        """
        from trainer import TokenDataset, resolve_device

        sessions.acquire()
        asked = asked_of(self.recipe, self.fixed, self.time_limit_seconds)
        known = find_decisions(self.run_dir, asked)
        if known is not None:
            if not self._goes_on(known):
                return known, True
            for name in (ENTRY_FILE, PICTURE_FILE):  # of a shorter limit
                (self.run_dir / name).unlink(missing_ok=True)
        if known is None and (self.run_dir / DECISIONS_FILE).exists():
            # The files are from another command, which saved no checkpoint.
            for file in (SESSIONS_FILE, DECISIONS_FILE):
                (self.run_dir / file).unlink(missing_ok=True)
        sessions.begin()
        if sessions.seconds_of_earlier:
            self.notify(f"resuming: earlier processes have spent {sessions.seconds_of_earlier:.1f} s of the limit")
        device, text_tokens = resolve_device(self.device), len(TokenDataset(files.train))
        recipe = compiled_if_it_pays(self.recipe, device.type, self.time_limit_seconds)
        is_long = self.time_limit_seconds >= LONG_SECONDS
        reasons: tuple[str, ...] = ()
        if self.rates is not None:
            recipe, reasons = with_settings(recipe, self.rates.settings), (self.rates.reason,)
        tokens: float | None = None
        speed: float | None = None
        if known is not None:
            known = replace(known, recipe=replace(known.recipe, compile=recipe.compile))
            recipe, reasons, speed = known.recipe, known.reasons, known.predicted_tokens_per_second
            tokens = None if speed is None else speed * TRAINING_SHARE * self.time_limit_seconds
        elif recipe.sized_by_budget or (is_long and device.type != "cpu"):
            choice = size_for_device(
                speedrun,
                recipe,
                tokenizer.vocab_size,
                device,
                seconds=TRAINING_SHARE * max(1.0, self.time_limit_seconds - self.spent()),
                train_tokens=text_tokens,
                processes=processes,
                fixed=self.fixed if recipe.sized_by_budget else frozenset(SIZE_NAMES),
            )
            tokens, speed = choice.tokens, choice.tokens_per_second
            if recipe.sized_by_budget:
                recipe, reasons = choice.recipe, (*reasons, *choice.reasons)
        for reason in reasons:
            self.notify(reason)
        if is_long and tokens is not None:
            check_repetition(
                tokens,
                text_tokens,
                is_text_given=self.is_text_given,
                device_type=device.type,
                notify=self.notify,
            )
        # Every session rehearses, so that no library is loaded for the first time at the end.
        seconds = rehearse(recipe, tokenizer, self.device)
        if known is not None:
            return known, False
        decisions = Decisions(asked, recipe, reasons, speed, seconds)
        decisions.write(self.run_dir)
        return decisions, False
