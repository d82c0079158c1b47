"""What a user has told wandb, read without importing it: importing takes a second, and asking must not prompt."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_DEFAULT_URL = "https://api.wandb.ai"
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com", "forge.coreweave.com")
"""Where wandb's own service is, by the names that its versions use."""


def find_wandb_key() -> str | None:
    """Return where wandb would find an API key (a variable's name or a file's path), or None if there is none."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(name):
            return name
    settings, path = _read_settings()
    if settings.get("api_key"):
        return str(path)
    url = wandb_url()
    hosts = _HOSTS if url == _DEFAULT_URL else (urlsplit(url).netloc,)
    for file in _netrc_files():
        try:
            entries = netrc.netrc(file).hosts
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        if any(host in entries and entries[host][2] for host in hosts):
            return str(file)
    return None


def wandb_url() -> str:
    """Return the address of the service."""
    return os.environ.get("WANDB_BASE_URL") or _read_settings()[0].get("base_url") or _DEFAULT_URL


def wandb_mode_setting() -> str | None:
    """Return the mode that WANDB_MODE or `wandb offline` has set, or None."""
    return os.environ.get("WANDB_MODE") or _read_settings()[0].get("mode") or None


def _read_settings() -> tuple[Mapping[str, str], Path]:
    """The user's settings file, written by `wandb login` and `wandb offline`; what is not there or broken is empty."""
    folder = os.environ.get("WANDB_CONFIG_DIR")
    path = (Path(folder) if folder else Path("~", ".config", "wandb")).expanduser() / "settings"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}, path
    return dict(parser["default"]) if parser.has_section("default") else {}, path


def _netrc_files() -> list[Path]:
    if given := os.environ.get("NETRC"):
        return [Path(given).expanduser()]
    return [Path("~", name).expanduser() for name in (".netrc", "_netrc")]
