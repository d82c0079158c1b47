"""A web page on which a model writes, with the probability and the alternatives of each token."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from trainer.experiments.runs import App


def play(app: "App", run_dir: Path, host: str, port: int, device: str) -> None:
    """Print the address of the page for the model of a run, and serve it until Ctrl-C."""
    import warnings

    from trainer.experiments.playground.app import Playground, make_app
    from trainer.experiments.playground.facts import model_facts
    from trainer.experiments.playground.guard import AllowedHosts
    from trainer.experiments.playground.server import address_of, is_loopback, listen, make_server, serve, url_of

    with listen(host, port) as listener:
        address = address_of(listener)
        if not is_loopback(address):
            warnings.warn(
                f"--host {host}: anyone who can reach this machine can use the model, without a password", stacklevel=1
            )
        trained = app.load(run_dir, device)
        facts = model_facts(trained, run_dir, app.prompt)

        def page(is_stopping: "Callable[[], bool]") -> "Starlette":
            playground = Playground(app.models, trained.model, trained.tokenizer, facts, is_stopping)
            return make_app(playground, AllowedHosts.of(host, address))

        print(f"Playground of {run_dir}: {url_of(listener)} (Ctrl-C stops it)", flush=True)
        serve(make_server(page), listener)
