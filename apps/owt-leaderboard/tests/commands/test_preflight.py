"""The command that says whether a run would be wasted."""

import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch
from measured_runs import law, measured
from small_runs import TINY

from nnscratch.speedrun import baseline, changed
from owt_leaderboard.budget.prediction import training_flops
from owt_leaderboard.commands import preflight
from owt_leaderboard.report import entry
from owt_leaderboard.run import check_disk, check_kernels, device_checks, trial
from trainer.training.compilation import CompilationError

Usage = namedtuple("Usage", "total used free")
Pass = namedtuple("Pass", "name tokens logits kernel_bytes operator_bytes launches")
H100 = ["--for", "NVIDIA H100"]
_AGREE = "gradients and the first update agree with the eager ones; 58 s"


@pytest.fixture
def lowered(monkeypatch):
    """Passes that the compiler would write: to be changed by a test."""
    passes = [Pass("forward", 131_072, 2, 60e9, 12e9, 200), Pass("backward", 131_072, 0, 60e9, 40e9, 300)]
    monkeypatch.setattr(preflight, "lowered_passes", lambda recipe: passes)
    return passes


def test_a_named_gpu_is_predicted_with_its_arithmetic(lowered, capsys):
    assert preflight.main(H100) == 0
    printed = capsys.readouterr().out
    for line in (
        "Assumed, not measured: 580 TFLOP/s in products, 250 in attention, 2.75 TB/s",
        "12 layers x 1024; a step has 1 pass of 256 x 512 tokens",
        "ok       graph: the loss is one graph",
        "ok       logits: 2 buffers",
        "forward: 72.0 GB per pass, 549 kB per token, beside products and attention; 200 launches",
        "matrix products: 6 x 183.8 M x 131,072 tokens at 580 TFLOP/s = 249.2 ms",
        "element-wise kernels: 1 x (172.0 GB lowered + 4.2 GB in products of the loss) at 2.75 TB/s = 64.1 ms",
        "(attention over the whole square; 41.7% over the causal half)",
        "compute: 1.85 G tokens x 1.140 GFLOP = 2.11e+18 FLOP",
        "loss: 2.99 +- 0.04",
        "not used: attention by a library",
        "warning  goal: 43.1% MFU and 1.85 G tokens, expected at least 44% and 1.9 G",
        "nothing speaks against a run",
    ):
        assert line in printed
    assert preflight.main([*H100, "--dataset", "mine.txt", "--time-limit", "1h"]) == 0
    printed = capsys.readouterr().out
    assert "loss: no prediction; the published entries are on OpenWebText" in printed
    assert "goal:" not in printed


def test_the_gpu_and_limit_of_the_course_of_2026_are_predicted(lowered, capsys):
    assert preflight.main(["--for", "NVIDIA B200", "--time-limit", "45m"]) == 0
    printed = capsys.readouterr().out
    assert "NVIDIA B200: peak 2,250.0 TFLOP/s. Assumed, not measured: 1,319 TFLOP/s in products" in printed
    assert "12 layers x 1024; a step has 1 pass of 256 x 512 tokens" in printed
    assert "of 2,700 s" in printed
    assert "nothing speaks against a run" in printed


def test_the_goal_is_met_with_fewer_bytes(lowered, capsys):
    lowered[:] = [one._replace(kernel_bytes=20e9) for one in lowered]
    assert preflight.main(H100) == 0
    assert "ok       goal: 4" in capsys.readouterr().out


def test_a_lowered_loss_that_would_waste_a_run_fails(lowered, monkeypatch, capsys):
    lowered[0] = lowered[0]._replace(logits=3)
    assert preflight.main(H100) == 1
    printed = capsys.readouterr().out
    assert "failed   logits: 3 buffers of a chunk's logits at once, expected at most 2" in printed
    assert "a run would be wasted: see the failed checks" in printed
    lowered[0] = lowered[0]._replace(logits=2, kernel_bytes=800e9)
    assert preflight.main(H100) == 1
    assert "over the causal half), expected at least 25%" in capsys.readouterr().out

    def broken(recipe):
        raise ValueError("the loss is not one graph: break")

    monkeypatch.setattr(preflight, "lowered_passes", broken)
    assert preflight.main(H100) == 1
    assert "failed   graph: the loss is not one graph: break" in capsys.readouterr().out


