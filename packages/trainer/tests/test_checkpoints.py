import copy
import io
import json
import shutil
import warnings

import pytest
import torch
from bigram_run import make_model
from torch import nn

from trainer import load_checkpoint, load_weights, save_checkpoint
from trainer.checkpoints import CheckpointStore
from trainer.state_dicts import get_model_state, set_model_state


def trained(seed=0, steps=3):
    """A model and its optimizer after a few updates."""
    model = make_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.arange(8)[None]).square().mean().backward()
        optimizer.step()
    return model, optimizer


def same(first, second):
    """Whether two nested states are equal to the bit, data types included."""
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
    """Names its content like DistributedDataParallel."""

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
        store.save(step, *trained(seed=step), {"step": step}, loss)


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_store_keeps_the_last_ones_and_the_best(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    fill(store, {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 1.5})
    assert names(store) == ["step_0000002", "step_0000004", "step_0000005"]
    content = store.load_latest()
    assert content.training == {"step": 5}
    assert same(content.model, dict(trained(seed=5)[0].state_dict()))
    assert same(content.optimizer, trained(seed=5)[1].state_dict())


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


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped bit": flip_bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "missing": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["model.safetensors", "state.pt", "meta.json"])
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, file, damage):
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    fill(store, {1: 3.0, 2: 2.0})
    if (file, damage) == ("meta.json", "flipped bit"):
        meta = store.directory / "step_0000002" / file
        meta.write_text(meta.read_text().replace('"scratchlm', '"scratchln'))
    else:
        DAMAGES[damage](store.directory / "step_0000002" / file)
    with pytest.warns(RuntimeWarning, match=r"checkpoint .*step_0000002 is damaged .*the one before it is used"):
        assert store.load_latest().training == {"step": 1}
    assert names(store) == ["step_0000001", "step_0000002.damaged"]
    fill(store, {2: 1.0})
    assert names(store) == ["step_0000001", "step_0000002", "step_0000002.damaged"]


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
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert store.load_latest() is None


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
    store.save(1, *trained(seed=8), {"step": "again"}, 2.0)
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
    store.save(1, model, torch.optim.SGD(model.parameters(), lr=0.1), {}, None)
    other = Tied()
    load_weights(other, tmp_path)
    assert same(dict(model.state_dict()), dict(other.state_dict()))
    assert other.head.weight is other.embedding.weight


def test_metadata_is_plain_json(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    fill(store, {12: 0.5})
    meta = json.loads((store.directory / "step_0000012" / "meta.json").read_text())
    assert (meta["format"], meta["version"], meta["step"], meta["valid_loss"]) == ("scratchlm-checkpoint", 1, 12, 0.5)
    assert {len(checksum) for checksum in meta["sha256"].values()} == {64}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.load_latest()
