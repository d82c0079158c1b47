import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trainer

README = Path(__file__).parents[1] / "README.md"


def test_every_public_name_is_there():
    for name in trainer.__all__:
        assert getattr(trainer, name) is not None
    assert set(trainer.__all__) <= set(dir(trainer))
    assert re.match(r"\d", trainer.__version__)
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'Trainr'; it has ConsoleLogger"):
        trainer.Trainr  # noqa: B018


def test_import_is_light():
    program = "import sys, trainer; print(sorted({'torch', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_readme_example_runs_and_prints_what_the_readme_says(tmp_path):
    text = README.read_text("utf-8")
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr

    def facts(output):
        """What does not depend on the machine: the first line aside, steps and losses to two digits."""
        return re.findall(r"(train loss|valid loss) +(\d+\.\d\d)", output)

    assert facts(done.stdout) == facts(shown)
    assert (tmp_path / "runs" / "bigram" / "summary.json").exists()
    assert done.stdout.splitlines()[-1] == shown.splitlines()[-1]
