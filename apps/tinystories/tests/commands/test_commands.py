"""The commands from end to end, on a small text: output, files and refusals."""

import json
import shlex
import subprocess
import sys

import pytest
from small_runs import refused, summary_of
from synthetic import make_run

from tinystories.run import main
from tinystories.variants import SETS, WORDING
from trainer.experiments.results import read_experiment

HEAVY = {"torch", "numba", "matplotlib", "wandb", "regex", "numpy", "scipy", "starlette", "uvicorn"}


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from tinystories.run import main\n"
        "for command in ('prepare', 'train', 'ablations', 'tokenizer-report', 'play', None):\n"
        "    try: main([command, '--help'] if command else ['--help'])\n"
        "    except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "usage: python -m tinystories.run" in result.stdout
    assert "--vocab-sizes" in result.stdout
    assert not HEAVY & set(eval(result.stderr))


def test_ablations_leave_a_report_and_a_model_to_try(flags, tmp_path, capsys, request):
    out = tmp_path / "runs"
    names = ("baseline", "no_rmsnorm")
    assert main(["ablations", "--out", str(out), "--variants", *names, "--seeds", "1", *flags]) == 0
    printed = capsys.readouterr().out
    report = (out / "report.md").read_text("utf-8")
    page = (out / "report.html").read_text("utf-8")
    for name in names:
        assert f"| {name} |" in report
        assert f"### {name}" in report
        assert summary_of(out / name)["steps"] == 8
    assert "> Once upon a time" in report
    for shown in (printed, report, page):
        assert "inconclusive (1 run)" in shown
    for name in ("differences", "loss-by-steps", "loss-by-seconds"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"Report: {out / 'report.md'} {out / 'report.html'}" in printed

    following = shlex.split(printed.rstrip().splitlines()[-1].removeprefix("Next: "))
    assert following[1:4] == ["-m", "tinystories.run", "generate"]
    story = subprocess.run(following, check=True, capture_output=True, text=True).stdout
    assert story.startswith("Once upon a time")

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()}
    (out / "report.md").unlink()
    request.getfixturevalue("quick")
    assert main(["report", str(out)]) == 0
    assert (out / "report.md").read_text("utf-8") == report
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_assignments_variants_are_the_default(flags, tmp_path, quick):
    out = tmp_path / "runs"
    assert main(["ablations", "--out", str(out), *flags, "--steps", "2", "--seeds", "1"]) == 0
    assert [group.name for group in read_experiment(out, WORDING).groups] == list(SETS["assignment"])


