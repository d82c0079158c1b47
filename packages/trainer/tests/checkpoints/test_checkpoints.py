import collections
import copy
import errno
import hashlib
import io
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from bigram_run import Crash, crash, failing_loss, make_model, make_trainer
from checkpoint_files import state_of, trained
from children import drop_privileges, needs_fork, run_in_child
from torch import nn

from trainer import load_checkpoint, load_weights, save_checkpoint
from trainer.checkpoints import CheckpointStore
from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.state_dicts import get_model_state, set_model_state


def same(first, second):
    """Return whether two nested states are equal to the bit, data types included."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("kind", [str, "path", "file"])
def test_pair_round_trip(tmp_path, kind):
    model, optimizer = trained()
    other, other_optimizer = trained(seed=1, steps=1)
    target = {str: str(tmp_path / "c.pt"), "path": tmp_path / "c.pt", "file": io.BytesIO()}[kind]
    save_checkpoint(model, optimizer, 17, target)
    if kind == "file":
        target.seek(0)
    assert load_checkpoint(target, other, other_optimizer) == 17
    assert same(model.state_dict(), other.state_dict())
    assert same(optimizer.state_dict(), other_optimizer.state_dict())


def test_pair_is_loadable_without_trust_and_for_inference(tmp_path):
    model, optimizer = trained()
    save_checkpoint(model, optimizer, 3, tmp_path / "c.pt")
    assert torch.load(tmp_path / "c.pt", weights_only=True)["step"] == 3
    other = make_model(1)
    assert load_checkpoint(tmp_path / "c.pt", other, None) == 3
    assert same(model.state_dict(), other.state_dict())


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    model, optimizer = trained()
    save_checkpoint(model, optimizer, 3, tmp_path / "c.pt")

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(model, optimizer, 4, tmp_path / "c.pt")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert load_checkpoint(tmp_path / "c.pt", model, optimizer) == 3


class Wrapper(nn.Module):
    """Names its parameters like DistributedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, ids):
        return self.module(ids)


