"""`play`: a web page that writes stories with a model."""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette


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
        from tinystories.playground.app import Playground, make_app
        from tinystories.playground.facts import model_facts
        from tinystories.playground.guard import AllowedHosts
        from tinystories.playground.server import address_of, is_loopback, listen, make_server, serve, url_of
        from tinystories.writing import load

        with listen(self.host, self.port) as listener:
            address = address_of(listener)
            if not is_loopback(address):
                warnings.warn(
                    f"--host {self.host}: anyone who can reach this machine can use the model, without a password",
                    stacklevel=1,
                )
            model, tokenizer = load(self.run_directory, self.device)
            facts = model_facts(model, tokenizer, self.run_directory)

            def app(is_stopping: "Callable[[], bool]") -> "Starlette":
                playground = Playground(model, tokenizer, facts, is_stopping)
                return make_app(playground, AllowedHosts.of(self.host, address))

            print(f"Playground of {self.run_directory}: {url_of(listener)} (Ctrl-C stops it)", flush=True)
            serve(make_server(app), listener)
        print("stopped")
        return 0
