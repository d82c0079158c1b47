"""Event files, read back with TensorBoard's own reader."""

import json
import signal
from importlib.util import find_spec

import pytest
from bigram_run import make_trainer

from trainer import TensorBoardLogger, TrainingInterrupted, read_config, read_metrics

pytestmark = pytest.mark.usefixtures("no_pictures")
installed = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")


def read_events(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return events


def scalars(events):
    """{name: [(step, value), ...]}"""
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_scalars(run_dir):
    found = {}
    for record in read_metrics(run_dir):
        for name, value in record.items():
            if name not in ("event", "step") and value is not None:
                found.setdefault(f"{record['event']}/{name}", []).append((record["step"], value))
    return {tag: [(step, pytest.approx(value, rel=1e-6)) for step, value in points] for tag, points in found.items()}


def text(events, tag):
    """The shown texts, one per step, without the indentation of a block of code."""
    shown = [event.tensor_proto.string_val[0].decode("utf-8") for event in events.Tensors(f"{tag}/text_summary")]
    return ["\n".join(line.removeprefix("    ") for line in value.split("\n")) for value in shown]


@installed
def test_a_run_is_in_the_event_files(tmp_path):
    run_dir = tmp_path / "run"
    options = {"sample": lambda model, step: f"é\n # {step}", "steps": 24, "eval_interval": 8}
    trainer = make_trainer(run_dir, loggers=[TensorBoardLogger()], **options)
    summary = trainer.fit()
    events = read_events(run_dir / "tensorboard")
    assert scalars(events) == expected_scalars(run_dir)
    assert text(events, "samples/0") == [f"é\n # {step}" for step in (0, 8, 16, 24)]
    assert json.loads(text(events, "config")[0]) == read_config(run_dir)
    assert json.loads(text(events, "summary")[0]) == summary.to_json()


@installed
def test_a_resumed_run_has_each_step_once_also_in_another_directory(tmp_path):
    def die(model, step):
        if step == 40:
            raise OSError("no space left")
        return []

    run_dir, directory = tmp_path / "run", tmp_path / "events"
    with pytest.raises(
        OSError, match="no space left"
    ):  # at step 40, so what came after the checkpoint of 36 is done again
        make_trainer(run_dir, loggers=[TensorBoardLogger(directory)], sample=die).fit()
    make_trainer(run_dir, loggers=[TensorBoardLogger(directory)]).fit()
    assert not (run_dir / "tensorboard").exists()
    assert len(list(directory.iterdir())) == 2
    assert scalars(read_events(directory)) == expected_scalars(run_dir)


@installed
def test_an_interrupted_run_is_written_as_far_as_it_is(tmp_path):
    def interrupt(model, step):
        if step == 20:
            signal.raise_signal(signal.SIGINT)
        return []

    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "run", loggers=[TensorBoardLogger()], sample=interrupt).fit()
    assert scalars(read_events(tmp_path / "run" / "tensorboard")) == expected_scalars(tmp_path / "run")


@installed
def test_a_directory_that_cannot_be_written_is_warned_about_once(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.warns(RuntimeWarning) as caught:
        summary = make_trainer(
            tmp_path / "run", loggers=[TensorBoardLogger(tmp_path / "file" / "events")], steps=6
        ).fit()
    assert summary.status == "completed"
    assert len(caught) == 1
    assert str(caught[0].message).startswith("TensorBoardLogger failed (NotADirectoryError: ")


def test_missing_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "scratchlm-trainer\[tensorboard\]"'):
        TensorBoardLogger()
