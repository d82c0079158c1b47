"""Tests of the site and of the notebooks; `nox -s docs_tests` builds the site first."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ("apps/tinystories", "apps/owt-leaderboard", "packages/trainer")
for folder in ("docs/hooks", *(f"{project}/tests/helpers" for project in HELPERS)):
    sys.path.append(str(ROOT / folder))
from browser import browser as browser  # noqa: E402
from browser import chromium as chromium  # noqa: E402


@pytest.fixture(scope="session")
def site():
    """The folder with the built site."""
    folder = ROOT / "site"
    assert (folder / "index.html").exists(), "there is no site/ yet: `nox -s docs` builds it"
    return folder
