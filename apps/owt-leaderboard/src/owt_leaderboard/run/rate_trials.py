"""Short training runs that differ in their learning rates only, for the search for better ones."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from nnscratch import speedrun
from nnscratch.speedrun import (
    Recipe,
    learn_ngrams,
    learning_rate_schedule,
    make_loss,
    make_model,
    make_optimizer,
    momentum_schedule,
    weight_decay_schedule,
    with_settings,
)
from nnscratch.speedrun.memory import in_passes_that_fit
from owt_leaderboard.run.rate_search import FINAL_TRIALS
from owt_leaderboard.texts import TokenFiles
from trainer.experiments.speedrun import COMPILED_FOLDER, EVALUATED_TOKENS, train_config

if TYPE_CHECKING:
    import torch

    from bpe import Tokenizer
    from trainer.evaluation import LossFunction

LEAST_STEPS = 50
"""Steps of a short trial, at least."""
LEAST_TRIALS = 3 + FINAL_TRIALS
"""Short trials for which there must be time: the beginning, two other rates, and the final trials."""
USUAL_TRIALS = 30
"""Short trials of a search that has time for more than `LEAST_STEPS` in each; the time of the final ones included."""
_FIRST_STEPS, _MEASURED_STEPS = 2, 6
_CHECKED_EVERY = 20


class RateTrials:
    """Trials of one recipe: the same model, batches, schedule and evaluated windows, with different rates.

    The model is made and compiled once. Each trial draws its weights anew from its seed and makes a new optimizer,
    whose updates are not compiled. Weights are not averaged.

    Args:
        recipe: The recipe in its final sizes, with `compile` decided.
        files: The texts.
        tokenizer: Their tokenizer.
        device: Device of the trials.

    Raises:
        ValueError: If even the smallest forward pass does not fit into the memory of a GPU.
    """

    def __init__(self, recipe: Recipe, files: TokenFiles, tokenizer: "Tokenizer", device: "torch.device") -> None:
        import torch

        from trainer import TokenDataset, resolve_dtype
        from trainer.data import TokenSplit
        from trainer.devices import keep_freed_memory
        from trainer.training.compilation import compile_loss, keep_compiled_programs

        self._device, self._dtype = device, resolve_dtype("auto", device)
        self._tokenizer = tokenizer
        self._model = make_model(recipe, tokenizer.vocab_size, device)
        if device.type == "cpu":
            keep_freed_memory()  # as the trainer does
        elif device.type == "cuda":
            parameters = sum(parameter.numel() for parameter in self._model.parameters())
            free, _ = torch.cuda.mem_get_info(device)
            recipe = in_passes_that_fit(
                recipe, parameters, tokenizer.vocab_size, free, number_bytes=self._dtype.itemsize
            )
        self.recipe = recipe
        length = recipe.model.context_length
        text = TokenDataset(files.train)
        learn_ngrams(self._model, text.tokens)
        self._train = TokenSplit(text, "the training split")
        self._valid = TokenSplit(TokenDataset(files.valid), "the validation split")
        self._valid = self._valid.first(recipe.evaluations.evaluated_windows * length + 1, length)
        self._loss = make_loss(recipe, tokenizer.encode("\0")[0])
        self._training_loss: LossFunction = self._loss
        if recipe.compile == "on":
            keep_compiled_programs(files.train.parent / COMPILED_FOLDER)
            self._training_loss = compile_loss(self._loss, is_alone=True)
        self.steps = LEAST_STEPS
        """Optimizer steps of a short trial."""
        self._seconds: list[float] = []
        self._deadline = math.inf

    def plan(self, seconds: float) -> int:
        """Measure the speed, choose the steps of a short trial, and return the number of these that fit.

        Args:
            seconds: Time for everything from this call on.

        Raises:
            ValueError: If there is too little time for `LEAST_TRIALS` of `LEAST_STEPS`.
        """
        self._deadline = time.perf_counter() + seconds
        self._run(self.recipe, _FIRST_STEPS)  # compiles
        began = time.perf_counter()
        trained = self._run(self.recipe, _MEASURED_STEPS)
        self._evaluate()
        besides = time.perf_counter() - began - trained
        self.steps, one = steps_of_a_trial(
            self._deadline - time.perf_counter(), besides, trained / _MEASURED_STEPS, given=seconds
        )
        self._seconds = [one]
        return int((self._deadline - time.perf_counter()) / one)

    def has_time(self, trials: int) -> bool:
        """Return whether there is time for so many short trials, by the median of the trials so far."""
        return time.perf_counter() + trials * median(self._seconds) <= self._deadline

    def loss(self, rates: Mapping[str, float], seed: int, length: int = 1) -> float:
        """Make a trial, and return its validation loss in nats per token; infinity if it diverged.

        Args:
            rates: Settings of the optimizer by their dotted names.
            seed: Added to the recipe's; decides the initial weights, the batches and all other random numbers.
            length: Multiplies the steps.
        """
        began = time.perf_counter()
        recipe = replace(with_settings(self.recipe, rates), seed=self.recipe.seed + seed)
        loss = self._evaluate() if math.isfinite(self._run(recipe, length * self.steps)) else math.inf
        if not math.isfinite(loss):
            return math.inf  # it may have ended early, so its time says nothing about the others
        self._seconds.append((time.perf_counter() - began) / length)
        return loss

    def _run(self, recipe: Recipe, steps: int) -> float:
        """Train anew, and return the seconds of the steps; infinity if a loss was not finite."""
        import torch

        from trainer.checkpoints.random_states import seed_everything
        from trainer.data import BatchLoader, BatchSource, StepBatches
        from trainer.devices import fast_matrix_products, synchronize
        from trainer.distributed import Parallel, Processes
        from trainer.training.rates import Rates
        from trainer.training.step import TrainingStep

        torch.manual_seed(recipe.seed)
        vocab_size = self._tokenizer.vocab_size
        fresh = make_model(recipe, vocab_size, self._device)
        self._model.load_state_dict(dict(fresh.named_parameters()), strict=False)  # in place; known n-grams stay
        seed_everything(recipe.seed)  # as the trainer does after the model is made
        optimizer = make_optimizer(self._model, recipe, self._dtype)
        factors = {
            "weight_decay": weight_decay_schedule(recipe, steps),
            "momentum": momentum_schedule(recipe, steps),
        }
        given = {name: schedule for name, schedule in factors.items() if schedule is not None}
        rates = Rates(learning_rate_schedule(recipe, steps), optimizer, given)
        config = train_config(
            speedrun,
            replace(recipe, compile="off"),  # the loss is compiled already
            time_limit_seconds=None,
            steps=steps,
            device=str(self._device),
            dtype="auto",
            separator_id=self._tokenizer.eot_id,
        )
        loader = BatchLoader(BatchSource(self._train, config), self._device)
        parallel = Parallel(self._model, optimizer, Processes(), self._device)
        step = TrainingStep(parallel, self._training_loss, loader, config, self._device, self._dtype)
        self._model.train()
        first = 0
        began = time.perf_counter()
        try:
            with fast_matrix_products(self._device, self._dtype):
                for tick in range(steps):
                    rate = rates.at(tick)
                    batches = StepBatches(first, config.accumulation_at(tick))
                    first += batches.count
                    loss, norm = step.compute_gradients(tick, batches)
                    if step.loss_scale is not None and not torch.isfinite(norm):
                        step.omit(norm)
                        continue
                    if (tick + 1) % _CHECKED_EVERY == 0 and not torch.isfinite(loss):
                        return math.inf
                    with rates.applied(rate):
                        step.apply()
            synchronize(self._device)
        finally:
            loader.close()
        return time.perf_counter() - began

    def _evaluate(self) -> float:
        from trainer import evaluate

        length = self.recipe.model.context_length
        result = evaluate(
            self._model,
            self._valid,
            length,
            batch_size=max(self.recipe.batches.batch_size, EVALUATED_TOKENS // length),
            loss_fn=self._loss,
            device=self._device,
            dtype=self._dtype,
        )
        return result.loss


def steps_of_a_trial(seconds: float, besides: float, step: float, *, given: float) -> tuple[int, float]:
    """Return the steps of a short trial and the seconds that it takes.

    Args:
        seconds: Time for all trials.
        besides: Seconds that a trial takes besides its steps.
        step: Seconds of a step.
        given: Time that the user has given, of which less than `seconds` is left.

    Raises:
        ValueError: If there is too little time.
    """
    steps = max(LEAST_STEPS, int((seconds / USUAL_TRIALS - besides) / step))
    one = besides + steps * step
    if seconds < LEAST_TRIALS * one:
        needed = (given - seconds + LEAST_TRIALS * one) / 60
        raise ValueError(
            f"{given / 60:g} minutes are too short: a trial of {steps} steps takes {one:.0f} s here, and a search "
            f"needs the time of at least {LEAST_TRIALS}; expected {math.ceil(needed)} minutes or more, or smaller "
            "sizes by --set"
        )
    return steps, one
