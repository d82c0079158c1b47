"""Real full disks and read-only directories: the run stops, and nothing is lost."""

import shutil
import time
from pathlib import Path

import pytest
import torch
from bigram_run import VOCAB_SIZE, loss_fn, make_trainer
from checkpoint_files import state_of
from children import drop_privileges, make_read_only, mount_small_disk, needs_fork, run_in_child
from safetensors.torch import load_file
from torch import nn

from trainer import load_checkpoint, load_weights, save_checkpoint
from trainer.checkpoints import CheckpointStore

pytestmark = [pytest.mark.usefixtures("no_pictures"), needs_fork]
MEGABYTE = 1_000_000
# One checkpoint has 2.6 MB, of which the weights have a third.
SETTINGS = {"steps": 24, "checkpoint_interval": 4, "eval_interval": 100, "keep_checkpoints": 100}


def big_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(VOCAB_SIZE, 64), nn.Linear(64, 2048), nn.ReLU(), nn.Dropout(0.2), nn.Linear(2048, VOCAB_SIZE)
    )


def trained():
    model = big_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.arange(8)[None]).square().mean().backward()
    optimizer.step()
    return model, optimizer


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the directory of a run with enough space."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        make_trainer(run, model=big_model(), **SETTINGS).fit()
    return run


def assert_finishes_like(whole, run, timeless, **settings):
    """Resume the run with an untrained model, and compare its end with that of the other run."""
    make_trainer(run, model=big_model(9), **{**SETTINGS, **settings}).fit()
    ours, theirs = (load_file(path / "checkpoints" / "step_0000024" / "model.safetensors") for path in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert timeless(run) == timeless(whole)


@pytest.fixture(autouse=True)
def no_diff(monkeypatch):
    """Leave the diff of the working tree, which can be large, out of the run directories."""
    monkeypatch.setattr("trainer.records.environment.describe_git", lambda: None)


@pytest.mark.parametrize("in_background", [True, False])
@pytest.mark.parametrize("is_checked", [True, False])
def test_full_disk(tmp_path, whole, timeless, is_checked, in_background):
    """Three checkpoints fit; without the check in advance, the disk is full in the middle of the fourth."""

    def train():
        mount_small_disk(tmp_path, 30 * MEGABYTE)
        ballast, run = tmp_path / "ballast", tmp_path / "run"
        ballast.write_bytes(bytes(20 * MEGABYTE))
        message = (
            r"^no space: .*checkpoints needs 4\.7 MB for a checkpoint, has 2\.\d MB; free some space and run the same"
        )
        usage = shutil.disk_usage
        if not is_checked:
            message = r"^cannot save a checkpoint in .*checkpoints: .*No space left on device.*; free some space"
            shutil.disk_usage = lambda path: usage(path)._replace(free=10**12)
        with pytest.raises(OSError, match=message):
            make_trainer(run, model=big_model(), save_in_background=in_background, **SETTINGS).fit()
        assert names(run) == [f"step_{step:07}" for step in (4, 8, 12)]
        ballast.unlink()
        shutil.disk_usage = usage
        assert_finishes_like(whole, run, timeless, save_in_background=in_background)

    run_in_child(train)


@pytest.mark.parametrize("room", [0.0, 0.4, 1.2, 2.4])
def test_disk_that_is_full_anywhere_in_a_checkpoint(tmp_path, room):
    """In the directory entry, in the weights, in the rest; by the store and by the assignment's pair."""

    def save():
        mount_small_disk(tmp_path, 12 * MEGABYTE)
        store, (model, optimizer) = CheckpointStore(tmp_path / "checkpoints", keep=5), trained()
        store.write(state_of(1, model, optimizer))
        save_checkpoint(model, optimizer, 1, tmp_path / "one.pt")
        free = shutil.disk_usage(tmp_path).free
        (tmp_path / "ballast").write_bytes(bytes(free - int(room * MEGABYTE)))
        with pytest.raises(OSError, match=r"^cannot save a checkpoint in .*No space left on device"):
            store.write(state_of(2, model, optimizer))
        with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device"):
            save_checkpoint(model, optimizer, 2, tmp_path / "one.pt")
        assert names(tmp_path) == ["step_0000001"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ballast", "checkpoints", "one.pt"]
        assert load_weights(big_model(9), tmp_path) == 1
        assert load_checkpoint(tmp_path / "one.pt", big_model(9), None) == 1

    run_in_child(save)


def train_until(run, event, **settings):
    """Train until something happens in step 9, when the checkpoint of step 8 is complete."""
    calls = []

    def loss(model, inputs, targets):
        calls.append(model.training)
        if sum(calls) == 2 * 9:
            while not (run / "checkpoints" / "step_0000008").exists():
                time.sleep(0.001)
            event(run / "checkpoints")
        return loss_fn(model, inputs, targets)

    make_trainer(run, model=big_model(), loss=loss, **{**SETTINGS, **settings}).fit()


def test_files_that_may_not_grow(tmp_path, whole, timeless):
    """A full disk on systems where a test cannot mount one: files must not grow."""
    resource, run = pytest.importorskip("resource"), tmp_path / "run"

    def train():
        with pytest.raises(OSError, match=r"^cannot save a checkpoint in .*: File too large; free some space"):
            train_until(run, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, resource.RLIM_INFINITY)))

    run_in_child(train)
    assert names(run) == ["step_0000004", "step_0000008"]
    assert_finishes_like(whole, run, timeless)


def test_a_record_that_is_cut_short(tmp_path, whole, timeless):
    """The disk is full in the middle of a line of metrics.jsonl."""
    resource, run = pytest.importorskip("resource"), tmp_path / "run"

    def forbid(_):
        size = (run / "metrics.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))

    def train():
        with pytest.raises(OSError, match=r"File too large: '.*metrics.jsonl'$"):
            train_until(run, forbid, checkpoint_interval=8)

    run_in_child(train)
    assert not (run / "metrics.jsonl").read_bytes().endswith(b"\n")
    assert names(run) == ["step_0000008"]
    assert_finishes_like(whole, run, timeless, checkpoint_interval=8)


def test_directory_without_permission(tmp_path, whole, timeless):
    run = tmp_path / "run"

    def train():
        drop_privileges()
        message = (
            r"^cannot save a checkpoint in .*checkpoints: Permission denied; free some space or permit it, and run"
        )
        with pytest.raises(PermissionError, match=message):
            train_until(run, lambda path: path.chmod(0o500))

    run_in_child(train)
    (run / "checkpoints").chmod(0o700)
    assert names(run) == ["step_0000004", "step_0000008"]
    assert_finishes_like(whole, run, timeless)


def test_run_directory_without_permission(tmp_path):
    tmp_path.chmod(0o500)

    def train():
        drop_privileges()
        with pytest.raises(
            PermissionError, match=r"cannot write to the run directory .*: Permission denied in .*; choose"
        ):
            make_trainer(tmp_path / "run", **SETTINGS).fit()

    run_in_child(train)
    assert not list(tmp_path.iterdir())


def test_read_only_file_system(tmp_path):
    def train():
        mount_small_disk(tmp_path, 30 * MEGABYTE)
        with pytest.raises(OSError, match=r"^cannot save a checkpoint in .*checkpoints: Read-only file system; free"):
            train_until(tmp_path / "run", make_read_only)
        assert names(tmp_path / "run") == ["step_0000004", "step_0000008"]
        assert load_weights(big_model(9), tmp_path / "run") == 8

    run_in_child(train)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_pair_into_an_open_file_on_a_full_disk():
    model, optimizer = trained()
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(model, optimizer, 1, file)
