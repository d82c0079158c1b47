import re
import subprocess
import sys

import pytest

import trainer


def test_every_public_name_is_there():
    for name in trainer.__all__:
        assert getattr(trainer, name) is not None
    assert set(trainer.__all__) <= set(dir(trainer))
    assert re.match(r"\d", trainer.__version__)
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'Trainr'; it has BackgroundLogger"):
        trainer.Trainr  # noqa: B018


def test_import_is_light():
    heavy = {"torch", "numpy", "matplotlib", "wandb", "tensorboard"}
    program = f"import sys, trainer; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
