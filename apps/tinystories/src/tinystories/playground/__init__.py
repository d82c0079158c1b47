"""A web page on which a model writes stories, with the probability and the alternatives of each token."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def play(run_dir: Path, host: str, port: int, device: str) -> None:
    """Print the address of the page for the model of a run, and serve it until Ctrl-C."""
    import warnings

    from tinystories.playground.app import Playground, make_app
    from tinystories.playground.facts import model_facts
    from tinystories.playground.guard import AllowedHosts
    from tinystories.playground.server import address_of, is_loopback, listen, make_server, serve, url_of
    from tinystories.writing import load

    with listen(host, port) as listener:
        address = address_of(listener)
        if not is_loopback(address):
            warnings.warn(
                f"--host {host}: anyone who can reach this machine can use the model, without a password", stacklevel=1
            )
        model, tokenizer = load(run_dir, device)
        facts = model_facts(model, tokenizer, run_dir)

        def app(is_stopping: "Callable[[], bool]") -> "Starlette":
            return make_app(Playground(model, tokenizer, facts, is_stopping), AllowedHosts.of(host, address))

        print(f"Playground of {run_dir}: {url_of(listener)} (Ctrl-C stops it)", flush=True)
        serve(make_server(app), listener)
