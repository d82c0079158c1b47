"""The version of the installed distribution."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    """Return the installed version, or a local one when the package is imported from a source folder."""
    try:
        return version("scratchlm-trainer")
    except PackageNotFoundError:
        return "0+source"


__version__ = _installed_version()
