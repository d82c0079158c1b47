"""Command `python -m owt_leaderboard.preflight`: whether a timed run would be wasted, in about three minutes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from nnscratch import speedrun
from nnscratch.speedrun import (
    RECIPES,
    SIZE_NAMES,
    TRAINING_SHARE,
    Recipe,
    RecipeName,
    changed,
    compiled_if_it_pays,
    given_sizes,
    make_model,
    with_settings,
)
from owt_leaderboard.budget import (
    MIN_RUNS,
    PACKAGED,
    measured_on,
    predict_loss,
    process_age,
    read_measurements,
)
from owt_leaderboard.budget import prediction as arithmetic
from owt_leaderboard.commands.shared import (
    DataFlags,
    RatesSource,
    budget_flops,
    check_machine,
    chosen_recipe,
    command,
    stored_rates,
)
from owt_leaderboard.report import rehearse
from owt_leaderboard.run import (
    Check,
    TrialFailedError,
    Verdict,
    check_disk,
    check_kernels,
    run_trial,
    trial_steps,
)
from trainer.experiments.long_limits import LONG_SECONDS, check_device, check_repetition
from trainer.experiments.speed_trial import ASSUMED_UTILISATION, size_for_device

if TYPE_CHECKING:
    from nnscratch.accounting.lowering import LoweredPass

LEAST_UTILISATION = 0.25
"""MFU on a GPU of known peak below which a run counts as wasted."""
_MOST_LOGITS = 2
_KEPT_CHECKPOINTS = 4  # the last two, the best, and one that is being written
_INDENT = 9 * " "
_GOAL_PEAK, _GOAL_SECONDS, _GOAL_UTILISATION, _GOAL_TOKENS = 989.4e12, 5400.0, 0.44, 1.9e9


@dataclass(frozen=True)
class Flags:
    """Check in about three minutes whether a run with these flags would be wasted.

    The flags are those of `python -m owt_leaderboard`. The text is prepared first, as the run would do. With --for,
    nothing runs: the training loss is lowered for an H100, and the prediction follows from that and from assumptions.
    """

    time_limit: str = "1.5h"
    """Time limit of the run."""
    recipe: RecipeName = "speedrun"
    """Recipe of the run."""
    set: tuple[str, ...] = ()
    """Changes of the recipe."""
    rates: RatesSource = "tuned"
    """Rates of the run."""
    out: Path | None = None
    """Run directory; its disk is checked. By default a folder in runs."""
    gpu: Annotated[str | None, tyro.conf.arg(name="for")] = None
    """Name of a GPU that this machine need not have, such as "NVIDIA H100", for a prediction on OpenWebText."""
    data: DataFlags = field(default_factory=DataFlags)


class _Report:
    """Prints one line per check, and remembers whether any has failed."""

    def __init__(self) -> None:
        self.has_failed = False

    def add(self, name: str, verdict: Verdict, text: str) -> None:
        """Print the result of a check."""
        self.has_failed |= verdict == "failed"
        print(f"{verdict:9}{name}: {text}", flush=True)

    def add_all(self, checks: list[Check]) -> None:
        """Print several results."""
        for check in checks:
            self.add(*check)

    def attempt(self, name: str, check: Callable[[], str]) -> bool:
        """Print the text that a check returns, or the ValueError that it raises; return whether it succeeded."""
        try:
            self.add(name, "ok", check())
        except ValueError as error:
            self.add(name, "failed", str(error))
            return False
        return True

    def end(self) -> int:
        """Print the verdict on the run, and return the exit code."""
        print("a run would be wasted: see the failed checks" if self.has_failed else "nothing speaks against a run")
        return int(self.has_failed)


def _run(flags: Flags) -> int:
    from trainer import parse_duration

    limit = parse_duration(flags.time_limit)
    return _check_here(flags, limit) if flags.gpu is None else _predict(flags, flags.gpu, limit)


def _check_here(flags: Flags, limit: float) -> int:
    from bpe import Tokenizer
    from trainer import TokenDataset, resolve_device
    from trainer.devices import device_name, free_cached_memory, peak_flops, resolve_dtype

    report, data = _Report(), flags.data
    if not report.attempt("device", lambda: _device(data, limit)):
        return report.end()
    device = resolve_device(data.device)
    recipe = compiled_if_it_pays(
        chosen_recipe(flags.recipe, data, flags.set, flops=budget_flops(data, limit)), device.type, limit
    )
    if not report.attempt("compilers", lambda: _compilers(data, recipe, limit)):
        return report.end()
    started = process_age()
    files = data.for_limit(limit).prepare(recipe.model.vocab_size)
    if (rates := stored_rates(flags.rates, files, device.type, recipe, flags.set)) is not None:
        recipe = with_settings(recipe, rates.settings)
        print(f"{_INDENT}{rates.reason}")
    began = time.perf_counter()
    tokenizer, text_tokens = Tokenizer.from_pretrained(files.tokenizer), len(TokenDataset(files.train))
    fixed = given_sizes(flags.set) if recipe.sized_by_budget else frozenset(SIZE_NAMES)
    choice = size_for_device(
        speedrun,
        recipe,
        tokenizer.vocab_size,
        device,
        seconds=TRAINING_SHARE * max(1.0, limit - started),
        train_tokens=text_tokens,
        processes=1,
        fixed=fixed,
    )
    recipe = choice.recipe if recipe.sized_by_budget else recipe
    for reason in choice.reasons:
        print(f"{_INDENT}{reason}")
    if limit >= LONG_SECONDS:
        report.add(*_text(choice.tokens, text_tokens, data, device.type))
    directory = (flags.out or Path("runs", "run")).parent
    directory.mkdir(parents=True, exist_ok=True)
    disk, written_per_second = check_disk(directory, arithmetic.checkpoint_bytes(recipe), _KEPT_CHECKPOINTS)
    report.add(*disk)
    report.add_all(check_kernels(recipe, device))
    entry = rehearse(recipe, tokenizer, data.device)
    free_cached_memory(device)
    start = started + time.perf_counter() - began
    if disk.verdict == "failed":
        return report.end()
    steps = trial_steps(recipe, choice.tokens_per_second)
    try:
        trial = run_trial(recipe, files, tokenizer, data.device, directory, steps)
    except TrialFailedError as error:
        report.add("trial", "failed", str(error))
        return report.end()
    report.add(*_compiler(recipe, device.type, trial.seconds_compiling))
    peak = peak_flops(device_name(device), resolve_dtype("auto", device))
    memory = trial.peak_memory_bytes
    measured = f"measured in {trial.steps} steps"
    measured += "" if memory is None else f", peak memory {memory / 2**30:.1f} GiB"
    report.add(*_speed(recipe, trial.tokens_per_second, peak, measured))
    costs = arithmetic.TimeCosts(
        evaluated_per_second=trial.evaluated_per_second,
        valid_tokens=len(TokenDataset(files.valid)),
        saved_per_second=written_per_second,
        start=start,
        compiling=trial.seconds_compiling,
        compiling_evaluation=0.0,
        entry=entry,
    )
    tokens = _time(report, recipe, limit, costs, trial.tokens_per_second)
    if device.type == "cuda" and data.dataset == "owt":
        _print_loss(flags, recipe, tokens)
    else:
        print(_measured_loss(device_name(device), data.name, recipe, tokens))
    return report.end()


def _device(data: DataFlags, limit: float) -> str:
    import torch

    from trainer import resolve_device
    from trainer.devices import device_name, driver_version

    check_device(data.device, limit)
    device = resolve_device(data.device)
    driver = f", driver {driver_version() or 'unknown'}" if device.type == "cuda" else ""
    return f"{device}, {device_name(device)}{driver}, torch {torch.__version__} (CUDA {torch.version.cuda})"


def _compilers(data: DataFlags, recipe: Recipe, limit: float) -> str:
    check_machine(data, recipe, limit)
    return "found, and they build a module"


def _text(tokens: float, text_tokens: int, data: DataFlags, device_type: str) -> Check:
    """Return the check of a text that may be repeated too often."""
    notes: list[str] = []
    is_given = data.dataset is not None
    try:
        check_repetition(tokens, text_tokens, is_text_given=is_given, device_type=device_type, notify=notes.append)
    except ValueError as error:
        return Check("text", "failed", str(error))
    if notes:
        return Check("text", "warning", notes[0])
    return Check("text", "ok", f"{text_tokens:,} tokens, seen {tokens / text_tokens:.2f} times")


def _compiler(recipe: Recipe, device_type: str, seconds: float) -> Check:
    """Return the check of compiled programs, which the trainer has made in the trial."""
    if recipe.compile == "off" or (recipe.compile == "auto" and device_type != "cuda"):
        return Check("compiler", "ok", "not used by this run")
    if recipe.model.dropout or recipe.batches.sampled_tokens:
        text = f"gradients not compared, because the loss draws random numbers; {seconds:.0f} s of compiling"
        return Check("compiler", "warning", text)
    text = f"gradients and the first update agree with the eager ones; {seconds:.0f} s"
    return Check("compiler", "ok", f"{text}; compared without masked inputs" if recipe.batches.masked_inputs else text)


def _speed(recipe: Recipe, tokens_per_second: float, peak: float | None, origin: str) -> Check:
    """Return the check of a speed, which is measured or predicted."""
    text = f"{tokens_per_second:,.0f} tokens/s {origin}"
    if peak is None:
        return Check("speed", "ok", f"{text}; MFU unknown, because the peak of the device is")
    square, causal = arithmetic.utilisation(recipe, tokens_per_second, peak)
    text += f", MFU {square:.1%} (attention over the whole square; {causal:.1%} over the causal half)"
    if square < LEAST_UTILISATION:
        return Check("speed", "failed", f"{text}, expected at least {LEAST_UTILISATION:.0%}")
    return Check("speed", "ok", text)


def _time(
    report: _Report, recipe: Recipe, limit: float, costs: arithmetic.TimeCosts, tokens_per_second: float
) -> float:
    """Print the time budget and the tokens, and return the latter."""
    lines = arithmetic.time_lines(recipe, limit, costs)
    for line in lines:
        print(_shown(line, "s"))
    seconds = arithmetic.training_seconds(limit, lines)
    end = limit - costs.unused_seconds(recipe)
    tokens = max(0.0, seconds) * tokens_per_second
    text = f"{seconds:,.0f} s of {limit:,.0f} s are left for steps: {tokens / 1e6:,.1f} M tokens"
    if seconds <= 0:
        report.add("time", "failed", f"{text}; the rest alone would end after the limit: give a longer one")
    else:
        report.add("time", "ok", f"{text} at {tokens_per_second:,.0f}/s; it ends after about {end:,.0f} s")
    return tokens


def _measured_loss(device: str, dataset: str, recipe: Recipe, tokens: float) -> str:
    length = recipe.model.context_length
    known = [run for run in measured_on(device, dataset, read_measurements(PACKAGED)) if run.context_length == length]
    if len(known) < MIN_RUNS:
        return (
            f"{_INDENT}loss: no prediction, because {len(known)} runs of this device and text with windows of "
            f"{length} tokens are measured"
        )
    found = predict_loss(known, tokens * arithmetic.training_flops(recipe).square)
    return f"{_INDENT}loss: {found.loss:.3f}, 95 % interval [{found.low:.3f}, {found.high:.3f}], from {len(known)} runs"


def _predict(flags: Flags, name: str, limit: float) -> int:
    """Predict a run on a GPU that is only named, on OpenWebText."""
    import torch

    from trainer.devices import peak_flops

    peak = peak_flops(name, torch.bfloat16)
    if peak is None:
        raise ValueError(f"--for {name}: no peak in bfloat16 is known, expected a name such as NVIDIA H100 or H200")
    rates = arithmetic.assumed_rates(name, peak)
    flops = peak * ASSUMED_UTILISATION * limit
    recipe = compiled_if_it_pays(changed(RECIPES[flags.recipe]("cuda", flops), flags.set), "cuda", limit)
    if recipe.compile == "off":
        raise ValueError(
            f"--for {name}: this run of {limit:,.0f} s is not compiled, and only compiled ones are predicted"
        )
    recipe = arithmetic.size_by_rates(recipe, rates, limit=limit, fixed=given_sizes(flags.set))
    model, batches = recipe.model, recipe.batches
    print(
        f"{name}: peak {peak / 1e12:,.1f} TFLOP/s. Assumed, not measured: {rates.products / 1e12:,.0f} TFLOP/s in "
        f"products, {rates.attention / 1e12:,.0f} in attention, {rates.bandwidth / 1e12:.2f} TB/s; evaluations are "
        "compiled"
    )
    how = "a step has 1 pass" if batches.mean_passes == 1 else f"a step has {batches.mean_passes:g} passes"
    print(f"{model.num_layers} layers x {model.d_model}; {how} of {batches.batch_size} x {model.context_length} tokens")
    report = _Report()
    passes = _lowered(report, recipe)
    if not passes:
        return report.end()
    pass_bytes = sum(one.kernel_bytes + one.operator_bytes for one in passes)
    step = arithmetic.predict_step(recipe, pass_bytes, rates)
    for line in step.lines:
        print(_shown(line, "ms"))
    print(f"{_INDENT}= {step.milliseconds:.0f} ms per step of {step.tokens:,} tokens")
    report.add(*_speed(recipe, step.tokens_per_second, peak, "predicted"))
    slow, fast = arithmetic.plausible_rates(rates)
    between = [arithmetic.predict_step(recipe, pass_bytes, each).tokens_per_second for each in (slow, fast)]
    print(
        f"{_INDENT}{between[0]:,.0f} to {between[1]:,.0f} tokens/s are plausible, with {slow.products / 1e12:,.0f} to "
        f"{fast.products / 1e12:,.0f} TFLOP/s in products and {slow.attention / 1e12:,.0f} to "
        f"{fast.attention / 1e12:,.0f} in attention"
    )
    forward = (passes[0].kernel_bytes + passes[0].operator_bytes) / passes[0].tokens
    costs = arithmetic.TimeCosts(
        evaluated_per_second=arithmetic.predict_evaluation(recipe, forward, rates),
        valid_tokens=arithmetic.OWT_VALID_TOKENS,
    )
    tokens = _time(report, recipe, limit, costs, step.tokens_per_second)
    _print_loss(flags, recipe, tokens)
    _print_library(recipe, step, tokens, peak)
    if (peak, limit) == (_GOAL_PEAK, _GOAL_SECONDS):
        square = arithmetic.utilisation(recipe, step.tokens_per_second, peak).square
        is_met = square >= _GOAL_UTILISATION and tokens >= _GOAL_TOKENS
        text = f"{square:.1%} MFU and {tokens / 1e9:.2f} G tokens, expected at least {_GOAL_UTILISATION:.0%} and "
        report.add("goal", "ok" if is_met else "warning", f"{text}{_GOAL_TOKENS / 1e9:g} G")
    return report.end()


def lowered_passes(recipe: Recipe) -> "list[LoweredPass]":
    """Return the training loss of a recipe in its final sizes, lowered for an H100.

    Raises:
        ModuleNotFoundError: If Triton is missing, for which the compiler writes.
        ValueError: If the loss is more than one graph.
    """
    if find_spec("triton") is None:
        raise ModuleNotFoundError("--for needs Triton, the language of compiled GPU programs: pip install triton")
    from torch._dynamo.exc import Unsupported

    from nnscratch.accounting.lowering import lower_model  # first, because it sets variables that torch reads

    try:
        return lower_model(lambda: make_model(recipe, recipe.model.vocab_size), recipe.batches.batch_size)
    except Unsupported as error:
        raise ValueError(f"the loss is not one graph: {str(error).strip().partition(chr(10))[0]}") from error


def _lowered(report: _Report, recipe: Recipe) -> "list[LoweredPass]":
    """Return the lowered passes after checking them; none if there are no such."""
    try:
        passes = lowered_passes(recipe)
    except ValueError as error:
        report.add("graph", "failed", str(error))
        return []
    report.add("graph", "ok", "the loss is one graph")
    most = max(one.logits for one in passes)
    text = f"{most} buffers of a chunk's logits at once, expected at most {_MOST_LOGITS}"
    report.add("logits", "ok" if most <= _MOST_LOGITS else "failed", text)
    for one in passes:
        size = one.kernel_bytes + one.operator_bytes
        print(
            f"{_INDENT}{one.name}: {size / 1e9:.1f} GB per pass, {size / one.tokens / 1e3:,.0f} kB per token, beside "
            f"products and attention; {one.launches} launches"
        )
    size = sum(one.kernel_bytes + one.operator_bytes for one in passes)
    print(f"{_INDENT}both: {size / 1e9:.1f} GB, {size / passes[0].tokens / 1e3:,.0f} kB per token")
    return passes


def _shown(line: arithmetic.Line, unit: str) -> str:
    return f"{_INDENT}{line.name}: {line.arithmetic} = {line.amount:.1f} {unit}"


def _print_loss(flags: Flags, recipe: Recipe, tokens: float) -> None:
    """Print the loss on OpenWebText by published entries, and the way to it."""
    flops = tokens * arithmetic.training_flops(recipe).causal
    model = recipe.model
    fits = flags.data.dataset in (None, "owt") and (model.vocab_size, model.context_length) == (32_000, 512)
    found = arithmetic.predict_from_entries(flops) if fits else None
    print(
        f"{_INDENT}compute: {tokens / 1e9:.2f} G tokens x {flops / max(1.0, tokens) / 1e9:.3f} GFLOP = {flops:.2e} FLOP"
    )
    if found is None:
        print(
            f"{_INDENT}loss: no prediction; the published entries are on OpenWebText with 32,000 tokens, windows of "
            "512 and 1.4e18 to 1.9e18 FLOP"
        )
        return
    for entry, loss in found:
        print(
            f"{_INDENT}{entry.name}: {entry.loss:.3f} at {entry.flops:.2e} FLOP, {-arithmetic.SLOPE:+.3f} per "
            f"doubling, {entry.change:+.3f} for {entry.reason} = {loss:.3f}"
        )
    mean = sum(one.loss for one in found) / len(found)
    print(f"{_INDENT}loss: {mean:.2f} +- {arithmetic.SPREAD:.2f}, their mean; slope, changes and spread are judgements")


def _print_library(recipe: Recipe, step: arithmetic.StepPrediction, tokens: float, peak: float) -> None:
    """Print the gain from attention by a library, which the recipe does not use."""
    line, other = step.library_attention, step.with_library_attention()
    square = arithmetic.utilisation(recipe, other.tokens_per_second, peak).square
    more = tokens * other.tokens_per_second / step.tokens_per_second
    print(
        f"{_INDENT}not used: attention by a library (cuDNN, FlashAttention 3), {line.arithmetic} = {line.amount:.1f} "
        f"ms; with it {other.milliseconds:.0f} ms per step, MFU {square:.1%}, {more / 1e9:.2f} G tokens"
    )


main = command(Flags, _run, "owt_leaderboard.preflight")
