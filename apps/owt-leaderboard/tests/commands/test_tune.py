"""The command that searches for learning rates, and the runs that use them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from simulated_clock import simulated_clock
from small_runs import TINY

from bpe import Tokenizer
from nnscratch.speedrun import changed, speedrun, to_record
from owt_leaderboard.commands import preflight, train, tune
from owt_leaderboard.run import RateSearch, RateTrials, find_rates, rate_trials, rates_file, write_rates
from owt_leaderboard.texts import prepare, resolve

SETTINGS = ("ngram_rows=64", "sampled_tokens=200", *TINY)


@pytest.fixture
def data(text, tmp_path):
    return ["--dataset", str(text), "--data-dir", str(tmp_path / "data"), "--device", "cpu"]


@pytest.fixture
def few_steps(monkeypatch):
    """Trials of four steps, and time for seven of them."""
    left = iter([True] * 5)
    monkeypatch.setattr(RateTrials, "plan", lambda trials, seconds: 7)
    monkeypatch.setattr(RateTrials, "has_time", lambda trials, number: next(left, False))
    monkeypatch.setattr(rate_trials, "LEAST_STEPS", 4)


def stored(tmp_path):
    (path,) = (tmp_path / "data").glob("*/tuned-rates-cpu.json")
    assert (path.parent / "train.npy").exists()
    return path, json.loads(path.read_text("utf-8"))


def recipe_of(run_dir):
    return json.loads((run_dir / "config.json").read_text("utf-8"))["recorded"]["recipe"]


def test_a_search_stores_its_trials_beside_the_token_files(data, few_steps, tmp_path, capsys):
    assert tune.main([*data, "--seed", "3", "--set", *SETTINGS, "scalar_learning_rate=0.02"]) == 0
    path, content = stored(tmp_path)
    printed = capsys.readouterr().out
    assert "1 layers x 16; time for about 7 trials of 4 steps of 32 tokens; the final ones take as long as " in printed
    assert printed.splitlines()[-2] == content["summary"]
    assert printed.splitlines()[-1].startswith("Later runs use ")
    assert printed.splitlines()[-1].endswith(f"; stored in {path}")
    trials = content["trials"]
    assert all(trial["seed"] == 0 and trial["length"] == 1 for trial in trials[:6])
    assert all(f"[{number}] " in printed for number in range(1, len(trials) + 1))
    tuned = [f"optimizer.{name}_learning_rate" for name in ("muon", "embedding", "head", "table")]
    assert [list(trial["rates"]) for trial in trials] == [tuned] * len(trials)  # the given rate is none of them
    assert [trial["loss"] for trial in trials[6:]] == [*content["base_losses"], *content["best_losses"]]
    assert content["reference_batch_tokens"] == 2 * 16
    assert content["recipe"]["seed"] == 3
    assert content["environment"]["device_name"]
    assert content["environment"]["torch"] == torch.__version__


def test_better_rates_are_stored_with_those_that_were_given(data, files, few_steps, tmp_path, monkeypatch, capsys):
    """For other settings of the reference, they are those that the trials had."""
    best = {"optimizer.muon_learning_rate": 0.04, "optimizer.head_learning_rate": 0.016}
    found = RateSearch((), best, (4.0, 4.01), (3.9, 3.91))
    monkeypatch.setattr(tune, "search_rates", lambda loss, base, has_time: found)
    assert tune.main([*data, "--set", *SETTINGS, "scalar_learning_rate=0.02", "reference_batch_tokens=8"]) == 0
    path, content = stored(tmp_path)
    others = {"optimizer.embedding_learning_rate": 0.3, "optimizer.scalar_learning_rate": 0.02}
    expected = {**best, **others, "optimizer.table_learning_rate": 0.3}
    assert content["rates"] == pytest.approx({name: 2 * rate for name, rate in expected.items()})
    summary = "losses 3.9000 and 3.9100 after 12 steps with two seeds, instead of 4.0000 and 4.0100"
    assert capsys.readouterr().out.splitlines()[-2] == summary
    tuned_for = changed(speedrun("cpu"), SETTINGS)
    settings, reason = find_rates(files, "cpu", tuned_for, ())
    assert settings == {**content["rates"], "optimizer.reference_batch_tokens": 32}
    assert f"from {path} ({summary})" in reason
    assert find_rates(files, "cuda", speedrun("cuda"), ()) is None
    reference = "optimizer.reference_batch_tokens"
    given, reason = find_rates(files, "cpu", changed(tuned_for, ["reference_batch_tokens=128"]), (reference,))
    assert given == pytest.approx({name: 2 * rate for name, rate in content["rates"].items()})
    assert reason.endswith("converted from steps of 32 tokens to 128")
    _, reason = find_rates(files, "cpu", changed(tuned_for, ["embedding_norm=False"]), ())
    assert "found with other settings (model.embedding_norm was True, now False)" in reason
    worse = RateSearch((), best, (4.0, 4.01), (4.2, 4.2))
    monkeypatch.setattr(tune, "search_rates", lambda loss, base, has_time: worse)
    assert tune.main([*data, "--set", *SETTINGS]) == 0
    assert f"Nothing is stored, and the earlier search in {path} stays as it is" in capsys.readouterr().out
    assert stored(tmp_path)[1] == content


@pytest.fixture
def files(text, tmp_path):
    texts = resolve(str(text), None, None, tmp_path / "data", lambda line: None)
    return prepare(texts, 300, tmp_path / "data", lambda line: None)


@pytest.fixture
def trials(files):
    recipe = changed(speedrun("cpu"), ["sized_by_budget=False", "compile=off", "masked_inputs=0.1", *SETTINGS])
    made = RateTrials(recipe, files, Tokenizer.from_pretrained(files.tokenizer), torch.device("cpu"))
    made.steps = 5
    return made


def test_trials_are_paired(trials):
    """The same rates and seed give the same loss whatever was tried before; another seed or rate does not."""
    rates = {"optimizer.muon_learning_rate": 0.02, "optimizer.table_learning_rate": 0.3}
    first = trials.loss(rates, 0)
    others = {trials.loss({name: 2 * rate}, 0) for name, rate in rates.items()} | {trials.loss(rates, 1)}
    assert trials.loss(rates, 0) == first
    assert len({first, *others}) == 4


def test_a_trial_is_a_run_of_as_many_steps(trials, text, tmp_path, capsys):
    """The trainer's own run with these settings reaches the same loss."""
    from owt_leaderboard.commands.fixed_steps import main

    arguments = ["--steps", "5", "--device", "cpu", "--dataset", str(text), "--data-dir", str(tmp_path / "data")]
    arguments += ["--out", str(tmp_path / "run"), "--set", *SETTINGS, "masked_inputs=0.1", "head_learning_rate=0.03"]
    assert main([*arguments, "compile=off", "evaluated_windows=1000000"]) == 0
    whole = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["final_valid_loss"]
    trials._valid = trials._valid.__class__(trials._valid.parts, "the whole validation split")
    assert trials.loss({"optimizer.head_learning_rate": 0.03}, 0) == pytest.approx(whole, rel=1e-5)


