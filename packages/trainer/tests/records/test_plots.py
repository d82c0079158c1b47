"""Learning curves, and runs that cannot draw them."""

import sys

import pytest
from bigram_run import make_trainer

from trainer.records.plots import draw_losses


def test_matplotlib_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(
        RuntimeWarning, match=r"matplotlib is not installed, so loss.png is not drawn; pip install"
    ) as caught:
        summary = make_trainer(tmp_path / "run", steps=6).fit()
    assert len(caught) == 1
    assert summary.status == "completed"
    assert not (tmp_path / "run" / "loss.png").exists()


def test_picture_that_fails_is_a_warning(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space")

    monkeypatch.setattr("trainer.records.reporter.draw_losses", fail)
    with pytest.warns(RuntimeWarning, match=r"loss.png could not be drawn: OSError: no space"):
        assert make_trainer(tmp_path / "run", steps=6).fit().status == "completed"


def test_picture_of_losses_that_are_not_finite(tmp_path):
    records = [
        {"event": event, "step": step, "seconds_total": step / 2, "loss": loss}
        for event, step, loss in [("eval", 0, 4.0), ("train", 1, 3.0), ("train", 2, None), ("eval", 2, None)]
    ]
    assert draw_losses(records, tmp_path / "some.png", "a run")
    assert draw_losses([], tmp_path / "none.png", "nothing")
    assert (tmp_path / "some.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 1000
