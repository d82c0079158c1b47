"""The compiled loss as torch would run it on an H100, which need not be present."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("triton.backends.nvidia", reason="the compiler of torch writes Triton programs")

if tuple(int(part) for part in version("torch").split(".")[:2]) < (2, 13):
    pytest.skip("the check replaces private functions of torch 2.13", allow_module_level=True)

CHECK = Path(__file__).parents[1] / "checks/lowered_for_cuda.py"


@pytest.mark.parametrize(("windows", "soft_cap"), [(128, "0"), pytest.param(260, "15", marks=pytest.mark.slow)])
def test_the_compiled_loss_keeps_two_buffers_of_logits(windows, soft_cap):
    """8 chunks of 8,192 positions, and 16 of 8,320; as nothing is executed, sizes cost no time."""
    if not CHECK.exists():
        pytest.skip(f"no {CHECK}: it is only in the repository")
    # In a process of its own, because the check lets torch find a GPU.
    command = [sys.executable, str(CHECK), "--loss-only", "--d-model", "128", "--soft-caps", soft_cap]
    command += ["--windows", str(windows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    forward, backward = (line.split("|")[2:5] for line in done.stdout.splitlines()[2:])
    assert [cell.strip() for cell in forward] == ["forward", "2", "0"]
    assert [cell.strip() for cell in backward] == ["backward", "0", "0"]


@pytest.mark.slow
def test_a_model_of_another_package_is_lowered(tmp_path):
    if not CHECK.exists():
        pytest.skip(f"no {CHECK}: it is only in the repository")
    lines = (
        "from nnscratch import TransformerConfig, TransformerLM",
        "def mine():",
        "    return TransformerLM(TransformerConfig(96, 32, 256, 1, 2, 256, logit_soft_cap=7.0))",
    )
    (tmp_path / "model.py").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, str(CHECK), "--model", f"{tmp_path / 'model.py'}:mine", "--windows", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines()[2:]]
    assert rows == [["7", "forward"], ["7", "backward"]]
