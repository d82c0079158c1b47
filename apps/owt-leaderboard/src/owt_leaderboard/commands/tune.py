"""Command `python -m owt_leaderboard.tune`: learning rates for a text and a type of device, for the runs after it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count

from nnscratch.speedrun import Recipe, given_settings, given_sizes, resized, to_record
from nnscratch.speedrun.assembly import rate_factor
from owt_leaderboard.commands.shared import DataFlags, check_machine, chosen_recipe, command
from owt_leaderboard.run import (
    RateSearch,
    RateTrials,
    compiled_if_it_pays,
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
    trials have the same steps and the whole schedule. Other rates than the recipe's are stored only if they lower the
    loss with each of two seeds, by more than the recipe's losses with these seeds differ. An interrupted search stores
    nothing.
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
        each = f"{trials.steps} steps of {tokens:,} tokens, {model.num_layers} layers x {model.d_model}"
        print(f"time for about {number} trials of {each}; first with {shown_rates(base)}", flush=True)
        found = search_rates(_printing(trials.loss), base, trials.has_time)
    except KeyboardInterrupt:
        print(f"interrupted: nothing is stored{f', and {path} stays as it is' if path.exists() else ''}")
        return 130
    summary = f"{_conclusion(found)}; {len(found.trials)} trials of {each}"
    # All rates of the trials, which multiplied them by the factor if --set gives a reference_batch_tokens.
    factor, rates = rate_factor(recipe), {**rates_to_tune(recipe, ()), **found.best}
    content = {
        "summary": summary,
        "optimizer": recipe.optimizer.kind,
        "rates": {name: factor * rate for name, rate in rates.items()} if found.is_better else {},
        "reference_batch_tokens": tokens,
        "text": data.text,
        "steps": trials.steps,
        "base_losses": _finite(found.base_losses),
        "best_losses": _finite(found.best_losses),
        "trials": [{**asdict(trial), "loss": _finite([trial.loss])[0]} for trial in found.trials],
        "recipe": to_record(trials.recipe),
        "environment": {name: value for name, value in environment.items() if name != "git"},
    }
    write_rates(path, content)
    print(f"{summary}\nStored for later runs: {path}")
    return 0


def _recipe(flags: Flags, seconds: float) -> Recipe:
    """Return the recipe of the trials in its final sizes."""
    kind = flags.data.device_type
    recipe = chosen_recipe("speedrun", kind, flags.set, flags.seed)
    recipe = resized(recipe, *_SIZES.get(kind, _OTHER_SIZES), given_sizes(flags.set))
    return compiled_if_it_pays(replace(recipe, sized_by_budget=False), kind, seconds)


def _printing(loss_of: Callable[[Mapping[str, float], int], float]) -> Callable[[Mapping[str, float], int], float]:
    """Return a loss function that prints a line for each trial."""
    numbers = count(1)

    def printing(rates: Mapping[str, float], seed: int) -> float:
        loss = loss_of(rates, seed)
        result = f"loss {loss:.4f}" if math.isfinite(loss) else "diverged"
        print(f"[{next(numbers)}] {shown_rates(rates)}, seed {seed}: {result}", flush=True)
        return loss

    return printing


def _conclusion(found: RateSearch) -> str:
    base, best = (" and ".join(f"{loss:.4f}" for loss in each) for each in (found.base_losses, found.best_losses))
    if found.is_better:
        return f"losses {best} with two seeds instead of {base}"
    if found.best_losses == found.base_losses:
        return f"the recipe's rates are kept: no others have a lower loss than {found.base_losses[0]:.4f}"
    return (
        f"the recipe's rates are kept: losses {base} with two seeds, which differ by {found.noise:.4f}; the best "
        f"others, {shown_rates(found.best)}, have {best}, expected to be lower by more than that with each seed"
    )


def _finite(losses: "list[float] | tuple[float, ...]") -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]


main = command(Flags, _run, "owt_leaderboard.tune")
