"""Training for a time limit without a preset: recipe and sizes, resuming, and flags that are refused."""

import json
import signal
from dataclasses import replace
from functools import partial

import pytest
from small_runs import SMALL, refused, summary_of

from nnscratch import SpeedrunLM
from nnscratch.speedrun import RECIPES, choose, from_record, to_record, with_settings
from tinystories.flags import DataFlags, Machine, RecipeFlags
from tinystories.run import main
from tinystories.texts import CORPUS
from tinystories.timed_training import is_recipe_of
from trainer import read_config
from trainer.experiments.runs import OtherAppError, recorded_of

SLOW, FAST = 1e9, 1e12
"""Operations per second, as measured on pretended machines."""


@pytest.fixture
def measured(monkeypatch):
    """Function that sets the speed that trials measure."""

    def measure(speed):
        monkeypatch.setattr("trainer.experiments.speed_trial.measure_flops_per_second", lambda *_: speed)

    measure(SLOW)
    return measure


@pytest.fixture
def timed(text, tmp_path):
    """Arguments of a run of two seconds on a small text."""
    texts = ["--dataset", str(text), "--data-dir", str(tmp_path / "data"), "--device", "cpu"]
    sizes = ["--vocab-size", "300", "--context-length", "16"]
    return ["train", "--out", str(tmp_path / "run"), *texts, *sizes, "--time-limit", "2s"]


def recipe_of(run):
    return from_record(read_config(run)["recorded"]["recipe"])


class AskedError(Exception):
    """Ends a command when it would train, with the package of the recipe and the recipe."""


def ask(models, recipe, *_, **__):
    raise AskedError(models.__name__, recipe)


def test_both_apps_train_the_same_recipe_in_the_same_sizes(measured, clock, monkeypatch, text, tmp_path):
    pytest.importorskip("owt_leaderboard")
    from owt_leaderboard.commands.train import main as other

    measured(1.6e11)
    monkeypatch.setattr("tinystories.timed_training.train_recipe", ask)
    monkeypatch.setattr("owt_leaderboard.run.training.train_recipe", ask)
    monkeypatch.setattr("owt_leaderboard.commands.train.process_age", lambda: 0.5)  # not that of the tests
    monkeypatch.setattr("owt_leaderboard.run.timed_run.rehearse", lambda *_: 0.5)
    flags = ["--dataset", str(text), "--data-dir", str(tmp_path / "data"), "--device", "cpu", "--time-limit", "2m"]
    asked = []
    for command in (lambda: main(["train", "--out", "a", *flags]), lambda: other(["--out", "b", *flags])):
        with pytest.raises(AskedError) as error:
            command()
        asked.append(error.value.args)
    assert asked[0] == asked[1]
    assert asked[0][0] == "nnscratch.speedrun"
    assert asked[0][1].model.d_model == 128


def test_sizes_follow_from_the_speed_and_the_limit(measured, clock, quick, timed, tmp_path, monkeypatch):
    assert main(timed) == 0
    found, cpu = recipe_of(tmp_path / "run"), RECIPES["speedrun"]("cpu")
    asked = with_settings(cpu, {"model.vocab_size": 300, "model.context_length": 16})
    choice = choose(asked, 300, flops_per_second=SLOW, seconds=2.0, train_tokens=None)
    assert found.model.ngram_dropout > 0  # the text is seen again and again
    assert replace(found.model, ngram_dropout=0.0) == choice.recipe.model
    assert (found.optimizer, found.schedule) == (cpu.optimizer, cpu.schedule)
    assert found.batches.masked_inputs == 0.1
    measured(FAST)
    monkeypatch.setattr("tinystories.timed_training.train_recipe", ask)
    for limit in ("2m", "1h"):
        with pytest.raises(AskedError) as error:
            main([*timed, "--out", str(tmp_path / "larger"), "--time-limit", limit])
        _, larger = error.value.args
        assert larger.model.d_model > found.model.d_model
        found = larger


def test_a_gpu_trains_the_recipe_of_its_budget_and_goes_on_with_it(monkeypatch, tmp_path):
    monkeypatch.setattr(Machine, "device_type", "mps")
    monkeypatch.setattr(Machine, "check_compilers", lambda *_: None)
    monkeypatch.setattr(Machine, "expected_flops", lambda self, seconds: seconds * 1e14)
    begun = {}
    monkeypatch.setattr("tinystories.timed_training.has_begun", lambda run: run in begun)
    monkeypatch.setattr("tinystories.timed_training.recorded_of", lambda run, app: begun[run])

    def recipe(limit, run=tmp_path, **flags):
        return RecipeFlags(time_limit=limit, **flags).sized_recipe(Machine(), partial(is_recipe_of, run))[0]

    small, large = recipe("10s"), recipe("100s")
    assert [one.model.vocab_size for one in (small, large)] == [4096, 32_000]
    begun[tmp_path] = {"asked": {"recipe": to_record(small), "fixed": []}}
    assert recipe("100s") == small  # the same run with a longer limit
    assert recipe("100s", seed=1) == replace(large, seed=1)  # another run, which will be refused
    assert recipe("100s", tmp_path / "other") == large