WRAPPINGS = {
    "plain": lambda model: model,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": Wrapper,
    "compiled parallel": lambda model: torch.compile(Wrapper(model), backend="eager"),
    "parallel compiled": lambda model: Wrapper(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("saved", WRAPPINGS)
@pytest.mark.parametrize("loaded", WRAPPINGS)
def test_wrapped_models_are_saved_and_loaded_under_plain_names(saved, loaded):
    model, other = make_model(0), make_model(1)
    state = get_model_state(WRAPPINGS[saved](model))
    assert state.keys() == model.state_dict().keys()
    set_model_state(WRAPPINGS[loaded](other), state, "it")
    assert same(model.state_dict(), other.state_dict())


def test_a_submodule_called_module_keeps_its_name():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert get_model_state(model).keys() == model.state_dict().keys()


def test_a_compiled_part_keeps_no_trace():
    model = nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager"))
    assert get_model_state(model).keys() == {"0.weight", "0.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("1.bias"), r"it lacks 1.bias \(1 in all\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"it has the unexpected extra \(1 in all\)"),
        (lambda state: state.update({"1.bias": torch.zeros(3)}), r"1.bias has the shape \(3,\), expected \(32,\)"),
    ],
)
def test_states_that_do_not_fit_change_nothing(change, message):
    model = make_model()
    before, state = copy.deepcopy(model.state_dict()), make_model(1).state_dict()
    change(state)
    with pytest.raises(ValueError, match=f"c.pt does not fit the model: .*{message}"):
        set_model_state(model, state, "c.pt")
    assert same(before, model.state_dict())


def test_optimizer_that_does_not_fit(tmp_path):
    model, optimizer = trained()
    save_checkpoint(model, optimizer, 3, tmp_path / "c.pt")
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    with pytest.raises(ValueError, match="does not fit the optimizer"):
        load_checkpoint(tmp_path / "c.pt", model, torch.optim.AdamW(groups, lr=0.1))


def test_optimizer_state_keeps_its_precision(tmp_path):
    model = nn.Linear(2, 2).to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        optimizer.state[parameter]["average"] = torch.rand(3, dtype=torch.float32)
    save_checkpoint(model, optimizer, 1, tmp_path / "c.pt")
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    load_checkpoint(tmp_path / "c.pt", model, other)
    assert same(optimizer.state_dict(), other.state_dict())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a checkpoint or is damaged"),
        (b"nonsense", "is not a checkpoint or is damaged"),
        (None, "expected model, optimizer and step"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "c.pt"
    if content is None:
        torch.save([1], path)
    else:
        path.write_bytes(content)
    model, optimizer = trained()
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(path, model, optimizer)
    assert "\n" not in str(error.value)


def test_truncated_and_missing_files(tmp_path):
    model, optimizer = trained()
    path = tmp_path / "c.pt"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*c.pt"):
        load_checkpoint(path, model, optimizer)
    save_checkpoint(model, optimizer, 1, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"c.pt is not a checkpoint or is damaged"):
        load_checkpoint(path, model, optimizer)


def fill(store, losses):
    for step, loss in losses.items():
        store.write(state_of(step, *trained(seed=step), {"step": step}, loss))


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_store_keeps_the_last_ones_and_the_best(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    assert store.latest() is None
    fill(store, {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 1.5})
    assert names(store) == ["step_0000002", "step_0000004", "step_0000005"]
    (store.directory / "step_0000006.damaged").mkdir()  # as one that could not be read is set aside
    assert store.latest() == store.directory / "step_0000005"
    content = store.load_latest()
    assert content.training == {"step": 5}
    assert same(content.model, dict(trained(seed=5)[0].state_dict()))
    assert same(content.optimizer, trained(seed=5)[1].state_dict())


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")
def test_whoever_may_read_the_state_may_read_the_weights(tmp_path):
    """safetensors 0.8 lets only the owner read."""
    before = os.umask(0o027)
    try:
        fill(CheckpointStore(tmp_path, keep=1), {1: 1.0})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "step_0000001").iterdir()} == {0o640}


def test_store_keeps_the_first_of_each_span_of_training(tmp_path):
    """One for every 10 seconds from 10 on; the choice must not change when others have been removed."""
    store = CheckpointStore(tmp_path / "checkpoints", keep=2, keep_every_seconds=10.0)
    seconds = [2.0, 9.9, 10.0, 11.0, 19.0, 41.0, 49.0, 50.5, 51.0, 52.0, 53.0]
    for step, elapsed in enumerate(seconds):
        store.write(state_of(step, *trained(), {}, 0.5 if step == 1 else 1.0, elapsed))
        firsts = {int(earlier // 10): number for number, earlier in reversed(list(enumerate(seconds[: step + 1])))}
        firsts.pop(0, None)
        expected = {*range(max(0, step - 1), step + 1), *([1] if step else []), *firsts.values()}
        assert names(store) == [f"step_{number:07}" for number in sorted(expected)]
    assert names(store) == [f"step_{number:07}" for number in (1, 2, 5, 7, 9, 10)]


def test_nothing_is_written_where_there_is_no_room(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0})
    (store.directory / ".aside-untouched").mkdir()
    usage = shutil.disk_usage(tmp_path)
    for free, total, fits in [(7_000_000, 10**9, False), (20_000_000, 10**9, True), (0, 0, True)]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free, total=total))  # noqa: B023
        if fits:  # a file system that has no size does not know
            store.check_space(8_000_000)
            continue
        with pytest.raises(
            OSError, match=r"^no space: .*checkpoints needs [\d.]+ MB for a checkpoint, has 7\.0 MB"
        ) as e:
            store.check_space(8_000_000)
        assert str(e.value).endswith(
            "; free some space and run the same command again: the earlier checkpoints are intact"
        )
        assert e.value.errno == 28
        assert names(store) == [".aside-untouched", "step_0000001"]


@pytest.mark.parametrize("tied", [False, True])
def test_estimated_size_is_about_that_on_the_disk(tmp_path, tied):
    model = nn.Sequential(nn.Linear(500, 500), nn.Linear(500, 500))
    if tied:
        model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 500)).sum().backward()
    optimizer.step()
    training = {"numbers": torch.zeros(1000), "same": torch.zeros(1000)}
    state = CheckpointState(1, get_model_state(model), optimizer.state_dict(), training)
    path = CheckpointStore(tmp_path / "checkpoints", keep=1).write(state)
    size = sum(file.stat().st_size for file in path.iterdir())
    assert state.num_bytes() <= size <= 1.01 * state.num_bytes() + 10_000


