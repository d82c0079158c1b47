"""Texts that a long run would see more than twenty times, on a pretended GPU of known peak."""

import pytest
import torch
from small_runs import TINY

from bpe import Tokenizer
from nnscratch.speedrun import RECIPES, changed
from owt_leaderboard.budget import Sessions
from owt_leaderboard.run import TimedRun, timed_run
from owt_leaderboard.texts import prepare, resolve
from trainer import TokenDataset


@pytest.fixture
def files(text, tmp_path):
    texts = resolve(str(text), None, None, tmp_path / "data", lambda line: None)
    return prepare(texts, 300, tmp_path / "data", lambda line: None)


@pytest.fixture
def decide(files, tmp_path, monkeypatch):
    """Function that makes the decisions of a run, and returns them and the lines that it printed."""
    device = [torch.device("cuda")]
    monkeypatch.setattr("trainer.resolve_device", lambda name: device[0])
    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: torch.bfloat16)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (80 * 2**30, 80 * 2**30))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr(timed_run, "rehearse", lambda *_: 0.5)

    def run(limit, *, is_text_given, name="speedrun", where="cuda", settings=("vocab_size=300",)):
        device[0] = torch.device(where)
        recipe, lines = changed(RECIPES[name]("cuda"), settings), []
        timed = TimedRun(
            recipe=recipe,
            fixed=frozenset(),
            run_dir=tmp_path / "run",
            time_limit_seconds=limit,
            spent=lambda: 0.0,
            device="auto",
            is_text_given=is_text_given,
            wandb="disabled",
            notify=lines.append,
        )
        sessions = Sessions(tmp_path / "run", lambda: 0.0)
        try:
            tokenizer = Tokenizer.from_pretrained(files.tokenizer)
            return timed._decide(sessions, files, tokenizer, 1)[0], lines
        finally:
            sessions.end()

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_a_text_that_nobody_named_ends_the_run_before_it_trains(decide, files, tmp_path, name):
    """Sized by the budget, and in given sizes."""
    tokens = len(TokenDataset(files.train))
    with pytest.raises(
        ValueError, match=rf"text has {tokens:,} tokens and would be seen about [\d,]+ times .*--dataset"
    ):
        decide(600.0, is_text_given=False, name=name)
    assert not (tmp_path / "run" / "beginning.json").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_a_text_that_was_named_is_repeated_with_one_line(decide, name):
    decisions, lines = decide(600.0, is_text_given=True, name=name)
    assert len([line for line in lines if "would be seen about" in line]) == 1
    assert decisions.predicted_tokens_per_second > 0
    assert bool(decisions.reasons) == decisions.recipe.sized_by_budget


def test_a_short_limit_repeats_any_text_as_before(decide):
    decisions, lines = decide(599.0, is_text_given=False)
    assert decisions.reasons == tuple(lines)


def test_sizes_that_are_given_stay(decide):
    decisions, _ = decide(600.0, is_text_given=True, name="baseline", settings=TINY)
    assert decisions.recipe.model == changed(RECIPES["baseline"]("cuda"), TINY).model


def test_a_cpu_repeats_the_sample_with_a_line(decide, monkeypatch):
    monkeypatch.setattr("trainer.experiments.speed_trial.measure_flops_per_second", lambda *_: 1e11)
    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "a CPU")
    _, lines = decide(6000.0, is_text_given=False, where="cpu", settings=("vocab_size=300", "compile=off"))
    assert "would be seen about" in lines[-1]


def test_a_run_that_goes_on_with_a_long_limit_is_checked_too(decide, tmp_path):
    decide(300.0, is_text_given=False)
    (tmp_path / "run" / "checkpoints" / "step_0000001").mkdir(parents=True)
    with pytest.raises(ValueError, match="would be seen about"):
        decide(5400.0, is_text_given=False)
    _, lines = decide(5400.0, is_text_given=True)
    assert "would be seen about" in lines[-1]
