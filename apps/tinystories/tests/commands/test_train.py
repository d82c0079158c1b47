"""Runs that are moved, go on with changes, diverge, or begin with the weights of others."""

import json
import os
import shutil
import socket
import sys

import pytest
from small_runs import refused, summary_of

from bpe import Tokenizer
from tinystories.run import main
from trainer import read_metrics

SMALL = "--device cpu --vocab-size 300 --context-length 16 --num-layers 2 --num-heads 2 --d-ff 40".split()


def train(out, trained, *flags):
    """Train on the text of another run."""
    folder = trained.parent
    texts = ["--dataset", str(folder / "stories.txt"), "--data-dir", str(folder / "data")]
    return ["train", "--out", str(out), *texts, *SMALL, *flags]


def losses(run):
    return [record["loss"] for record in read_metrics(run) if record["event"] == "eval"]


def test_a_project_can_be_moved_and_copied(tmp_path, text, monkeypatch, capsys, quick):
    """R36, A2: trained on a server and copied home, or the folder of the project renamed."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    shutil.copy(text, home / "stories.txt")
    texts = ["--dataset", "stories.txt", "--data-dir", "data"]
    flags = "--d-model 16 --batch-size 4 --evaluations 2 --steps"
    command = ["train", "--out", "runs/a", *texts, *SMALL, *flags.split()]
    assert main([*command, "8"]) == 0
    monkeypatch.chdir(tmp_path)
    moved = home.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    capsys.readouterr()
    assert main(["generate", "runs/a", "--prompt", "Mia", "--max-new-tokens", "5", "--device", "cpu"]) == 0
    assert main(["evaluate", "runs/a", "stories.txt", "--device", "cpu"]) == 0
    assert main(["export", "runs/a", "exported"]) == 0
    assert main([*command, "12"]) == 0  # the run goes on
    assert summary_of(moved / "runs" / "a")["steps"] == 12
    alone = shutil.copytree(moved / "runs" / "a", tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(moved)
    assert main(["generate", str(alone), "--prompt", "Mia", "--max-new-tokens", "5", "--device", "cpu"]) == 0
    recorded = json.loads((alone / "config.json").read_text())["recorded"]
    assert recorded["tokenizer_sha256"] == Tokenizer.from_pretrained(alone / "tokenizer").sha256
    assert str(tmp_path) not in json.dumps(recorded)


def test_another_tokenizer_in_a_run_is_noticed(run, flags, text, tmp_path, capsys):
    shutil.rmtree(run / "tokenizer")
    assert main(["prepare", "--dataset", str(text), "--data-dir", str(tmp_path / "d"), "--vocab-size", "290"]) == 0
    (other,) = (tmp_path / "d").glob("*/tokenizer")
    shutil.copytree(other, run / "tokenizer")
    error = refused(["generate", str(run), "--device", "cpu"], capsys)
    assert "is another one than the run was trained with" in error


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        (["--steps", "16"], {"steps": [8, 16], "recorded.recipe.steps": [8, 16]}),
        (["--steps", "16", "--batch-size", "2"], {"batch_size": [4, 2], "recorded.recipe.batch_size": [4, 2]}),
        (["--steps", "16", "--dtype", "float16"], {"dtype": ["auto", "float16"]}),
    ],
    ids=str,
)
def test_a_finished_run_goes_on(run, trained, more, changed, quick, capsys):
    """R37."""
    assert main(train(run, trained, "--d-model", "16", "--batch-size", "4", "--evaluations", "2", *more)) == 0
    assert summary_of(run)["steps"] == 16
    session = json.loads((run / "environment.json").read_text())["resumed"][-1]
    assert session["step"] == 8
    assert changed.items() <= session["changed"].items()


def test_other_settings_are_refused_by_name(run, trained, capsys):
    flags = "--d-model 32 --steps 8 --batch-size 4 --evaluations 2"
    error = refused(train(run, trained, *flags.split()), capsys)
    assert "recorded.recipe.d_model was 16, now 32" in error


def test_a_run_with_dropout_records_it(trained, tmp_path, quick):
    flags = "--d-model 16 --batch-size 4 --steps 2 --evaluations 1 --dropout 0.25"
    assert main(train(tmp_path / "run", trained, *flags.split())) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recorded"]["recipe"]["dropout"] == 0.25


def test_a_run_begins_with_the_weights_of_another(trained, tmp_path, quick):
    out, flags = tmp_path / "tuned", "--d-model 16 --batch-size 4 --steps 4 --evaluations 1 --seed 5"
    assert main(train(out, trained, *flags.split(), "--init-from", str(trained))) == 0
    assert losses(out)[0] == pytest.approx(losses(trained)[-1])


def test_a_run_on_another_text_keeps_the_tokenizer_of_the_weights(trained, tmp_path, quick, capsys):
    """The ids of a tokenizer trained on the other text would mean other embeddings."""
    other, out = tmp_path / "other.txt", tmp_path / "tuned"
    other.write_text("".join(f"{number * 7919} zebras<|endoftext|>" for number in range(400)))
    flags = "--d-model 16 --batch-size 4 --evaluations 1 --steps".split()
    command = ["train", "--out", str(out), "--dataset", str(other), "--data-dir", str(tmp_path / "d"), *SMALL, *flags]
    assert main([*command, "2", "--init-from", str(trained / "checkpoints" / "step_0000008")]) == 0
    assert (
        Tokenizer.from_pretrained(out / "tokenizer").sha256 == Tokenizer.from_pretrained(trained / "tokenizer").sha256
    )
    assert main([*command, "4", "--init-from", str(tmp_path / "gone")]) == 0  # the run has a tokenizer of its own
    command[2] = str(tmp_path / "new")
    error = refused([*command, "2", "--init-from", str(tmp_path / "gone")], capsys)
    assert "gone has no tokenizer, which its weights need: expected a run" in error


@pytest.mark.skipif(sys.platform != "linux", reason="gloo as on Linux")
def test_several_processes_print_and_prepare_once(flags, tmp_path, quick):
    """A27: with the environment that torchrun gives two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    outputs, children = [tmp_path / f"rank{rank}.txt" for rank in (0, 1)], []
    for rank, output in enumerate(outputs):
        children.append(os.fork())
        if children[-1] == 0:
            code = 1
            try:
                for standard in (1, 2):
                    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), standard)
                sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
                os.environ |= {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                code = main(["train", "--out", str(tmp_path / "run"), *flags])
            finally:
                os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    first, second = (output.read_text("utf-8") for output in outputs)
    assert codes == [0, 0], first + second
    for line in ("tokenizer of ", "completed: records in", "Next:"):
        assert (first.count(line), second.count(line)) == (1, 0)
    assert summary_of(tmp_path / "run")["steps"] == 8


def test_a_run_that_diverges_ends_with_exit_code_1(flags, tmp_path, capsys, quick):
    """A6: and without the advice to generate from a model that is not there."""
    out = tmp_path / "lr9"
    assert main(["train", "--out", str(out), *flags, "--learning-rate", "1e30"]) == 1
    printed = capsys.readouterr().out
    assert "diverged: records in" in printed
    assert "Next:" not in printed
    assert summary_of(out)["status"] == "diverged"