def test_weights_for_inference_are_the_best(tmp_path):
    fill(CheckpointStore(tmp_path / "checkpoints", keep=2), {1: 3.0, 2: 1.0, 3: 2.0, 4: None})
    model = make_model(9)
    assert load_weights(model, tmp_path) == 2
    assert same(model.state_dict(), trained(seed=2)[0].state_dict())
    shutil.rmtree(tmp_path / "checkpoints" / "step_0000002")
    assert load_weights(model, str(tmp_path)) == 3


def test_weights_without_any_validation_loss_are_the_latest(tmp_path):
    fill(CheckpointStore(tmp_path / "checkpoints", keep=5), {1: None, 2: None})
    assert load_weights(make_model(), tmp_path) == 2


def test_weights_that_are_not_trained_are_the_best_only_without_others(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    fill(store, {0: 3.7})
    assert (load_weights(make_model(), tmp_path), store.best()) == (0, store.directory / "step_0000000")
    fill(store, {1: None})
    assert (load_weights(make_model(), tmp_path), store.best()) == (1, store.directory / "step_0000001")
    fill(store, {2: 5.0})
    assert names(store) == ["step_0000001", "step_0000002"]
    assert load_weights(make_model(), tmp_path) == 2


def test_weights_of_a_run_with_a_time_limit_are_trained(tmp_path):
    """The first checkpoint, which measures the time of a save, is the only one that was evaluated."""
    loss = failing_loss(100, crash)
    settings = {"time_limit_seconds": 1000.0, "eval_interval": 1000, "checkpoint_interval": 40}
    with pytest.raises(Crash):
        make_trainer(tmp_path, loss=loss, **settings).fit()
    assert load_weights(make_model(9), tmp_path) == 40


def test_weights_of_one_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=5)
    fill(store, {1: 1.0, 2: 2.0})
    for step in (1, 2):
        model = make_model(9)
        assert load_weights(model, store.directory / f"step_{step:07}") == step
        assert same(model.state_dict(), trained(seed=step)[0].state_dict())
    copied = shutil.copytree(store.directory / "step_0000002", tmp_path / "elsewhere")
    assert load_weights(make_model(), str(copied)) == 2
    flip_bit(copied / "model.safetensors")
    with pytest.raises(ValueError, match=r"elsewhere is damaged \(the checksum of model.safetensors is wrong\); use"):
        load_weights(make_model(), copied)
    (copied / "meta.json").unlink()
    with pytest.raises(ValueError, match=r"elsewhere is damaged \(meta.json is missing\); use another one"):
        load_weights(make_model(), copied)


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped bit": (flip_bit, "the checksum of FILE is wrong"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:100]), r"FILE has 100 bytes, expected [\d,]+"),
    "missing": (lambda path: path.unlink(), "FILE is missing"),
    "emptied": (lambda path: path.write_bytes(b""), r"FILE has 0 bytes, expected [\d,]+"),
}


def change_loss(path):
    path.write_text(path.read_text().replace('"valid_loss": 2.0', '"valid_loss": 0.0'))


DAMAGES_OF_META = {
    "another number": (change_loss, "the checksum of FILE is wrong"),
    "another format": (lambda path: path.write_text('{"format": "x"}'), "FILE does not describe a checkpoint"),
    "a list": (lambda path: path.write_text("[1]"), "FILE does not describe a checkpoint"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:100]), "FILE is not JSON"),
    "garbage": (lambda path: path.write_bytes(bytes(range(256))), "FILE is not JSON"),
    "emptied": (lambda path: path.write_bytes(b""), "FILE is not JSON"),
    "missing": (lambda path: path.unlink(), "FILE is missing"),
    "no checksums": (
        lambda path: path.write_text('{"format": "scratchlm-checkpoint", "version": 2}'),
        "FILE has no checksums of the other files",
    ),
}
CASES = [
    *((file, *case) for file in ("model.safetensors", "optimizer.pt", "state.pt") for case in DAMAGES.values()),
    *(("meta.json", *case) for case in DAMAGES_OF_META.values()),
]


