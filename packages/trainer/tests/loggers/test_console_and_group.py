import io
import json
import math
import warnings

import pytest
from bigram_run import make_trainer

from trainer import ConsoleLogger, JsonlLogger, Logger, read_metrics

pytestmark = pytest.mark.usefixtures("no_pictures")
TRAIN = {
    "event": "train", "step": 1200, "progress": 0.5, "tokens": 1, "seconds_total": 61.0, "seconds_training": 60.0,
    "loss": 3.25, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 12345.6, "memory_bytes": 1,
}  # fmt: skip
EVAL = {
    "event": "eval", "step": 1200, "progress": 0.5, "tokens": 1, "seconds_total": 61.0, "seconds_training": 60.0,
    "loss": 3.25, "perplexity": 25.79, "bits_per_byte": None,
}  # fmt: skip


class Collector:
    def __init__(self):
        self.records, self.closed = [], 0

    def log(self, record):
        self.records.append(record)

    def close(self):
        self.closed += 1


def test_console_lines_are_aligned():
    stream = io.StringIO()
    console = ConsoleLogger(stream)
    console.log({"event": "notice", "message": "hello"})
    console.log(TRAIN)
    console.log({**EVAL, "progress": 0.75, "seconds_total": 91.0})
    console.log({**TRAIN, "progress": 1.0, "loss": math.nan, "tokens_per_second": None})
    console.close()
    notice, train, valid, last = stream.getvalue().splitlines()
    assert notice == "hello"
    assert train == (
        "step     1,200   50%       1 tokens  train loss   3.2500  lr 1.00e-03  norm    0.500     12,346 tok/s"
        "      1:01  ETA -"
    )
    assert valid.startswith("step     1,200   75%       1 tokens  valid loss   3.2500  ppl     25.79  bpb     n/a")
    assert valid.endswith("1:31  ETA 0:30")
    assert "train loss      nan" in last
    assert len({line.index("ETA") for line in (train, valid, last)}) == 1


def test_default_is_the_console_and_an_empty_list_is_silence(tmp_path, capsys):
    trainer = make_trainer(tmp_path / "silent", steps=7)
    trainer.fit()
    assert capsys.readouterr().out == ""
    default = type(trainer)(
        trainer.model, trainer.optimizer, trainer.loss_fn, trainer.train_data, trainer.valid_data, trainer.config,
        trainer.schedule, tmp_path / "default",
    )  # fmt: skip
    default.fit()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["step"] * 3
    assert "records in" in lines[0]
    assert lines[-1].startswith("completed: 7 steps, validation loss ")


def test_loggers_get_every_record_and_are_closed(tmp_path):
    collector = Collector()
    assert isinstance(collector, Logger)
    make_trainer(tmp_path / "run", loggers=[collector], steps=8).fit()
    records = [record for record in collector.records if record["event"] != "notice"]
    assert records == read_metrics(tmp_path / "run")
    assert collector.closed == 1


def test_failing_loggers_are_warned_about_once_and_stop_nothing(tmp_path):
    class Failing(Collector):
        def log(self, record):
            raise ConnectionError("no network")

    class FailingLater(Collector):
        def close(self):
            raise ConnectionError("gone")

    collector = Collector()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = make_trainer(
            tmp_path / "run", loggers=[Failing(), collector, FailingLater()], steps=8, log_interval=1
        ).fit()
    assert summary.status == "completed"
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert messages[0].startswith("Failing failed (ConnectionError: no network) and gets no more calls")
    assert messages[1].startswith("FailingLater failed (ConnectionError: gone)")
    assert len(collector.records) > 10


def test_jsonl_has_no_nan(tmp_path):
    logger = JsonlLogger(tmp_path / "x.jsonl")
    logger.log({"event": "train", "loss": math.nan, "norm": -math.inf, "bpb": None, "text": "é\n"})
    logger.log({"event": "train", "loss": 1.5, "bpb": None})
    logger.close()
    logger.close()
    first, second = (tmp_path / "x.jsonl").read_text("utf-8").splitlines()
    assert json.loads(first) == {
        "event": "train", "loss": None, "norm": None, "bpb": None, "text": "é\n", "status": "not finite",
    }  # fmt: skip
    assert json.loads(second) == {"event": "train", "loss": 1.5, "bpb": None}
    JsonlLogger(tmp_path / "x.jsonl").close()
    assert len((tmp_path / "x.jsonl").read_text("utf-8").splitlines()) == 2


def test_jsonl_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        JsonlLogger(tmp_path / "absent" / "x.jsonl")
