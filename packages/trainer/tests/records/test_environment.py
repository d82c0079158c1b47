"""The environment of a run."""

import shutil
import subprocess

import pytest

from trainer.records.environment import describe_git


def git(directory, *arguments):
    settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=directory, check=True, capture_output=True)


def test_git_state(tmp_path, monkeypatch):
    shutil.which("git") or pytest.skip("git is not installed")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert describe_git() is None
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    clean = describe_git()
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], clean["diff"]) == (False, "")
    (tmp_path / "code.py").write_text("a = 2\n")
    dirty = describe_git()
    assert dirty["dirty"]
    assert "+a = 2" in dirty["diff"]
    monkeypatch.setenv("PATH", "")
    assert describe_git() is None