@pytest.mark.parametrize(("file", "damage", "message"), CASES)
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, file, damage, message):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0, 2: 2.0})
    path = store.directory / "step_0000002"
    damage(path / file)
    named = rf"checkpoint {path} is damaged \({message.replace('FILE', file)}\)"
    model = make_model(9)
    with pytest.warns(RuntimeWarning, match=f"^{named}; another is used$") as caught:
        assert load_weights(model, tmp_path) == 1
    assert same(model.state_dict(), trained(seed=1)[0].state_dict())
    assert len(caught) == 1
    with pytest.warns(RuntimeWarning, match=f"^{named}; the one before it is used$"):
        assert store.load_latest().training == {"step": 1}
    assert names(store) == ["step_0000001", "step_0000002.damaged"]
    fill(store, {2: 1.0})
    assert names(store) == ["step_0000001", "step_0000002", "step_0000002.damaged"]


def test_files_that_are_whole_but_not_what_they_should_be(tmp_path):
    """The checksums match: somebody has replaced the files."""
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 1.0})
    for file, content in dict.fromkeys(("model.safetensors", "optimizer.pt", "state.pt"), b"nonsense").items():
        fill(store, {2: 1.0})
        path = store.directory / "step_0000002"
        meta = json.loads((path / "meta.json").read_text())
        (path / file).write_bytes(content)
        meta["bytes"][file], meta["sha256"][file] = len(content), hashlib.sha256(content).hexdigest()
        del meta["checksum"]
        meta["checksum"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
        (path / "meta.json").write_text(json.dumps(meta))
        with pytest.warns(
            RuntimeWarning, match=rf"step_0000002 is damaged \({file} cannot be read: .*\); the one before"
        ):
            assert store.load_latest().training == {"step": 1}


@pytest.mark.parametrize("version", [1, 4, None])
def test_checkpoints_of_another_version_are_refused_and_not_called_damaged(tmp_path, version):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0, 2: 2.0})
    meta = store.directory / "step_0000002" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "version": version}))
    message = (
        rf"^checkpoint .*step_0000002 has version {version} of the format, expected 3 or 2: use the version of this "
        r"package that wrote it \(environment.json of the run names it\), or train in another run directory$"
    )
    for read in (store.load_latest, lambda: load_weights(make_model(), meta.parent)):
        with pytest.raises(ValueError, match=message):
            read()
    assert names(store) == ["step_0000001", "step_0000002"]


def test_version_2_had_the_optimizer_in_state_pt(tmp_path):
    store, (model, optimizer) = CheckpointStore(tmp_path / "checkpoints", keep=3), trained()
    path = store.write(state_of(5, model, optimizer, {"counts": 3}, valid_loss=1.5, seconds=2.5))
    expected = store.load_latest()
    torch.save(torch.load(path / "optimizer.pt") | torch.load(path / "state.pt"), path / "state.pt")
    (path / "optimizer.pt").unlink()
    meta = json.loads((path / "meta.json").read_text()) | {"version": 2}
    for values in (meta["bytes"], meta["sha256"]):
        del values["optimizer.pt"]
    content = (path / "state.pt").read_bytes()
    meta["bytes"]["state.pt"], meta["sha256"]["state.pt"] = len(content), hashlib.sha256(content).hexdigest()
    del meta["checksum"]
    meta["checksum"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps(meta))
    assert repr(store.load_latest()) == repr(expected)
    other = make_model(9)
    assert load_weights(other, tmp_path) == 5
    assert same(other.state_dict(), model.state_dict())