def test_a_trial_that_diverges_has_an_infinite_loss(trials):
    rates = {f"optimizer.{name}_learning_rate": 1e38 for name in ("muon", "embedding", "head", "scalar")}
    assert trials.loss(rates, 0) == float("inf")
    trials.steps = 25  # after 20 steps without a finite loss it ends
    assert trials.loss(rates, 0) == float("inf")


def test_one_compiled_loss_serves_all_trials(trials, files, tmp_path, monkeypatch):
    calls, made = [], []

    def compile_loss(loss, **options):
        made.append(options)
        return lambda *arguments: calls.append(1) or loss(*arguments)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr("torch.compile", compile_loss)
    recipe = replace(changed(trials.recipe, ["sampled_tokens=None"]), compile="on")
    compiled = RateTrials(recipe, files, Tokenizer.from_pretrained(files.tokenizer), torch.device("cpu"))
    compiled.steps = 3
    assert compiled.loss({}, 0) == compiled.loss({}, 0)
    assert (len(made), len(calls)) == (1, 2 * 3)


def test_the_time_is_measured_and_kept(trials):
    assert trials.plan(1e4) in (29, 30)
    assert trials.steps > rate_trials.LEAST_STEPS
    assert trials.has_time(1)
    assert not trials.has_time(40)


@pytest.mark.parametrize(("seconds", "expected"), [(900.0, (290, 30.0)), (120.0, (50, 6.0))])
def test_steps_follow_from_the_time(seconds, expected):
    """Thirty trials, or fewer of the least length."""
    assert rate_trials.steps_of_a_trial(seconds, 1.0, 0.1, given=seconds) == pytest.approx(expected)


def test_too_little_time_is_refused_with_the_time_that_is_needed():
    expected = r"2 minutes are too short: a trial of 50 steps takes 51 s .*; expected 14 minutes or more"
    with pytest.raises(ValueError, match=expected):
        rate_trials.steps_of_a_trial(100.0, 1.0, 1.0, given=120.0)


@pytest.fixture
def arguments(data, tmp_path):
    """A run with the same settings as the search."""
    return ["--time-limit", "30s", "--out", str(tmp_path / "run"), *data, "--set", *SETTINGS, "sized_by_budget=False"]


@pytest.fixture
def rates(files):
    """Function that stores rates, and returns the path of their file."""

    def store(**changes):
        rates = {"optimizer.muon_learning_rate": 0.05, "optimizer.head_learning_rate": 0.004}
        recipe = to_record(changed(speedrun("cpu"), SETTINGS))
        content = {"rates": rates, "reference_batch_tokens": 8, "recipe": recipe, "summary": "lower losses"}
        path = rates_file(files, "cpu")
        write_rates(path, {**content, **changes})
        return path

    return store


def run(arguments):
    with simulated_clock(draws=False):
        return train.main(arguments)


