"""Machines, texts and sizes that would waste a run without a word."""

from dataclasses import replace

import pytest
import torch
from small_runs import TINY, refused

from tinystories.commands.shared import check_text
from tinystories.recipes import PRESETS
from tinystories.run import main
from tinystories.texts import CORPUS


@pytest.mark.parametrize("command", ["train", "lr-sweep", "batch-sweep", "ablations"])
def test_a_long_limit_on_a_cpu_has_to_be_asked_for(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    error = refused([command, "--time-limit", "10m"], capsys)
    assert "the time limit is 600 s and this machine has no GPU that torch" in error
    assert "give --device cpu" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "lr-sweep", "batch-sweep", "ablations"])
def test_a_run_that_compiles_needs_a_compiler(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    error = refused([command, "--device", "cpu", "--compile", "on"], capsys)
    assert "torch.compile needs a C++ compiler, but there is no " in error
    assert "(--compile off)" in error
    assert not list(tmp_path.iterdir())


def test_feed_forward_layers_that_would_lose_a_third_of_their_parameters_are_refused(capsys, tmp_path):
    error = refused(["train", "--device", "cpu", "--ffn", "relu_squared"], capsys)
    assert "--ffn relu_squared with the preset's d_ff 344 has 2/3 of the parameters of swiglu" in error
    assert "give --d-ff too, such as 512 for about as many, or 344" in error
    assert not list(tmp_path.iterdir())


def test_epochs_of_a_text_that_is_repeated_often_are_printed(flags, tmp_path, quick, capsys):
    """A few hundred tokens are seen in the first run, and 64,000 in the second, of a text of 60 short stories."""
    command = ["train", "--out", str(tmp_path / "run"), *flags]
    assert main([*command, "--steps", "8"]) == 0
    assert "would be seen" not in capsys.readouterr().out
    few = ["train", "--out", str(tmp_path / "again"), *flags, "--steps", "40", "--batch-size", "100"]
    assert main(few) == 0
    printed = capsys.readouterr().out
    assert printed.count("would be seen about") == 1
    assert "the training text has " in printed


@pytest.fixture
def h100(monkeypatch):
    monkeypatch.setattr("trainer.resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr("trainer.devices.device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: torch.bfloat16)


def test_a_gpu_does_not_repeat_a_text_that_nobody_named_for_a_long_limit(h100, text, tmp_path, capsys):
    texts = CORPUS.resolve(str(text), None, None, tmp_path / "data", lambda line: None)
    files = CORPUS.prepare(texts, 300, tmp_path / "data", lambda line: None)
    hour = replace(PRESETS["gpu-course"], vocab_size=300, time_limit_seconds=3600.0)
    with pytest.raises(ValueError, match=r"would be seen about [\d,]+ times .*--dataset sample"):
        check_text(hour, files, "auto", is_given=False)
    check_text(hour, files, "auto", is_given=True)
    assert "would be seen about" in capsys.readouterr().out
    check_text(replace(hour, time_limit_seconds=599.0), files, "auto", is_given=False)
    assert capsys.readouterr().out == ""
    check_text(replace(TINY, steps=10_000), files, "auto", is_given=False)  # steps, which the user chose
    assert "would be seen about" in capsys.readouterr().out