@needs_fork
def test_a_checkpoint_without_permission_is_not_called_damaged(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0, 2: 2.0})
    (store.directory / "step_0000002" / "model.safetensors").chmod(0)

    def read():
        drop_privileges()
        with pytest.raises(PermissionError, match=r"step_0000002/model.safetensors"):
            store.load_latest()

    run_in_child(read)
    assert names(store) == ["step_0000001", "step_0000002"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.pt", "meta.json"])
def test_a_file_that_the_disk_cannot_read_is_damaged(tmp_path, monkeypatch, file):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0, 2: 2.0})
    path, open_ = store.directory / "step_0000002" / file, Path.open

    def open_or_fail(self, *arguments, **options):
        if self == path:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return open_(self, *arguments, **options)

    def read_text(self, encoding):
        with self.open(encoding=encoding) as opened:
            return opened.read()

    monkeypatch.setattr(Path, "open", open_or_fail)
    monkeypatch.setattr(Path, "read_text", read_text)  # in some versions it opens files in its own way
    message = rf"step_0000002 is damaged \(the disk cannot read {file}\); "
    with pytest.warns(RuntimeWarning, match=f"{message}another is used"):
        assert load_weights(make_model(), tmp_path) == 1
    with pytest.warns(RuntimeWarning, match=f"{message}the one before it is used"):
        assert store.load_latest().training == {"step": 1}


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_the_best_checkpoint_is_not_pruned_because_it_could_not_be_read_once(tmp_path, monkeypatch, number):
    """R5: such as an I/O error, or too many open files."""
    store, read_text = CheckpointStore(tmp_path / "checkpoints", keep=1), Path.read_text
    fill(store, {1: 1.0, 2: 2.0})

    def read_or_fail(self, encoding):
        if self.parent.name == "step_0000001":
            raise OSError(number, os.strerror(number))
        return read_text(self, encoding)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", read_or_fail)
        fill(store, {3: 3.0})
    assert load_weights(make_model(), tmp_path) == 1
    (store.directory / "step_0000001" / "meta.json").write_text("{}")  # damaged, so of no use
    fill(store, {4: 4.0})
    assert names(store) == ["step_0000002", "step_0000004"]


@pytest.mark.usefixtures("no_pictures")
def test_leftovers_of_the_last_save_are_removed(tmp_path, monkeypatch):
    rmtree, removed = shutil.rmtree, []

    def fail_once_at_the_end(path, *arguments, **options):
        removed.append(Path(path).name)
        if removed[-1] == ".aside-step_0000006" and len(removed) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return rmtree(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", fail_once_at_the_end)
    with pytest.warns(RuntimeWarning, match="step_0000006 cannot be removed: Input/output error"):
        make_trainer(tmp_path, keep_checkpoints=1, eval_interval=100, steps=12).fit()
    assert names(CheckpointStore(tmp_path / "checkpoints", keep=1)) == ["step_0000012"]


@pytest.mark.parametrize("failing", ["rename", "rmtree"])
def test_an_old_checkpoint_that_cannot_be_removed_stops_nothing(tmp_path, monkeypatch, failing):
    run, rename, rmtree = tmp_path / "run", Path.replace, shutil.rmtree
    forbidden = [True]

    def rename_or_fail(self, target):
        if forbidden and failing == "rename" and self.name.startswith("step_"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    def rmtree_or_fail(path, *arguments, **options):
        if forbidden and failing == "rmtree":
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return rmtree(path, *arguments, **options)

    monkeypatch.setattr(Path, "replace", rename_or_fail)
    monkeypatch.setattr(shutil, "rmtree", rmtree_or_fail)
    monkeypatch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    with (
        pytest.warns(
            RuntimeWarning, match="step_0000006 cannot be removed: .*; training continues, and later"
        ) as caught,
        pytest.raises(Crash),
    ):
        make_trainer(run, loss=failing_loss(100, crash), keep_checkpoints=1, eval_interval=100).fit()
    assert len(caught) == 1
    assert load_weights(make_model(), run) == 48
    assert len(list((run / "checkpoints").iterdir())) == 8
    forbidden.clear()
    make_trainer(run, model=make_model(9), keep_checkpoints=1, eval_interval=100).fit()
    assert names(CheckpointStore(run / "checkpoints", keep=1)) == ["step_0000060"]


def test_nothing_intact(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    assert store.load_latest() is None
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*checkpoints"):
        load_weights(make_model(), tmp_path)
    fill(store, {1: 3.0})
    flip_bit(store.directory / "step_0000001" / "model.safetensors")
    with (
        pytest.warns(RuntimeWarning, match="damaged"),
        pytest.raises(ValueError, match=r"every checkpoint in .* damaged"),
    ):
        load_weights(make_model(), tmp_path)
    for _ in range(2):  # it is left as it is: nobody has begun anew by himself
        with (
            pytest.warns(
                RuntimeWarning, match=r"step_0000001 is damaged \(the checksum of model.safetensors is wrong\)$"
            ),
            pytest.raises(ValueError, match=r"every checkpoint in .* is damaged: .* or remove them to begin anew"),
        ):
            store.load_latest()
    assert names(store) == ["step_0000001"]


def test_failed_save_is_one_line_and_leaves_the_others(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0})

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"cannot save a checkpoint in .*: No space left on device; free some space"):
        fill(store, {2: 2.0})
    assert names(store) == ["step_0000001"]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0})
    (store.directory / ".aside-step_0000002").mkdir()
    (store.directory / ".aside-step_0000002" / "model.safetensors").write_bytes(b"half")
    store.remove_leftovers()
    assert names(store) == ["step_0000001"]


