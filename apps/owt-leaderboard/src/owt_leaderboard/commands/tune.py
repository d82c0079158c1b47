"""Command `python -m owt_leaderboard.tune`: learning rates for a text and a type of device, for the runs after it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count

from nnscratch.speedrun import Recipe, compiled_if_it_pays, given_settings, given_sizes, resized, to_record
from nnscratch.speedrun.assembly import rate_factor
from owt_leaderboard.commands.shared import DataFlags, check_machine, chosen_recipe, command
from owt_leaderboard.run import (
    FINAL_LENGTH,
    FINAL_TRIALS,
    RateSearch,
    RateTrials,
    rates_file,
    rates_to_tune,
    search_rates,
    shown_rates,
    write_rates,
)

_SIZES = {"cuda": (8, 512)}
_OTHER_SIZES = (2, 128)


@dataclass(frozen=True)
class Flags:
    """Search for the speedrun's learning rates on a small model, and store them beside the token files of the text.

    Later runs on this text and type of device use them. The model has 8 layers x 512 on CUDA and 2 x 128 elsewhere. All
    trials have the whole schedule. The best rates of short trials are compared with the recipe's in longer ones, and
    stored only if they lower the loss with each of two seeds by more than the recipe's losses with these seeds differ.
    An interrupted search stores nothing.
    """

    minutes: float = 15.0
    """Time for the search, without the preparation of the text."""
    set: tuple[str, ...] = ()
    """Changes of the recipe, as for `python -m owt_leaderboard`. Rates and sizes given here stay."""
    seed: int = 0
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from bpe import Tokenizer
    from trainer import resolve_device, resolve_dtype
    from trainer.records import describe_environment

    if not 0 < flags.minutes < math.inf:
        raise ValueError(f"--minutes {flags.minutes:g}: expected a number above 0")
    data, seconds = flags.data, 60 * flags.minutes
    recipe = _recipe(flags, seconds)
    base = rates_to_tune(recipe, given_settings(flags.set))
    if not base:
        raise ValueError("--set gives all learning rates: expected at least one to search for")
    check_machine(data, recipe, seconds)
    files = data.prepare(recipe.model.vocab_size)
    path, device = rates_file(files, data.device_type), resolve_device(data.device)
    environment = describe_environment(device, resolve_dtype("auto", device), flags.seed)
    try:
        trials = RateTrials(recipe, files, Tokenizer.from_pretrained(files.tokenizer), device)
        number = trials.plan(seconds)
        model, tokens = recipe.model, round(recipe.step_tokens)
        print(
            f"{model.num_layers} layers x {model.d_model}; time for about {number} trials of {trials.steps} steps of "
            f"{tokens:,} tokens; the final ones take as long as {FINAL_TRIALS} of these",
            flush=True,
        )
        found = search_rates(_printing(trials), base, trials.has_time)
    except KeyboardInterrupt:
        print(f"interrupted: nothing is stored{f', and {path} stays as it is' if path.exists() else ''}")
        return 130
    summary = _conclusion(found, trials.steps)
    # All rates of the trials, which multiplied them by the factor if --set gives a reference_batch_tokens.
    factor, rates = rate_factor(recipe), {**rates_to_tune(recipe, ()), **found.best}
    content = {
        "summary": summary,
        "rates": {name: factor * rate for name, rate in rates.items()} if found.is_better else {},
        "reference_batch_tokens": tokens,
        "text": data.text,
        "steps": trials.steps,
        "final_steps": FINAL_LENGTH * trials.steps,
        "base_losses": _finite(found.base_losses),
        "best_losses": _finite(found.best_losses),
        "trials": [{**asdict(trial), "loss": _finite([trial.loss])[0]} for trial in found.trials],
        "recipe": to_record(trials.recipe),
        "environment": {name: value for name, value in environment.items() if name != "git"},
    }
    if not found.is_better and path.exists():
        print(f"{summary}\nNothing is stored, and the earlier search in {path} stays as it is")
        return 0
    write_rates(path, content)
    later = shown_rates(rates) if found.is_better else "the recipe's rates"
    print(f"{summary}\nLater runs use {later}; stored in {path}")
    return 0


def _recipe(flags: Flags, seconds: float) -> Recipe:
    """Return the recipe of the trials in its final sizes."""
    kind = flags.data.device_type
    recipe = chosen_recipe("speedrun", flags.data, flags.set, flags.seed)
    recipe = resized(recipe, *_SIZES.get(kind, _OTHER_SIZES), given_sizes(flags.set))
    return compiled_if_it_pays(replace(recipe, sized_by_budget=False), kind, seconds)


def _printing(trials: RateTrials) -> Callable[[Mapping[str, float], int, int], float]:
    """Return the loss function of trials, made to print a line for each."""
    numbers = count(1)

    def printing(rates: Mapping[str, float], seed: int, length: int) -> float:
        loss = trials.loss(rates, seed, length)
        result = f"loss {loss:.4f}" if math.isfinite(loss) else "diverged"
        steps = f"{length * trials.steps} steps"
        print(f"[{next(numbers)}] {shown_rates(rates)}, {steps}, seed {seed}: {result}", flush=True)
        return loss

    return printing


def _conclusion(found: RateSearch, steps: int) -> str:
    if not found.best_losses:
        return f"none of {len(found.trials) - 1} other choices has a lower loss than the recipe's after {steps} steps"
    base, best = (" and ".join(f"{loss:.4f}" for loss in each) for each in (found.base_losses, found.best_losses))
    after = f"after {FINAL_LENGTH * steps} steps with two seeds"
    if found.is_better:
        return f"losses {best} {after}, instead of {base}"
    return (
        f"{shown_rates(found.best)}: losses {best} {after}, the recipe's {base}; expected with each seed a gain above "
        f"{found.noise:.4f}, by which the latter differ"
    )


def _finite(losses: "list[float] | tuple[float, ...]") -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]


main = command(Flags, _run, "owt_leaderboard.tune")
