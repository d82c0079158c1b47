"""The web application: the page, the facts about the model, and stories as streams of JSON lines."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from functools import cached_property, partial
from importlib.resources import files
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from trainer.experiments.playground.guard import AllowedHosts, Guard
from trainer.experiments.playground.story_request import MAX_BODY_BYTES, RequestError, read_story_request
from trainer.experiments.playground.tokens import Token, write_tokens
from trainer.experiments.runs import ModelPackage

PAGE = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "story.js": "text/javascript",
    "details.js": "text/javascript",
    "connection.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
DISCARDED_BYTES = 64 * MAX_BODY_BYTES  # a client may miss an answer sent before its request was read


class Playground:
    """Request handlers for one model.

    Args:
        models: Functions that let models write.
        model: Model in evaluation mode.
        tokenizer: Its tokenizer.
        facts: Facts shown on the page.
        is_stopping: Returns whether the server is shutting down, which also ends the stories.
    """

    def __init__(
        self,
        models: ModelPackage,
        model: Any,
        tokenizer: Any,
        facts: dict[str, Any],
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.models, self.model, self.tokenizer = models, model, tokenizer
        self.facts, self.is_stopping = facts, is_stopping

    @cached_property
    def _turns(self) -> CapacityLimiter:
        """Admits one token at a time: stories of several pages take turns. Created lazily, inside the event loop."""
        return CapacityLimiter(1)

    async def describe(self, request: Request) -> Response:
        """Send the facts."""
        return JSONResponse(self.facts)

    async def write(self, request: Request) -> Response:
        """Send a line of JSON for each token of a story, and a last one with the reason of its end."""
        try:
            story_request = read_story_request(await _body(request))
            start = partial(write_tokens, self.models, self.model, self.tokenizer, story_request)
            tokens = await to_thread.run_sync(start, limiter=self._turns)
        except RequestError as error:
            return JSONResponse({"error": str(error), "field": error.field}, 400)
        return StreamingResponse(self._lines(tokens), media_type="application/x-ndjson")

    async def _lines(self, tokens: Iterator[Token]) -> AsyncIterator[str]:
        """The lines as they come. A page that disconnects cancels this, and no further token is computed."""
        end = "length"
        while end == "length":
            if self.is_stopping():
                yield _line({"error": "the server was stopped"})
                return
            try:
                token = await to_thread.run_sync(next, tokens, None, limiter=self._turns)
            except (ValueError, RuntimeError) as error:  # logits that are not finite, or no memory left
                yield _line({"error": f"the model cannot continue: {error}"})
                return
            if token is None:
                break
            yield _line({"token": asdict(token)})
            if token.ends:
                end = "end_of_text"
        yield _line({"end": end})


def make_app(playground: Playground, hosts: AllowedHosts) -> Starlette:
    """The application: the page at /, facts about its model at /model, and stories at /story."""
    folder = files(__package__) / "page"
    return Starlette(
        routes=[
            Route("/", partial(_send, (folder / "index.html").read_bytes(), "text/html")),
            *(Route(f"/{name}", partial(_send, (folder / name).read_bytes(), kind)) for name, kind in PAGE.items()),
            Route("/model", playground.describe),
            Route("/story", playground.write, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _explain},
    )


async def _send(content: bytes, media_type: str, request: Request) -> Response:
    return Response(content, media_type=media_type)


async def _explain(request: Request, error: Exception) -> Response:
    """Answer requests for paths and methods that do not exist."""
    assert isinstance(error, HTTPException)
    came = f"{request.method} {request.url.path}"
    return JSONResponse({"error": f"{came}: {error.detail}"}, error.status_code, error.headers)


async def _body(request: Request) -> bytes:
    """The body of a request.

    Raises:
        RequestError: The body is too long. It is read to its end, but not kept.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length <= MAX_BODY_BYTES:
            parts.append(part)
        elif length > DISCARDED_BYTES:
            break
    if length > MAX_BODY_BYTES:
        raise RequestError(f"the request has {length:,} bytes: expected at most {MAX_BODY_BYTES:,}", "prompt")
    return b"".join(parts)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"