def test_saving_a_step_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0})
    store.write(state_of(1, *trained(seed=8), {"step": "again"}, 2.0))
    assert names(store) == ["step_0000001"]
    assert store.load_latest().training == {"step": "again"}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("rows", torch.arange(12.0).view(3, 4)[:, ::2])


def test_tied_weights_and_views(tmp_path):
    model = Tied()
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    store.write(state_of(1, model, torch.optim.SGD(model.parameters(), lr=0.1)))
    other = Tied()
    load_weights(other, tmp_path)
    assert same(dict(model.state_dict()), dict(other.state_dict()))
    assert other.head.weight is other.embedding.weight


def test_metadata_is_plain_json(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    fill(store, {12: 0.5})
    meta = json.loads((store.directory / "step_0000012" / "meta.json").read_text())
    assert (meta["format"], meta["version"], meta["step"], meta["valid_loss"]) == ("scratchlm-checkpoint", 3, 12, 0.5)
    assert {len(checksum) for checksum in meta["sha256"].values()} == {64}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.load_latest()


def optimizer_of_numpy(model):
    groups = [{"params": list(model.parameters()), "lr_scale": np.sqrt(0.25)}]
    return torch.optim.AdamW(groups, lr=np.float64(1.0), betas=(np.float64(0.9), 0.99), weight_decay=np.float32(0.1))


def test_numbers_of_numpy_in_an_optimizer_can_be_read_again(tmp_path):
    """R11: each of its checkpoints was called damaged."""
    model = make_model()
    make_trainer(tmp_path / "run", model=model, optimizer=optimizer_of_numpy(model), steps=6).fit()
    assert load_weights(make_model(), tmp_path / "run") == 6
    model = make_model()
    optimizer = optimizer_of_numpy(model)
    assert make_trainer(tmp_path / "run", model=model, optimizer=optimizer, steps=12).fit().steps == 12
    save_checkpoint(model, optimizer, 12, tmp_path / "one.pt")
    assert load_checkpoint(tmp_path / "one.pt", model, optimizer) == 12


class Remembering:
    """A callback with a state."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


@pytest.mark.parametrize(
    "value", [np.float32(2.5), {"a": {1, 2}}, (1, None), collections.Counter("ab"), torch.float16, torch.ones(2)]
)
def test_states_that_a_checkpoint_holds(tmp_path, value):
    make_trainer(tmp_path / "run", callbacks=[Remembering(value)], steps=6).fit()
    callback = Remembering(None)
    make_trainer(tmp_path / "run", callbacks=[callback], steps=12).fit()
    assert same(callback.value, value)


@pytest.mark.parametrize("value", [collections.deque([1]), np.zeros(2), Path("x"), torch.Generator()])
def test_states_that_could_not_be_read_again_are_refused_before_the_first_step(tmp_path, value):
    """R11: they were written, and the run could not go on."""
    trainer = make_trainer(tmp_path / "run", callbacks=[Remembering(value)])
    with pytest.raises(TypeError, match=r"callbacks.states\[0\]\[1\].value is a .*, which a checkpoint cannot hold"):
        trainer.fit()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_weights_that_are_cut_short_are_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match=re.escape(f"the weights in {tmp_path} are damaged (model.safetensors cannot")):
        load_weights(make_model(), tmp_path)
