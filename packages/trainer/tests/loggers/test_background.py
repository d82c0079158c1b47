"""Loggers that raise, hang or are slow, alone and in a run."""

import threading
import warnings

import pytest
from bigram_run import make_trainer

from trainer import BackgroundLogger, Logger, Summary, TrainingInterrupted, read_config, read_metrics
from trainer.loggers import RunInfo

pytestmark = pytest.mark.usefixtures("no_pictures")
RECORD = {"event": "train", "step": 1, "loss": 2.0}
SHORT = {"steps": 6, "eval_interval": 2, "log_interval": 3}


class Listener:
    """Takes everything that a logger may be told, in its order and thread."""

    def __init__(self):
        self.calls, self.threads = [], set()

    def _take(self, *call):
        self.calls.append(call)
        self.threads.add(threading.current_thread())

    def on_start(self, run):
        self._take("on_start", run)

    def log(self, record):
        self._take("log", record)

    def on_samples(self, step, texts):
        self._take("on_samples", step, texts)

    def on_finish(self, summary):
        self._take("on_finish", summary)

    def close(self):
        self._take("close")

    def records(self):
        return [call[1] for call in self.calls if call[0] == "log" and call[1]["event"] != "notice"]

    def told(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


class Hanging(Listener):
    """Hangs in the first record until it is released."""

    def __init__(self):
        super().__init__()
        self.entered, self.go_on, self.closed = threading.Event(), threading.Event(), threading.Event()

    def log(self, record):
        self.entered.set()
        self.go_on.wait(60)
        super().log(record)

    def close(self):
        super().close()
        self.closed.set()


@pytest.fixture
def hanging():
    logger = Hanging()
    yield logger
    logger.go_on.set()


def sample(model, step):
    return [f"one at {step}", "two"]


@pytest.mark.parametrize("wrap", [lambda logger: logger, BackgroundLogger], ids=["plain", "background"])
def test_a_logger_is_told_everything_in_order(wrap, tmp_path):
    listener = Listener()
    logger = wrap(listener)
    assert isinstance(logger, Logger)
    summary = make_trainer(tmp_path / "run", loggers=[logger], sample=sample, recorded={"x": 1}, **SHORT).fit()
    names = [call[0] for call in listener.calls]
    assert names[0] == "on_start"
    assert names[-2:] == ["on_finish", "close"]
    assert [names.count(name) for name in ("on_start", "on_finish", "close")] == [1, 1, 1]
    ((run,),) = listener.told("on_start")
    assert isinstance(run, RunInfo)
    assert (run.run_dir, run.step, run.resumes) == (tmp_path / "run", 0, False)
    assert run.config == read_config(tmp_path / "run")
    assert run.environment["seed"] == 3
    assert listener.records() == read_metrics(tmp_path / "run")
    assert listener.told("on_samples") == [(step, [f"one at {step}", "two"]) for step in (0, 2, 4, 6)]
    assert listener.told("on_finish") == [(summary,)]
    assert isinstance(summary, Summary)
    assert (threading.main_thread() in listener.threads) == (logger is listener)


def test_a_resumed_run_keeps_its_id_and_another_run_has_another(tmp_path):
    def interrupt(model, step):
        if step == 2:
            import signal

            signal.raise_signal(signal.SIGINT)
        return []

    first, second, other = Listener(), Listener(), Listener()
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "run", loggers=[first], sample=interrupt, **SHORT).fit()
    make_trainer(tmp_path / "run", loggers=[second], **SHORT).fit()
    make_trainer(tmp_path / "other", loggers=[other], **SHORT).fit()
    (begun,), (resumed,), (else_,) = (logger.told("on_start")[0] for logger in (first, second, other))
    assert begun.run_id == resumed.run_id != else_.run_id
    assert (resumed.step, resumed.resumes) == (2, True)
    assert first.told("on_finish") == []
    assert first.calls[-1] == ("close",)
    assert first.records() + second.records() == read_metrics(tmp_path / "run")


@pytest.mark.parametrize("method", ["on_start", "log", "on_samples", "on_finish", "close"])
@pytest.mark.parametrize("wrap", [lambda logger: logger, BackgroundLogger], ids=["plain", "background"])
def test_a_logger_that_raises_anywhere_is_warned_about_once(method, wrap, tmp_path):
    class Failing(Listener):
        def _take(self, *call):
            super()._take(*call)
            if call[0] == method:
                raise ConnectionError("no network")

    failing, intact = Failing(), Listener()
    with pytest.warns(RuntimeWarning) as caught:
        summary = make_trainer(tmp_path / "run", loggers=[wrap(failing), intact], sample=sample, **SHORT).fit()
    assert summary.status == "completed"
    assert [str(warning.message) for warning in caught] == [
        "Failing failed (ConnectionError: no network) and gets no more calls; training continues, and metrics.jsonl "
        "has every record"
    ]
    assert len(failing.told(method)) == 1
    assert len(failing.told("close")) == 1
    assert intact.records() == read_metrics(tmp_path / "run")


def test_a_logger_that_hangs_does_not_stall_a_run(tmp_path, hanging):
    intact = Listener()
    loggers = [BackgroundLogger(hanging, close_seconds=0.2), intact]
    with pytest.warns(RuntimeWarning) as caught:
        summary = make_trainer(tmp_path / "run", loggers=loggers, **SHORT).fit()
    assert hanging.records() == []  # the logger still hangs
    assert summary.status == "completed"
    assert [str(warning.message) for warning in caught] == [
        "Hanging did not finish within 0.2 s; training does not wait for it, and metrics.jsonl has every record"
    ]
    assert intact.records() == read_metrics(tmp_path / "run")


def test_records_are_dropped_and_counted_when_too_many_wait(hanging):
    logger = BackgroundLogger(hanging, queue_size=3, close_seconds=0.1)
    logger.log(RECORD)
    assert hanging.entered.wait(60)
    for step in range(3):
        logger.log({**RECORD, "step": step})
    with pytest.warns(RuntimeWarning, match="Hanging is 3 calls behind, so records are dropped"):
        logger.log({**RECORD, "step": 3})
    for step in range(4, 10):
        logger.log({**RECORD, "step": step})  # told once
    assert logger.dropped == 7
    with pytest.warns(RuntimeWarning, match=r"did not finish within 0\.1 s; 7 records were dropped"):
        logger.close()
    hanging.go_on.set()
    assert hanging.closed.wait(60)
    assert [record["step"] for record in hanging.records()] == [1, 0, 1, 2]


def test_close_can_be_called_without_a_run_and_twice():
    listener = Listener()
    logger = BackgroundLogger(listener)
    logger.close()
    assert listener.calls == [("close",)]
    logger.log(RECORD)
    logger.close()
    assert listener.records() == [RECORD]


def test_a_record_that_is_changed_afterwards_is_logged_as_it_was(hanging):
    logger = BackgroundLogger(hanging)
    record = dict(RECORD)
    logger.log(record)
    record["loss"] = 0.0
    hanging.go_on.set()
    logger.close()
    assert hanging.records() == [RECORD]


@pytest.mark.parametrize("arguments", [{"queue_size": 0}, {"close_seconds": 0.0}, {"close_seconds": float("nan")}])
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="expected a number above 0"):
        BackgroundLogger(Listener(), **arguments)


def test_loggers_of_two_methods_are_enough(tmp_path):
    class Minimal:
        def log(self, record):
            self.record = record

        def close(self):
            pass

    logger = Minimal()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_trainer(tmp_path / "plain", loggers=[logger, BackgroundLogger(Minimal())], sample=sample, **SHORT).fit()
    assert logger.record["message"].startswith("completed")
