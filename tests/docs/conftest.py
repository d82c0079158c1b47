"""Helpers of the projects' tests: headless Chromium, and records of synthetic runs."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("apps/tinystories/tests/helpers", "packages/trainer/tests/helpers"):
    sys.path.append(str(ROOT / folder))
from browser import browser as browser  # noqa: E402
from browser import chromium as chromium  # noqa: E402
