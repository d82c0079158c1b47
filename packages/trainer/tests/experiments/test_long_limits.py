"""Long runs that begin wrong: on a CPU that was not asked for, or with a text that is too short."""

import pytest
import torch

from trainer.experiments.long_limits import LONG_SECONDS, MOST_EPOCHS, check_device, check_repetition


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr("trainer.devices.resolve_device", lambda name: torch.device("cpu"))


def test_a_long_run_on_a_cpu_has_to_be_asked_for(cpu):
    assert LONG_SECONDS == 600
    with pytest.raises(
        ValueError, match=r"limit is 600 s .* no GPU that torch .* can use .*: give --device cpu .* on purpose"
    ):
        check_device("auto", 600.0)
    check_device("auto", 599.0)
    check_device("cpu", 5400.0)


def test_a_long_run_on_a_gpu_need_not_be_asked_for(monkeypatch):
    monkeypatch.setattr("trainer.devices.resolve_device", lambda name: torch.device("cuda"))
    check_device("auto", 5400.0)


def notes_of(epochs, is_text_given, device_type):
    notes = []
    check_repetition(epochs * 1000, 1000, is_text_given=is_text_given, device_type=device_type, notify=notes.append)
    return notes


@pytest.mark.parametrize("device_type", ["cuda", "mps"])
def test_a_text_that_nobody_chose_is_not_repeated_on_a_gpu(device_type):
    assert notes_of(MOST_EPOCHS, False, device_type) == []
    with pytest.raises(
        ValueError, match=r"has 1,000 tokens and would be seen about 825 times .*most 20 .*--dataset sample"
    ):
        notes_of(825.17, False, device_type)


@pytest.mark.parametrize(("is_text_given", "device_type"), [(True, "cuda"), (True, "cpu"), (False, "cpu")])
def test_a_chosen_text_and_one_on_a_cpu_are_repeated_with_a_line(is_text_given, device_type):
    assert notes_of(MOST_EPOCHS, is_text_given, device_type) == []
    (line,) = notes_of(825.17, is_text_given, device_type)
    assert line == "the training text has 1,000 tokens and would be seen about 825 times in this run"
