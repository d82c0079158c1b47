"""Two processes on a CPU: losses that count targets, float16, callbacks, compiled updates and background saves."""

import sys

import pytest
import torch
from distributed_options import OVERFLOW, WAYS, counted_loss, train_with_options
from distributed_run import Blocks
from forked import fork_two
from safetensors.torch import load_file

from trainer import read_metrics

pytestmark = [
    pytest.mark.usefixtures("no_pictures"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make all runs in two processes, and return their directory and what the two saw."""
    directory = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        ends = fork_two(lambda: train_with_options(directory), directory)
    for code, output, errors in ends:
        assert (code, output) == (0, ""), errors
    return directory, [torch.load(directory / f"rank{rank}.pt") for rank in (0, 1)]


def are_equal(first, second):
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_of_a_counted_loss_is_that_of_the_whole_batch(runs, way):
    """R6: the processes have different numbers of targets that count."""
    directory, seen = runs
    (_, gradients), (_, same) = (each[f"counted {way}"] for each in seen)
    model = Blocks()
    batches = [(*batch, rank) for rank, each in enumerate(seen) for batch in each[f"counted {way}"][0]]
    assert len(batches) == 2 * 3
    total, count = (sum(parts) for parts in zip(*(counted_loss(model, *batch) for batch in batches), strict=True))
    (total / count).backward()
    assert are_equal(gradients, same)
    for ours, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=0, atol=1e-6)
    record = next(record for record in read_metrics(directory / f"counted-{way}") if record["event"] == "train")
    assert record["loss"] == pytest.approx((total / count).item(), abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_that_overflows_in_one_process_is_skipped_by_both(runs, way):
    """R34: float16, in several processes."""
    directory, seen = runs
    (scales, found, updates, weights), other = (each[f"float16 {way}"] for each in seen)
    assert (scales, found, updates) == other[:3]
    assert are_equal(weights, other[3])
    assert scales == [2.0**16] * (OVERFLOW - 1) + [2.0**15] * (6 - OVERFLOW + 1)
    assert [bool(value) for value in found] == [step == OVERFLOW for step in range(1, 7)]
    assert updates == 5
    assert [
        record["step"] for record in read_metrics(directory / f"float16-{way}") if record["event"] == "skipped"
    ] == [OVERFLOW]
    assert all(weight.isfinite().all() for weight in weights)


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_stops_one_process_stops_both(runs, way):
    directory, seen = runs
    assert seen[0][f"stopped {way}"] == seen[1][f"stopped {way}"] == ("stopped", 4)
    assert (directory / f"stopped-{way}" / "checkpoints" / "step_0000004").exists()


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_may_share_its_work_during_the_run(runs, way):
    _, seen = runs
    assert [each[f"shared {way}"] for each in seen] == [[2, None]] * 2


def test_compiled_updates_keep_the_processes_equal(runs):
    """Of two optimizers one compiles."""
    _, seen = runs
    for each in seen:
        calls, message, weights = each["on"]
        assert (calls, message) == ([{"fullgraph": True}] * 3, "")
        assert each["off"][:2] == ([], "")
        assert are_equal(weights, seen[0]["on"][2])
        torch.testing.assert_close(weights, each["off"][2], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("fails", ["RuntimeError: in another process", "RuntimeError: no compiler"]),
        ("differs", ["its first update differs between processes"] * 2),
    ],
)
def test_an_update_that_does_not_compile_everywhere_is_eager_everywhere(runs, name, reasons):
    _, seen = runs
    for each, reason in zip(seen, reasons, strict=True):
        calls, message, weights = each[name]
        assert len(calls) == 1
        assert message.startswith(
            f"torch.compile failed for the update of Momentum ({reason}). The whole message is in "
        )
        assert are_equal(weights, seen[0][name][2])
        torch.testing.assert_close(weights, each["off"][2], rtol=0, atol=1e-5)


def test_sharded_states_are_written_while_training_goes_on(runs):
    directory, _ = runs
    ours, theirs = (
        load_file(directory / name / "checkpoints" / "step_0000002" / "model.safetensors")
        for name in ("background", "foreground")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["background", "foreground"])
def test_a_failed_save_ends_all_processes_with_its_error(runs, name):
    """In the background, the processes learn of it at the start of the same later step."""
    directory, seen = runs
    assert seen[0][name] == seen[1][name]
    message, passes, is_connected = seen[0][name]
    assert message.startswith("cannot save a checkpoint in ")
    assert "No space left on device; free some space" in message
    assert passes == 12 if name == "foreground" else 15 <= passes <= 18
    assert not is_connected
    assert [path.name for path in (directory / name / "checkpoints").iterdir()] == ["step_0000002"]
