"""Two processes on a CPU, with the environment of torchrun; a signal goes to torchrun itself."""

import json
import os
import shutil
import signal
import sys
import time

import pytest
import torch
from bigram_run import load_states
from distributed_run import (
    RAMP,
    STEPS,
    STOPPED_AT,
    Blocks,
    acting,
    die,
    make_trainer,
    sums,
    train_equally,
    wait_for_a_signal,
)
from forked import ForkedProcess, fork_two
from safetensors.torch import load_file

from trainer import TrainingInterrupted, load_weights, read_metrics

pytestmark = [
    pytest.mark.usefixtures("no_pictures"),
    pytest.mark.skipif(sys.platform != "linux", reason="signals and gloo as on Linux"),
]


def interrupt_one(run_dir):
    with pytest.raises(TrainingInterrupted):
        make_trainer(run_dir, loss=acting(lambda: signal.raise_signal(signal.SIGTERM), rank=0)).fit()


def losses(run_dir):
    return {(record["event"], record["step"]): record["loss"] for record in read_metrics(run_dir) if "loss" in record}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make runs of one and of two processes, and return their directory and what the two processes reported."""
    directory = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        make_trainer(directory / "one", model=(model := Blocks())).fit()
        for name in ("one-ddp", "one-fsdp"):
            interrupt_one(directory / name)
        ends = fork_two(lambda: train_equally(directory), directory)
    for code, output, errors in ends:
        assert (code, output) == (0, ""), errors
    seen = [json.loads((directory / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    return directory, seen, sums(model)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "one-ddp", "one-fsdp", "ddp-one", "fsdp-one"])
def test_losses_are_those_of_one_process(runs, name):
    """In whole runs, in runs that one process began, and in runs that resumed in the other way after a signal."""
    directory, _, _ = runs
    ours, theirs = losses(directory / name), losses(directory / "one")
    assert ours.keys() == theirs.keys()
    assert len(ours) == STEPS + 3
    for key in theirs:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-5)
    records = [read_metrics(directory / run) for run in (name, "one")]
    for ours, theirs in zip(*records, strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours.get("grad_norm") == pytest.approx(theirs.get("grad_norm"), abs=1e-4)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_every_process_has_the_trained_model_and_the_result(runs, name):
    directory, seen, expected = runs
    for result in seen:
        assert result[name]["sums"] == pytest.approx(expected, abs=1e-3)
        assert result[name]["type"] == "Blocks"
        assert result[name]["loss"] == losses(directory / name)["eval", STEPS]
    assert seen[0][name] == seen[1][name]
    model = Blocks(9)
    assert load_weights(model, directory / name) == STEPS
    assert sums(model) == seen[0][name]["sums"]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_signal_to_one_process_stops_both_at_the_same_step(runs, name):
    _, seen, _ = runs
    step, message = seen[0][f"{name} interrupted"]
    assert seen[0][f"{name} interrupted"] == seen[1][f"{name} interrupted"]
    assert step == STOPPED_AT
    assert f"interrupted by SIGTERM: saved at step {STOPPED_AT} in " in message


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_batch_ramp_and_averaged_weights_are_those_of_one_process(runs, name, tmp_path):
    directory, seen, _ = runs
    summary = make_trainer(tmp_path / "one", model=(model := Blocks()), **RAMP).fit()
    assert seen[0][f"{name} ramp"] == seen[1][f"{name} ramp"]
    stopped_at, loss, tokens, summed = seen[0][f"{name} ramp"]
    assert stopped_at == 15
    assert tokens == summary.tokens == 8 * 4 * (6 + 3 * 14)
    assert summed == pytest.approx(sums(model), abs=1e-3)
    assert losses(directory / f"ramp-{name}") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert loss == pytest.approx(summary.final_valid_loss, abs=1e-5)
    last = read_metrics(directory / f"ramp-{name}")[-1]
    assert (last["event"], last["averaged_steps"]) == ("eval", 8)
    loaded = Blocks(9)
    assert load_weights(loaded, directory / f"ramp-{name}") == 20
    assert sums(loaded) == summed


def test_a_mean_that_was_sharded_is_read_by_one_process(runs, tmp_path):
    """The checkpoint was saved when each of two processes held a shard of the mean."""
    directory, _, _ = runs
    run = tmp_path / "run"
    shutil.copytree(directory / "ramp-fsdp", run)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_0000020")
    summary = make_trainer(run, model=Blocks(5), **RAMP).fit()
    expected = make_trainer(tmp_path / "one", **RAMP).fit()
    assert summary.final_valid_loss == pytest.approx(expected.final_valid_loss, abs=1e-5)
    assert read_metrics(run)[-1]["averaged_steps"] == 8


def test_one_process_writes(runs):
    directory, _, _ = runs
    for name, processes in (("ddp", 2), ("fsdp", 2), ("one", 1)):
        environment = json.loads((directory / name / "environment.json").read_text())
        assert environment["processes"] == processes
        assert environment["parallel"] == (name if processes == 2 else None)
        steps = [record["step"] for record in read_metrics(directory / name)]
        assert steps == sorted(steps)
        lines = (directory / name / "samples.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, STEPS // 2, STEPS]
    # Sampling begins from the same random states in both, and these have dropped nothing in between.
    texts = [(directory / name / "samples.jsonl").read_text() for name in ("ddp", "fsdp", "one")]
    assert texts[0] == texts[1] == texts[2]


def test_evaluation_together_is_evaluation_alone(runs):
    _, seen, _ = runs
    for alone, together in [*seen[0]["evaluations"][:3], *seen[1]["evaluations"][:3]]:
        assert together == pytest.approx(alone, abs=1e-12)
    assert seen[0]["evaluations"][3] == [0, 1]
    assert seen[0]["evaluations"][4] == seen[1]["evaluations"][4] == seen[0]["ddp"]["sums"]


def test_both_end_together(runs):
    """A loss that is not finite in one of them ends both, and so does the clock of rank 0."""
    directory, seen, _ = runs
    assert seen[0]["ends"] == seen[1]["ends"]
    diverged, (status, steps, made) = seen[0]["ends"]
    assert diverged == ["diverged", "loss or gradient norm not finite at step 3"]
    assert status == "completed"
    assert steps == made > 0
    assert read_metrics(directory / "in time")[-1]["seconds_total"] <= 30


def test_errors_of_the_writer_are_raised_everywhere(runs):
    _, seen, _ = runs
    assert seen[0]["errors"] == seen[1]["errors"]
    mismatch, no_directory = seen[0]["errors"]
    assert mismatch.startswith("ValueError: ")
    assert "holds a run with another configuration: seed was 3, now 4" in mismatch
    assert no_directory.startswith("FileExistsError: cannot write to the run directory")


def test_nothing_outlives_the_process_group(runs):
    """A reducer that only the garbage collector frees can wait for ever."""
    _, seen, _ = runs
    assert [each["reducers"] for each in seen] == [0, 0]


def test_a_compiler_that_fails_in_one_process_is_used_in_none(runs):
    directory, seen, _ = runs
    words = "torch.compile failed for the training loss ("
    reasons = [
        ["RuntimeError: in another process). The", "its gradient of "],  # FSDP gives the other process's share, too
        ["RuntimeError: no compiler). The", "its loss of the first batch is "],
    ]
    for each, expected in zip(seen, reasons, strict=True):
        for message, reason in zip(each["compiled"], expected, strict=True):
            assert message.startswith(words + reason)
    for name in ("raises", "is wrong"):
        ours, theirs = losses(directory / name), losses(directory / "one")
        for step in range(1, 7):
            assert ours["train", step] == pytest.approx(theirs["train", step], abs=1e-5)


def test_a_compiled_loss_stays_in_one_piece(runs):
    _, seen, _ = runs
    for each in seen:
        assert set(each["pieces"]) == {1}


def test_a_disk_that_is_full_for_one_process_stops_both_and_loses_nothing(runs):
    _, seen, _ = runs
    assert seen[0]["full"] == seen[1]["full"]
    message, kept, status = seen[0]["full"]
    assert message.startswith("cannot save a checkpoint in ")
    assert "No space left on device; free some space" in message
    assert kept == ["step_0000002"]
    assert status == "completed"


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_checkpoints_of_several_processes_are_those_of_one(runs, name):
    """The same files with the same tensors, however the model was sharded; and the random states of all."""
    directory, _, _ = runs
    last, one = (directory / run / "checkpoints" / f"step_{STEPS:07}" for run in (name, "one"))
    assert {path.name for path in last.iterdir()} == {path.name for path in one.iterdir()}
    ours, theirs = (load_file(path / "model.safetensors") for path in (last, one))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in theirs)
    ours, theirs = map(load_states, (last, one))
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]
    assert ours["optimizer"]["state"].keys() == theirs["optimizer"]["state"].keys()
    for number, values in theirs["optimizer"]["state"].items():
        for key, value in values.items():
            assert type(ours["optimizer"]["state"][number][key]) is torch.Tensor
            assert torch.allclose(ours["optimizer"]["state"][number][key], value, atol=1e-4)
    first, second = ours["training"]["random_states"]
    assert not torch.equal(first["torch"], second["torch"])
    (alone,) = theirs["training"]["random_states"]
    assert torch.equal(first["torch"], alone["torch"])


def test_a_dead_process_ends_the_job_and_one_process_goes_on(runs, tmp_path):
    (code, _, errors), (other_code, _, _) = fork_two(lambda: die(tmp_path), tmp_path)
    assert (code, other_code) == (1, -signal.SIGKILL)
    assert "ProcessLostError: process 0 of 2 lost another one, which died or did not answer" in errors
    assert "run the same command again, with as many processes or another number, to resume" in errors
    checkpoints = {path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")}
    assert checkpoints == {"step_0000002", "step_0000004"}
    settings = {"checkpoint_interval": 2, "save_in_background": False}
    assert make_trainer(tmp_path / "run", model=Blocks(5), **settings).fit().status == "completed"
    assert losses(tmp_path / "run") == pytest.approx(losses(runs[0] / "one"), abs=1e-5)


def test_a_signal_to_torchrun_saves(tmp_path):
    """Torchrun and its two processes are forked, which saves two starts of an interpreter and imports of torch."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    def launch():
        options = ["--standalone", "--nproc-per-node", "2", "wait_for_a_signal"]
        config, _, _ = config_from_args(parse_args(options))
        config.rdzv_backend, config.rdzv_endpoint, config.start_method = "c10d", "localhost:0", "fork"
        elastic_launch(config, wait_for_a_signal)(tmp_path)

    process = ForkedProcess(launch, tmp_path / "torchrun", OMP_NUM_THREADS="1")
    run = tmp_path / "run"
    while not (run / "metrics.jsonl").exists() or len(read_metrics(run)) < 10:
        time.sleep(0.05)
        assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    _, _, errors = process.end()
    assert "TrainingInterrupted: interrupted by SIGTERM: saved at step " in errors
    saved = [int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*")]
    assert max(saved) == max(record["step"] for record in read_metrics(run))
    model = Blocks(5)
    assert load_weights(model, run) == max(saved)
