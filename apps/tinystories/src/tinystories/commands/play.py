"""`play`: a web page that writes stories with a model."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Play:
    """Serve a web page on which a trained model writes, with the probability of each token and its alternatives."""

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    port: int = 8000
    """Port; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on: only this machine can reach 127.0.0.1; 0.0.0.0 is open to the network."""
    device: str = "auto"

    def run(self) -> int:
        """Serve until Ctrl-C."""
        if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
            lacking = f"play needs {' and '.join(missing)}, not installed here"
            raise ModuleNotFoundError(f"{lacking}: pip install {' '.join(missing)} (or apps/tinystories[play])")
        from tinystories.playground import play

        play(self.run_directory, self.host, self.port, self.device)
        print("stopped")
        return 0
