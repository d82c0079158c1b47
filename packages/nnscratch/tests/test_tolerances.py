"""The check of checks/tolerances.py passes, and fails if a primitive is wrong."""

import importlib.util
from pathlib import Path

import pytest
import torch

CHECK = Path(__file__).resolve().parents[1] / "checks" / "tolerances.py"


@pytest.fixture(scope="module")
def check():
    if not CHECK.exists():
        pytest.skip(f"no {CHECK}: it is only in the repository")
    spec = importlib.util.spec_from_file_location("tolerances", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_primitive_is_within_its_tolerance(check):
    torch.manual_seed(0)
    rows = [*check.layers(), *check.model(), *check.training()]
    assert len({problem for problem, _, _ in rows}) == 14
    for problem, largest, allowed in rows:
        assert largest < 3 * allowed, problem  # processors sum in different orders


def test_a_wrong_primitive_is_found(check, monkeypatch, capsys):
    monkeypatch.setattr(check, "training", list)
    monkeypatch.setattr(check, "softmax", lambda x, dim: (x - x.mean(dim, keepdim=True)).softmax(dim) + 2e-6)
    assert check.main() == 1
    assert "softmax                                    2.0e-06       1e-06" in capsys.readouterr().out