def test_the_next_run_uses_and_records_them(rates, arguments, tmp_path, capsys):
    path = rates()
    assert run([*arguments, "muon_learning_rate=0.03"]) == 0  # a given rate stays
    printed = capsys.readouterr().out
    assert printed.count(f"rates: head 0.004, from {path} (") == 1
    assert "all rates, also those of --set, are multiplied by the root of tokens per step / 8" in printed
    optimizer = recipe_of(tmp_path / "run")["optimizer"]
    assert (optimizer["head_learning_rate"], optimizer["muon_learning_rate"]) == (0.004, 0.03)
    assert (optimizer["embedding_learning_rate"], optimizer["reference_batch_tokens"]) == (0.3, 8)
    assert "rates: head 0.004, from " in (tmp_path / "run" / "entry.md").read_text("utf-8")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    peak = max(record["lr"] for record in steps if record["event"] == "train")
    assert 0.01 < peak <= 0.01 * (32 / 8) ** 0.5  # steps of 32 tokens


def test_a_short_run_finds_them_although_it_reads_less_of_the_validation_text(rates, arguments, monkeypatch, capsys):
    path = rates()
    monkeypatch.setattr("owt_leaderboard.commands.shared.VALID_BYTES_PER_SECOND", 5)
    assert run(arguments) == 0
    printed = capsys.readouterr().out
    assert "validation text: only the first " in printed
    assert f"from {path} (" in printed


def test_preflight_uses_them_too(rates, arguments, monkeypatch, capsys):
    path, seen = rates(), []
    monkeypatch.setattr(preflight, "check_kernels", lambda recipe, device: seen.append(recipe) or [])
    monkeypatch.setattr(preflight, "rehearse", lambda *_: 1 / 0)
    words = [word for word in arguments if word not in ("--out", str(Path("run").resolve()))]
    with pytest.raises(ZeroDivisionError):
        preflight.main([*words, "compile=off"])
    assert f"rates: muon 0.05, head 0.004, from {path} (" in capsys.readouterr().out
    assert seen[0].optimizer.muon_learning_rate == 0.05


def test_a_resumed_run_keeps_its_rates(rates, arguments, tmp_path, capsys):
    """Also if others were found in between."""
    rates()
    assert run(arguments) == 0
    before = recipe_of(tmp_path / "run")
    path = rates(rates={"optimizer.muon_learning_rate": 0.011})
    longer = ["--time-limit", "40s", *arguments[2:]]
    assert run(longer) == 0
    assert "going on: the time limit was 30 s" in capsys.readouterr().out
    assert recipe_of(tmp_path / "run") == before
    path.unlink()
    assert run(longer) == 0


@pytest.mark.parametrize(
    ("words", "changes", "line"),
    [
        (["--rates", "recipe"], {}, None),
        ([], {"rates": {}}, "rates: the recipe's, which "),
        (
            [],
            {"recipe": to_record(speedrun("cpu"))},
            "were found with other settings (batches.sampled_tokens was 2048, now 200; ",
        ),
    ],
)
def test_the_recipe_is_left_alone(rates, arguments, words, changes, line, tmp_path, capsys):
    rates(**changes)
    capsys.readouterr()
    assert run([*words, *arguments]) == 0
    optimizer = recipe_of(tmp_path / "run")["optimizer"]
    assert (optimizer["muon_learning_rate"], optimizer["reference_batch_tokens"]) == (0.02, None)
    printed = capsys.readouterr().out
    assert line in printed if line else "rates: " not in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "is damaged: expected a JSON object; run python -m owt_leaderboard.tune again, remove the file, or "),
        ({"version": 2}, "has the version 2, and this app reads 1; run"),
        ({"rates": {"optimizer.muon_learning_rate": -1}}, "is damaged: expected positive numbers"),
        ({"rates": {"model.d_model": 64}}, "is damaged: expected positive numbers"),
        ({"reference_batch_tokens": 0}, "is damaged: expected"),
        ({"summary": None}, "is damaged: expected"),
    ],
)
def test_a_file_that_is_damaged_or_of_another_version_is_named(rates, arguments, changes, message, tmp_path, capsys):
    path = rates(**changes or {})
    if changes is None:
        path.write_text('{"version": 1', "utf-8")
    assert run(arguments) == 2
    assert f"error: {path} {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert run(["--rates", "recipe", *arguments]) == 0


def test_an_interrupted_search_stores_nothing(data, few_steps, tmp_path, monkeypatch, capsys):
    def loss(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(RateTrials, "loss", loss)
    assert tune.main([*data, "--set", *SETTINGS]) == 130
    assert "interrupted: nothing is stored\n" in capsys.readouterr().out
    assert not list((tmp_path / "data").glob("*/tuned-rates*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes 0: expected a number above 0"),
        (["--minutes", "0.001", "--set", *SETTINGS], "0.001 minutes are too short"),
        (
            ["--set", *(f"{name}learning_rate=0.1" for name in ("muon_", "embedding_", "head_", "scalar_", "table_"))],
            "--set gives all learning rates",
        ),
    ],
)
def test_wrong_input(data, arguments, message, capsys):
    assert tune.main([*data, *arguments]) == 2
    assert message in capsys.readouterr().err
