"""Damaged records never keep a run from its checkpoints (R13, A7, A8)."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from bigram_run import assert_equal_runs, make_model, make_short_trainer
from children import drop_privileges, needs_fork, run_in_child

from trainer import Summary, read_metrics
from trainer.records import RunDirectory, read_lines, read_object

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def killed(whole, tmp_path):
    """A copy of the run, as if it had been killed after step 21: the lines and files of later steps are there."""
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_0000024")
    return run


def finish(run):
    return make_short_trainer(run, model=make_model(9)).fit()


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
@pytest.mark.parametrize("damage", ["zeros at the end", "zeros before", "note", "blank", "array", "no step"])
def test_a_run_goes_on_without_damaged_lines(killed, whole, timeless, name, damage):
    path = killed / name
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "zeros at the end":
        lines[-1] = b"\0" * 300 + b"\n"
    elif damage == "zeros before":
        lines[0] = b"\0" * (len(lines[0]) - 1) + b"\n"
    else:
        lines.insert(
            1, {"note": b"tuned by hand\n", "blank": b"\n", "array": b"[1]\n", "no step": b'{"a": 1}\n'}[damage]
        )
    path.write_bytes(b"".join(lines))
    with pytest.warns(RuntimeWarning, match=rf"{name}: 1 of {len(lines)} lines are damaged and left out") as caught:
        assert finish(killed).status == "completed"
    assert len([warning for warning in caught if "damaged" in str(warning.message)]) == 1
    if damage != "zeros before":
        assert_equal_runs(whole, killed, timeless)
        assert (killed / name).read_bytes().count(b"\n") == (whole / name).read_bytes().count(b"\n")


def test_damaged_lines_cost_a_reader_one_warning(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\n{"step": true}\n{"step": 2}\n{"step": 3')
    with pytest.warns(RuntimeWarning, match=r"metrics.jsonl: 2 of 4 lines are damaged"):
        assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    assert read_lines(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("read", [read_lines, read_object])
def test_a_file_that_the_disk_cannot_read_is_named(tmp_path, monkeypatch, read):
    def fail(self):
        raise OSError(errno.EIO, "Input/output error")  # as reading an open file does, without a name

    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*metrics.jsonl'"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\0" * 100])
def test_a_damaged_summary_counts_as_an_unfinished_run(whole, tmp_path, content):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "summary.json").write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"summary.json is damaged: expected a JSON object; the run resumes from"):
        assert RunDirectory(run).read_summary() is None
    with pytest.warns(RuntimeWarning, match="summary.json is damaged"):
        summary = finish(run)
    before = Summary.from_json(json.loads((whole / "summary.json").read_text()))
    assert (summary.status, summary.steps, summary.final_valid_loss) == ("completed", 24, before.final_valid_loss)


@pytest.mark.parametrize("content", [b"", b"\0" * 300, None])
def test_lost_records_are_counted(killed, content):
    """R13: nothing is lost without a word, and the run goes on all the same."""
    path = killed / "metrics.jsonl"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"metrics.jsonl: 6 of 6 records are lost, because the file was cut"):
        assert finish(killed).status == "completed"


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b'{"run_id": NaN}', b'{"run_id": 1e999}'])
def test_a_damaged_environment_begins_anew(killed, content):
    before = json.loads((killed / "environment.json").read_text())["run_id"]
    (killed / "environment.json").write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"environment.json is damaged: .*; it begins anew, with another run_id"):
        assert finish(killed).status == "completed"
    environment = json.loads((killed / "environment.json").read_text())
    assert environment["run_id"] != before
    assert environment["resumed"] == []


@needs_fork
@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json", "summary.json"])
def test_records_that_may_not_be_read_are_named(whole, tmp_path, name):
    run = shutil.copytree(whole, tmp_path / "run")
    if name != "summary.json":
        (run / "summary.json").unlink()
    (run / name).chmod(0)

    def read():
        drop_privileges()
        with pytest.raises(PermissionError, match=rf"^this user may not read .*{name}: change its mode or ") as caught:
            finish(run)
        assert caught.value.errno == errno.EACCES

    run_in_child(read)


def test_a_damaged_configuration_is_named(killed):
    (killed / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged: expected a JSON object; restore it or choose"):
        finish(killed)
    with pytest.raises(FileNotFoundError):
        read_object(killed / "absent.json")