def test_what_cannot_be_predicted_is_refused(lowered, capsys):
    assert preflight.main(["--for", "abacus"]) == 2
    assert "error: --for abacus: no peak in bfloat16 is known" in capsys.readouterr().err
    assert preflight.main([*H100, "--time-limit", "2m"]) == 2
    assert "this run of 120 s is not compiled" in capsys.readouterr().err


def test_a_loss_is_lowered(tmp_path):
    """In a process of its own, because the compiler is made to find a GPU."""
    if find_spec("triton") is None or tuple(map(int, version("torch").split(".")[:2])) < (2, 13):
        pytest.skip("needs Triton, and private functions of torch 2.13")
    sizes = ("num_layers=2", "d_model=128", "num_heads=1", "d_ff=256", "vocab_size=500", "context_length=64")
    command = [sys.executable, "-m", "owt_leaderboard.preflight", *H100, "--set", *sizes, "batch_size=4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ok       graph: the loss is one graph" in done.stdout, done.stderr
    assert "2 layers x 128; a step has 1 pass of 4 x 64 tokens" in done.stdout
    assert "speed: " in done.stdout


@pytest.fixture
def here(text, monkeypatch):
    """Arguments of a small run on this machine."""
    monkeypatch.setattr(preflight, "process_age", lambda: 1.0)
    monkeypatch.setattr(entry, "ENTRY_SAMPLE_TOKENS", 8)
    return ["--device", "cpu", "--time-limit", "60s", "--dataset", str(text), "--set", *TINY, "compile=off"]


def test_a_machine_is_checked(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("owt_leaderboard.commands.shared.VALID_BYTES_PER_SECOND", 5)
    assert preflight.main(here) == 0
    printed = capsys.readouterr().out
    assert "validation text: only the first " in printed  # as in the run itself
    for name in ("device", "compilers", "disk", "attention against float64", "compiler", "speed", "time"):
        assert f"ok       {name}: " in printed
    assert "measured in 30 steps, peak memory" in printed
    assert "loss: no prediction, because 0 runs of this device and text with windows of " in printed
    assert not list((tmp_path / "runs").iterdir())  # nothing of the trial is left


def test_a_loss_is_predicted_from_runs_with_windows_of_the_same_length(monkeypatch):
    monkeypatch.setattr(preflight, "read_measurements", lambda path: measured(1e15, 1e16, 1e17))
    recipe = changed(baseline("cpu"), ["context_length=512"])
    tokens = 1e16 / training_flops(recipe).square
    assert f"loss: {law(1e16):.3f}, 95 % interval" in preflight._measured_loss("NVIDIA H100", "owt", recipe, tokens)
    other = changed(recipe, ["context_length=256"])
    assert "because 0 runs of this device" in preflight._measured_loss("NVIDIA H100", "owt", other, tokens)


@pytest.mark.parametrize(
    ("tokens", "dataset", "verdict"), [(1e6, None, "ok"), (3e7, "sample", "warning"), (3e7, None, "failed")]
)
def test_a_text_that_is_repeated(tokens, dataset, verdict):
    check = preflight._text(tokens, 1_000_000, preflight.DataFlags(dataset=dataset), "cuda")
    assert check.verdict == verdict
    assert "1,000,000 tokens" in check.text


def test_a_limit_that_leaves_no_steps_fails(here, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "process_age", lambda: 70.0)
    assert preflight.main(here) == 1
    assert "the rest alone would end after the limit" in capsys.readouterr().out


def test_a_full_disk_fails_before_the_trial(here, monkeypatch, capsys):
    monkeypatch.setattr(device_checks.shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 1000))
    monkeypatch.setattr(preflight, "run_trial", None)
    assert preflight.main(here) == 1
    assert "failed   disk: 0.0 GB free" in capsys.readouterr().out


def test_a_slow_disk_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(device_checks, "write_speed", lambda directory: 50e6)
    check, speed = check_disk(tmp_path, 4 * 10**9, 4)
    assert (check.verdict, speed) == ("warning", 50e6)
    assert "50 MB/s, so a checkpoint takes 80.0 s" in check.text


def test_a_compiler_that_is_wrong_fails(here, monkeypatch, capsys):
    def train(*arguments, **settings):
        raise CompilationError("long") from RuntimeError("its gradient of w has the norm 2, and 1 without it\nmore")

    monkeypatch.setattr(trial, "train", train)
    assert preflight.main(here) == 1
    expected = "failed   trial: torch.compile failed (its gradient of w has the norm 2, and 1 without it)\n"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "verdict", "text"),
    [
        (("compile=on", "masked_inputs=0.0"), "ok", _AGREE),
        (("compile=on", "masked_inputs=0.1"), "ok", _AGREE + "; compared without masked inputs"),
        (("compile=on", "dropout=0.1"), "warning", "gradients not compared"),
        (("compile=auto",), "ok", "not used"),
    ],
)
def test_a_compiler_whose_check_draws_random_numbers_is_a_warning(settings, verdict, text):
    check = preflight._compiler(changed(baseline("cpu"), settings), "cpu", 58.0)
    assert check.verdict == verdict
    assert check.text.startswith(text)
    assert ("masked" in check.text) == ("masked" in text)


