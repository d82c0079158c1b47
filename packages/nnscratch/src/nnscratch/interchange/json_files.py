"""Reading JSON that others wrote."""

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else; the message ends with `advice`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON ({error}); {advice}") from error
    if isinstance(content, dict):
        return content
    raise ValueError(f"{str(path)!r} holds a {type(content).__name__}, expected an object; {advice}")
