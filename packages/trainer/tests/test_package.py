"""Public names and documented module paths."""

import re
import subprocess
import sys
from importlib import import_module

import pytest
from children import needs_fork
from forked import ForkedProcess

import trainer

MODULES = (
    "checkpoints", "config", "data", "devices", "distributed", "evaluation", "experiments", "grammar", "hub",
    "interruption", "loggers", "records", "sample_corpus", "support", "training",
)  # fmt: skip
DOCUMENTED = {
    "data": ("TokenDataset", "get_batch"),
    "devices": ("autocast", "device_name", "peak_flops", "resolve_device", "resolve_dtype", "synchronize"),
    "grammar": ("Grammar", "pick", "table"),
    "hub": ("DownloadError", "HubDataset", "download"),
    "interruption": ("TrainingInterrupted",),
    "loggers": ("BackgroundLogger", "ConsoleLogger", "JsonlLogger", "Logger", "LoggerGroup", "RunInfo", "WandbLogger"),
    "records": ("RunDirectory", "RunLockedError", "Summary", "read_config", "read_metrics"),
    "sample_corpus": ("documents", "split_of", "write_corpus", "write_splits"),
}


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_every_public_name_is_there():
    for name in trainer.__all__:
        assert getattr(trainer, name) is not None
    assert set(trainer.__all__) <= set(dir(trainer))
    assert re.match(r"\d", trainer.__version__)
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'Trainr'; it has BackgroundLogger"):
        trainer.Trainr  # noqa: B018


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_path_is_there(name):
    module = import_module(f"trainer.{name}")
    assert all(getattr(module, attribute) is not None for attribute in DOCUMENTED[name])


@pytest.mark.parametrize("room", ["data", "devices", "loggers", "records"])
def test_every_name_of_a_room_is_there(room):
    module = import_module(f"trainer.{room}")
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(module.__all__) > 5


@needs_fork
def test_modules_are_attributes_after_a_plain_import(tmp_path):
    """In a process that has imported torch and nothing of this package."""

    def access():
        for name in [name for name in sys.modules if name.partition(".")[0] == "trainer"]:
            del sys.modules[name]
        package = import_module("trainer")
        assert not package.__dict__.keys() & set(MODULES) - {"support"}  # which the package itself uses
        for name in MODULES:
            assert getattr(package, name).__name__ == f"trainer.{name}"
        print(package.hub.download.__name__)

    assert ForkedProcess(access, tmp_path / "process").end() == (0, "download\n", "")


def test_import_is_light():
    heavy = {"torch", "numpy", "scipy", "matplotlib", "wandb", "tensorboard", "huggingface_hub"}
    light = "import sys, trainer, trainer.hub, trainer.grammar, trainer.support.command_line; trainer.parse_duration"
    assert run(f"{light}; trainer.__version__; print(sorted({heavy} & sys.modules.keys()))") == "[]"
