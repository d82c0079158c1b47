"""Headless Chromium, which the tests of the playground start, too."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ("apps/tinystories/tests/helpers", "packages/trainer/tests/helpers")
sys.path[:0] = [str(ROOT / folder) for folder in HELPERS]

from browser import browser as browser  # noqa: E402
from browser import chromium as chromium  # noqa: E402
