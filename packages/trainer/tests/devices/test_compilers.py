"""Compilers that are missing, broken or good."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from trainer.devices import check_compilers, compilers

WITHOUT = "--set compile=off"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the pretended compilers are shell scripts")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder in PATH; Triton is pretended to be installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compilers, "find_spec", lambda name: name)
    monkeypatch.setattr(compilers, "sys", SimpleNamespace(platform="linux"))
    return tmp_path


def add(folder, name, script):
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def check(device_type, compiles=True):
    check_compilers(device_type, compiles=compiles, without=WITHOUT)


def test_without_a_compiler_nothing_compiles(folder):
    with pytest.raises(
        ValueError, match=r"needs a C\+\+ compiler, but there is no g\+\+ in PATH \(.*\(--set compile=off\)"
    ):
        check("cpu")
    with pytest.raises(
        ValueError, match=r"CUDA kernels need a C compiler, but there is no gcc and no clang in PATH \("
    ):
        check("cuda", compiles=False)
    check("cpu", compiles=False)
    check("mps", compiles=False)


def test_a_cuda_run_that_compiles_needs_both(folder):
    add(folder, "clang", "exit 0")
    check("cuda", compiles=False)
    with pytest.raises(ValueError, match=r"no g\+\+ in PATH"):
        check("cuda")
    add(folder, "g++", "exit 0")
    check("cuda")


def test_windows_needs_its_own_compiler_for_torch_compile_only(folder, monkeypatch):
    monkeypatch.setattr(compilers, "sys", SimpleNamespace(platform="win32"))
    check("cuda", compiles=False)
    with pytest.raises(ValueError, match=r"no cl in PATH"):
        check("cuda")


def test_a_compiler_that_fails_is_quoted(folder):
    add(folder, "g++", "echo 'In file' >&2; echo 'x.c:1:10: fatal error: Python.h: No such file' >&2; exit 1")
    with pytest.raises(
        ValueError, match=r"g\+\+ fails \(x.c:1:10: fatal error: Python.h: No such file\): .*python3-dev"
    ):
        check("cpu")


def test_the_environment_names_another_compiler(folder, monkeypatch):
    add(folder, "mine", "exit 0")
    monkeypatch.setenv("CXX", "mine")
    check("cpu")
    monkeypatch.setenv("CXX", "absent++")
    with pytest.raises(ValueError, match=r"no absent\+\+ in PATH"):
        check("cpu")


def test_a_process_without_compilers_in_its_path(tmp_path):
    """A real process; Python itself is found by its absolute path."""
    code = f"from trainer.devices import check_compilers; check_compilers('cpu', compiles=True, without={WITHOUT!r})"
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")}
    environment["PATH"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ValueError: torch.compile needs a C++ compiler, but there is no " in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_a_compiler_that_works_is_accepted(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    check("cpu")
