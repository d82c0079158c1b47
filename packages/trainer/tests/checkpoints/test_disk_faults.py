"""Failing system calls below Python: some of the faults that `checks/disk_faults.py` tries."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "checks" / "disk_faults.py"


@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library, as on Linux")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_some_faults():
    """R12: a run that meets a fault goes on or stops and resumes, and ends bit for bit like one without any."""
    done = subprocess.run([sys.executable, CHECK, "--faults", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 faults: " in done.stdout
    assert "all ended bit for bit like a run without any" in done.stdout
