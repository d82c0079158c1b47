"""The commands from end to end, on a small text: what they print, what they leave, and how they refuse."""

import json
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tinystories.run import main
from tinystories.variants import SETS

HEAVY = {"torch", "numba", "matplotlib", "wandb", "regex", "numpy", "starlette", "uvicorn"}


@pytest.mark.parametrize("arguments", [["--help"], ["ablations", "--help"], ["generate", "--help"], ["play", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys; from tinystories.run import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "usage: python -m tinystories.run" in result.stdout
    assert not HEAVY & set(eval(result.stderr))


def test_ablations_leave_a_report_and_skip_what_is_finished(flags, tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["ablations", "--out", str(out), *flags]) == 0
    printed = capsys.readouterr().out
    following = shlex.split(printed.rstrip().splitlines()[-1].removeprefix("Next: "))
    assert following[1:4] == ["-m", "tinystories.run", "generate"]
    story = subprocess.run(following, check=True, capture_output=True, text=True).stdout
    assert story.startswith("Once upon a time")
    assert str(out / "report.md") in printed
    report = (out / "report.md").read_text("utf-8")
    for name in SETS["assignment"]:
        assert f"| {name} |" in report
        assert f"### {name}" in report
        assert json.loads((out / name / "summary.json").read_text("utf-8"))["steps"] == 8
    assert "> Once upon a time" in report
    assert str(out / "report.html") in printed
    assert "nothing can be said" in printed  # of one run each
    for name in ("differences", "loss-by-steps", "loss-by-seconds"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()}
    assert main(["ablations", "--out", str(out), *flags]) == 0
    assert capsys.readouterr().out.count("finished before, skipped") == len(SETS["assignment"])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_of_other_settings_is_not_overwritten(flags, tmp_path, capsys):
    arguments = ["ablations", "--out", str(tmp_path / "runs"), "--variants", "baseline", *flags]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "7"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "seed" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_an_interrupted_sweep_goes_on_and_ends_as_if_nothing_had_happened(number, flags, no_pictures, tmp_path):
    """Compared with the same sweep without an interruption."""
    rough, calm = tmp_path / "rough", tmp_path / "calm"
    assert main(sweep(calm, flags)) == 0
    command = [sys.executable, "-m", "tinystories.run", *sweep(rough, flags)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    checkpoints = rough / "baseline" / "checkpoints"
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(checkpoints.glob("step_*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate()
    assert not (rough / "nope" / "summary.json").exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "Traceback" not in error
        assert "resume" in error or "goes on" in error
    assert main(sweep(rough, flags)) == 0
    for name in ("baseline", "nope"):
        assert outcome(rough / name) == outcome(calm / name)


def sweep(out, flags):
    """The arguments of a sweep of two runs."""
    tail = ["--variants", "baseline", "nope", *flags, "--steps", "60", "--evaluations", "6"]
    return ["ablations", "--out", str(out), *tail]


def outcome(run):
    """What a run's records say, seconds aside."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    loss = json.loads((run / "summary.json").read_text("utf-8"))["final_valid_loss"]
    return loss, [(record["event"], record["step"], record["loss"]) for record in records]


def test_train_generate_and_evaluate(flags, text, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), *flags]) == 0
    assert f"-m tinystories.run generate {run}" in capsys.readouterr().out
    arguments = ["generate", str(run), "--prompt", "Mia had", "--max-new-tokens", "20", "--device", "cpu"]
    assert main([*arguments, "--samples", "2"]) == 0
    first = capsys.readouterr().out
    assert first.count("Mia had") >= 2
    assert main([*arguments, "--samples", "2"]) == 0
    assert capsys.readouterr().out == first
    assert main(["evaluate", str(run), str(text), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    loss, perplexity, bits = (float(printed.split(f"{name} ")[1].split()[0]) for name in ("loss", "perplexity", "byte"))
    assert perplexity == pytest.approx(2.718281828**loss, rel=1e-3)
    assert 0 < bits < 16


class FakeWandb:
    """Takes what would go to wandb."""

    made = []

    def __init__(self, *arguments, **named):
        self.arguments, self.records = (arguments, named), []
        self.made.append(self)

    def log(self, record):
        self.records.append(record)

    def close(self):
        pass


@pytest.fixture
def fake_wandb(monkeypatch):
    monkeypatch.setattr("trainer.WandbLogger", FakeWandb)
    monkeypatch.setattr(FakeWandb, "made", [])
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return FakeWandb.made


@pytest.fixture
def no_wandb(monkeypatch):
    """As if wandb were not installed."""
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else find_spec(name))


def test_train_sends_its_records_to_wandb_only_if_asked(flags, fake_wandb, tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "without"), *flags]) == 0
    assert fake_wandb == []
    assert main(["train", "--out", str(tmp_path / "with"), "--wandb", "auto", *flags]) == 0
    (wandb,) = fake_wandb
    assert wandb.arguments == (("auto",), {"project": "tinystories"})
    records = (tmp_path / "with" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [record for record in wandb.records if record["event"] != "notice"] == [json.loads(line) for line in records]
    assert "valid loss" in capsys.readouterr().out  # the console as well


def test_wandb_that_is_not_installed(flags, no_wandb, tmp_path, capsys):
    error = refused(["train", "--out", str(tmp_path / "run"), "--wandb", "offline", *flags], capsys)
    assert "packages/trainer[wandb]" in error
    assert not (tmp_path / "run").exists()


def refused(arguments, capsys):
    """The one line on standard error of a command that must refuse its input."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def without_dataset(flags):
    return flags[2:]


def test_missing_file(flags, tmp_path, capsys):
    path = tmp_path / "absent.txt"
    error = refused(["ablations", "--dataset", str(path), *without_dataset(flags)], capsys)
    assert f"{path}: there is no such file" in error


@pytest.mark.parametrize("content", ["", "only one story without a separator"])
def test_text_that_cannot_be_divided(content, flags, tmp_path, capsys):
    path = tmp_path / "few.txt"
    path.write_text(content, "utf-8")
    error = refused(["ablations", "--dataset", str(path), *without_dataset(flags)], capsys)
    assert "expected two or more" in error


def test_empty_file_with_a_validation_text(flags, text, tmp_path, capsys):
    path = tmp_path / "empty.txt"
    path.write_text("", "utf-8")
    error = refused(
        ["ablations", "--dataset", str(path), "--valid-dataset", str(text), *without_dataset(flags)], capsys
    )
    assert "empty" in error
    assert not list((tmp_path / "data").rglob("*.npy"))


def test_vocabulary_too_small(flags, capsys):
    assert "256" in refused(["ablations", *flags, "--vocab-size", "200"], capsys)


def test_validation_text_shorter_than_one_window(flags, tmp_path, capsys):
    path = tmp_path / "short.txt"
    path.write_text("Mia had", "utf-8")
    out = tmp_path / "runs"
    error = refused(["ablations", "--out", str(out), *flags, "--valid-dataset", str(path)], capsys)
    assert "17" in error  # one window of 16 tokens and the token after it
    assert not out.exists()


def test_output_folder_that_cannot_be_written(flags, tmp_path, capsys):
    (tmp_path / "file").write_text("", "utf-8")
    refused(["ablations", "--out", str(tmp_path / "file" / "runs"), *flags], capsys)


def test_invalid_utf8_is_replaced_counted_and_told(flags, text, tmp_path, capsys):
    text.write_bytes(text.read_bytes() + b"\xff\xfe broken\n<|endoftext|>\n")
    assert main(["prepare", *flags[:4], "--valid-dataset", str(text), "--vocab-size", "300"]) == 0
    captured = capsys.readouterr()
    assert "notice: " in captured.err
    assert "U+FFFD" in captured.err
    assert str(text) in captured.err


def test_sample_does_not_take_a_validation_text(flags, text, capsys):
    assert "give --dataset PATH" in refused(
        ["ablations", "--valid-dataset", str(text), *without_dataset(flags)], capsys
    )


def test_report_of_a_folder_without_runs(tmp_path, capsys):
    assert "holds no finished run" in refused(["report", str(tmp_path)], capsys)


def test_generate_from_a_folder_that_is_no_run(tmp_path, capsys):
    refused(["generate", str(tmp_path)], capsys)