def test_the_trial_is_comparable_with_an_eager_one(here, monkeypatch):
    """Masked inputs are random."""
    trained, train = [], trial.train

    def kept(recipe, *arguments, **settings):
        trained.append(recipe)
        return train(recipe, *arguments, **settings)

    monkeypatch.setattr(trial, "train", kept)
    assert preflight.main([*here, "masked_inputs=0.1"]) == 0
    assert trained[0].batches.masked_inputs == 0.0


def test_a_missing_compiler_fails_before_the_data_are_prepared(here, monkeypatch, capsys):
    def check(*arguments, **settings):
        raise ValueError("torch.compile needs a C++ compiler")

    monkeypatch.setattr("trainer.devices.check_compilers", check)
    monkeypatch.setattr(preflight.DataFlags, "prepare", None)
    assert preflight.main(here) == 1
    assert "failed   compilers: torch.compile needs a C++ compiler" in capsys.readouterr().out


def test_a_long_limit_on_a_cpu_that_nobody_chose_fails(monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert preflight.main(["--time-limit", "1.5h"]) == 1
    assert "failed   device: the time limit is 5,400 s and this machine has no GPU" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["attention", "feed-forward network"])
def test_a_wrong_kernel_is_found(monkeypatch, part):
    recipe = baseline("cpu")
    recipe = replace(recipe, model=replace(recipe.model, d_model=64, num_heads=2, d_ff=96, context_length=32))
    checks = {
        check.name.removesuffix(" against float64"): check for check in check_kernels(recipe, torch.device("cpu"))
    }
    assert {check.verdict for check in checks.values()} == {"ok"}
    results = device_checks._results

    def wrong(module, x, grad):
        found = results(module, x, grad)
        is_broken = x.dtype != torch.float64 and hasattr(module, "q_proj") == (part == "attention")
        return found | {"gradient of input": 0.9 * found["gradient of input"]} if is_broken else found

    monkeypatch.setattr(device_checks, "_results", wrong)
    checks = {
        check.name.removesuffix(" against float64"): check for check in check_kernels(recipe, torch.device("cpu"))
    }
    assert {name for name, check in checks.items() if check.verdict == "failed"} == {part}
    assert "(gradient of input)" in checks[part].text