def test_given_sizes_and_settings_stay(measured, clock, quick, timed, tmp_path):
    given = (
        "--d-model 24 --num-heads 3 --num-layers 3 --batch-size 5 --ffn swiglu --qk-norm True --dropout 0.1 --seed 7"
    )
    more = "--optimizer muon --norm pre --position rope --muon-learning-rate 0.01 --weight-decay 0.2 --evaluations 2"
    assert main([*timed, *given.split(), *more.split(), "--compile", "off"]) == 0
    found = recipe_of(tmp_path / "run")
    model, optimizer = found.model, found.optimizer
    assert (model.d_model, model.num_heads, model.num_layers, model.dropout) == (24, 3, 3, 0.1)
    assert (model.ffn, model.d_ff, model.qk_norm) == ("swiglu", 64, True)
    assert (found.batches.batch_size, found.seed, found.evaluations.count, found.compile) == (5, 7, 2, "off")
    assert (optimizer.muon_learning_rate, optimizer.weight_decay) == (0.01, 0.2)


def test_a_run_on_the_composed_sample_serves_all_commands(measured, clock, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(DataFlags, "corpus", replace(CORPUS, sample_train_bytes=100_000, sample_valid_bytes=10_000))
    out = tmp_path / "runs" / "a"
    command = ["train", "--out", str(out), "--device", "cpu", "--vocab-size", "300", "--context-length", "32"]
    command += ["--time-limit", "2s"]
    assert main(command) == 0
    summary = summary_of(out)
    assert summary["status"] == "completed"
    assert summary["final_valid_loss"] < 5.5  # 5.7 is that of equal probabilities
    assert recipe_of(out).batches.sampling == "shuffled"
    capsys.readouterr()
    assert main(["generate", str(out), "--prompt", "Mia", "--max-new-tokens", "5", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("Mia")
    (tmp_path / "other.txt").write_text("Once upon a time there was a dog.")
    assert main(["evaluate", str(out), str(tmp_path / "other.txt"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("loss ")
    assert main(["report", str(tmp_path / "runs")]) == 0
    report = (tmp_path / "runs" / "report.md").read_text("utf-8")
    assert "2 seconds of 128 windows, Muon and AdamW" in report
    assert main(["export", str(out), "native", "--format", "native"]) == 0
    assert SpeedrunLM.from_pretrained("native").config.vocab_size == 300
    assert "ffn='relu_squared' is not a Llama" in refused(["export", str(out), "llama"], capsys)
    with pytest.raises(OtherAppError, match=r"is a run of tinystories, not of owt_leaderboard"):
        recorded_of(out, "owt_leaderboard")


def test_a_run_goes_on_with_the_sizes_that_it_began_with(measured, clock, quick, timed, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(timed) == 0
    before, steps = recipe_of(run), summary_of(run)["steps"]
    measured(FAST)
    capsys.readouterr()
    assert main(timed) == 0
    assert "was finished before" in capsys.readouterr().out
    assert main([*timed, "--time-limit", "4s"]) == 0
    assert recipe_of(run) == before
    assert summary_of(run)["steps"] > steps
    session = json.loads((run / "environment.json").read_text())["resumed"][-1]
    assert session["changed"]["recorded.time_limit_seconds"] == [2.0, 4.0]


def test_an_interrupted_run_resumes_with_its_sizes(measured, clock, quick, timed, tmp_path, monkeypatch):
    def story(*_, **__):
        if not stopped:
            stopped.append(signal.raise_signal(signal.SIGTERM))
        return "Once upon a time"

    run, stopped = tmp_path / "run", []
    monkeypatch.setattr("tinystories.timed_training.write_story", story)
    assert main(timed) not in (0, 1, 2)
    assert not (run / "summary.json").exists()
    before = recipe_of(run)
    measured(FAST)
    assert main(timed) == 0
    assert recipe_of(run) == before
    assert summary_of(run)["status"] == "completed"


def test_other_settings_and_presets_do_not_resume_it(measured, clock, quick, timed, trained, tmp_path, capsys):
    assert main(timed) == 0
    assert "recorded.asked.recipe.model.d_model was 128, now 64" in refused([*timed, "--d-model", "64"], capsys)
    error = refused([*timed, "--preset", "cpu-quick"], capsys)
    assert "holds a run with another configuration" in error
    error = refused([*timed, "--out", str(trained)], capsys)
    assert "holds a run of a preset: give its --preset, such as cpu-quick, to resume it" in error


@pytest.mark.parametrize(
    "flag",
    [
        "--steps 8",
        "--learning-rate 0.01",
        "--norm post",
        "--position none",
        "--optimizer adamw",
        "--variant silu",
        "--init-from elsewhere",
        "--compile on",
    ],
)
def test_flags_that_the_recipe_cannot_express_name_the_way_to_a_preset(timed, flag, capsys, tmp_path):
    error = refused([*timed, *flag.split()], capsys)
    reason = (
        "the shapes of the loss " if flag == "--compile on" else "the recipe that a time limit chooses does not allow"
    )
    assert f"{flag}: {reason}" in error
    assert "or give --preset cpu-quick" in error
    assert not (tmp_path / "data").exists()


def test_several_processes_refuse_the_tables_of_a_cpu(measured, timed, monkeypatch, capsys):
    from trainer.distributed import rank

    monkeypatch.setattr("trainer.distributed.read_ranks", lambda: rank.Ranks(rank=0, local_rank=0, world_size=2))
    monkeypatch.setattr("trainer.experiments.texts.prepared_by_one", lambda device, prepare: prepare())
    assert "train with one process, or give --preset cpu-quick" in refused(timed, capsys)


def test_a_preset_trains_its_own_recipe_for_the_limit(clock, quick, timed, tmp_path):
    sizes = [word for word in SMALL.split() if word not in ("--steps", "8")]
    assert main([*timed, "--preset", "cpu-quick", *sizes]) == 0
    recorded = read_config(tmp_path / "run")["recorded"]
    assert (recorded["recipe"]["optimizer"], recorded["recipe"]["d_model"]) == ("adamw", 16)