def test_generate_and_evaluate(trained, text, capsys):
    arguments = ["generate", str(trained), "--prompt", "Mia had", "--max-new-tokens", "20", "--device", "cpu"]
    assert main([*arguments, "--samples", "2"]) == 0
    first = capsys.readouterr().out
    assert first.count("Mia had") >= 2
    assert main([*arguments, "--samples", "2"]) == 0
    assert capsys.readouterr().out == first
    assert main(["evaluate", str(trained), str(text), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    loss, perplexity, bits = (float(printed.split(f"{name} ")[1].split()[0]) for name in ("loss", "perplexity", "byte"))
    assert perplexity == pytest.approx(2.718281828**loss, rel=1e-3)
    assert 0 < bits < 16


def test_a_time_limit_sets_the_clock(flags, tmp_path, quick, clock):
    out = tmp_path / "timed"
    assert main(["train", "--out", str(out), *flags, "--preset", "cpu-quick", "--time-limit", "2s"]) == 0
    assert summary_of(out)["status"] == "completed"
    assert json.loads((out / "config.json").read_text("utf-8"))["recorded"]["recipe"]["time_limit_seconds"] == 2


class FakeWandb:
    """Collects the records that would go to wandb."""

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


def test_train_sends_its_records_to_wandb_only_if_asked(flags, fake_wandb, tmp_path, capsys, quick):
    assert main(["train", "--out", str(tmp_path / "without"), *flags]) == 0
    assert fake_wandb == []
    assert f"-m tinystories.run generate {tmp_path / 'without'}" in capsys.readouterr().out
    assert main(["train", "--out", str(tmp_path / "with"), "--wandb", "auto", *flags]) == 0
    (wandb,) = fake_wandb
    assert wandb.arguments == (("auto",), {"project": "tinystories"})
    records = (tmp_path / "with" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [record for record in wandb.records if record["event"] != "notice"] == [json.loads(line) for line in records]
    assert "valid loss" in capsys.readouterr().out  # the console as well


def test_wandb_that_is_not_installed(flags, no_wandb, tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run"), "--wandb", "offline", *flags]) == 2
    printed = capsys.readouterr()
    assert "packages/trainer[wandb]" in printed.err
    assert printed.out == "", "no text was prepared"
    assert not (tmp_path / "run").exists()


def without_dataset(flags):
    return flags[2:]


def test_missing_file(flags, tmp_path, capsys):
    path = tmp_path / "absent.txt"
    error = refused(["ablations", "--dataset", str(path), *without_dataset(flags)], capsys)
    assert str(path) in error


@pytest.mark.parametrize("content", ["", "w"])
def test_text_that_cannot_be_split(content, flags, tmp_path, capsys):
    path = tmp_path / "few.txt"
    path.write_text(content, "utf-8")
    assert str(path) in refused(["ablations", "--dataset", str(path), *without_dataset(flags)], capsys)


def test_empty_file_with_a_validation_text(flags, text, tmp_path, capsys):
    path = tmp_path / "empty.txt"
    path.write_text("", "utf-8")
    arguments = ["--dataset", str(path), "--valid-dataset", str(text), *without_dataset(flags)]
    assert "empty" in refused(["ablations", *arguments], capsys)
    assert not list((tmp_path / "data").rglob("*.npy"))


def test_vocabulary_too_small(flags, capsys):
    assert "256" in refused(["ablations", *flags, "--vocab-size", "200"], capsys)


def test_validation_text_without_a_token_to_predict(flags, tmp_path, capsys):
    path = tmp_path / "short.txt"
    path.write_text("M", "utf-8")
    out = tmp_path / "runs"
    error = refused(["ablations", "--out", str(out), *flags, "--valid-dataset", str(path)], capsys)
    assert "at least 2" in error  # a token and the one after it
    assert not out.exists()


def test_output_folder_that_cannot_be_written(flags, tmp_path, capsys):
    (tmp_path / "file").write_text("", "utf-8")
    refused(["ablations", "--out", str(tmp_path / "file" / "runs"), *flags], capsys)


def test_malformed_utf8_is_replaced_and_reported(flags, text, capsys):
    text.write_bytes(text.read_bytes() + b"\xff\xfe broken\n<|endoftext|>\n")
    assert main(["prepare", *flags[:4], "--valid-dataset", str(text), "--vocab-size", "300"]) == 0
    error = capsys.readouterr().err
    assert "notice: " in error
    assert "U+FFFD" in error
    assert str(text) in error


def test_sample_does_not_take_a_validation_text(flags, text, capsys):
    arguments = ["ablations", "--valid-dataset", str(text), *without_dataset(flags)]
    assert "give --dataset PATH" in refused(arguments, capsys)


def test_any_runs_are_compared(trained, tmp_path, quick, capsys):
    other = make_run(tmp_path / "other", [7.0, 9.0])
    assert main(["compare", str(trained), str(other), "--out", str(tmp_path / "page")]) == 0
    assert "inconclusive (1 run): other" in capsys.readouterr().out
    page = (tmp_path / "page" / "report.md").read_text("utf-8")
    assert "# Comparison of 2 runs" in page
    assert "vocab_size=2048" in page
    assert "different runs were given, expected two or more" in refused(["compare", str(trained)], capsys)


def test_report_of_a_folder_without_runs(tmp_path, capsys):
    assert "holds no finished run" in refused(["report", str(tmp_path)], capsys)


def test_generate_from_a_folder_that_is_no_run(tmp_path, capsys):
    assert str(tmp_path) in refused(["generate", str(tmp_path)], capsys)
