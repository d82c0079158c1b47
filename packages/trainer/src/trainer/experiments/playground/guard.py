"""Access control: only the server's own page may use it, no other web site.

A page of a foreign site can send requests to this machine (CSRF), and can let its own name point here to pose as our
page (DNS rebinding). Browsers put the name that was used into `Host` and the origin of the page into `Origin`; a page
can change neither.
"""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
RESPONSE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class AllowedHosts:
    """Names under which the server may be addressed."""

    names: frozenset[str]
    """In lower case."""
    any_address: bool
    """Also allow every IP address, because no site can redirect one."""

    @classmethod
    def of(cls, host: str, address: str) -> "AllowedHosts":
        """The names of a server that was asked to listen at `host` and does so at the IP address `address`."""
        given = ipaddress.ip_address(address)
        names = {host.lower(), address}
        if given.is_loopback or given.is_unspecified:
            names |= LOOPBACK_NAMES
        if given.is_unspecified:
            names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        return cls(frozenset(names), any_address=given.is_unspecified)

    def allow(self, name: str) -> bool:
        """Return True if a name is allowed."""
        return name in self.names or (self.any_address and _is_address(name))


def refusal(method: str, headers: Mapping[str, str], hosts: AllowedHosts) -> tuple[int, str] | None:
    """The HTTP status and the reason to refuse a request; None to accept it."""
    host = headers.get("host", "")
    name = _name(host)
    if name is None or not hosts.allow(name):
        return 421, f"the request is for host {host!r}: expected {' or '.join(sorted(hosts.names))}"
    if method in ("GET", "HEAD"):
        return None
    origin = headers.get("origin")
    if origin is not None and _place(origin) != host.lower():
        return 403, f"the request comes from a page of {origin!r}: expected this server's own page"
    content_type = headers.get("content-type", "")
    if method == "POST" and content_type.split(";")[0].strip().lower() != "application/json":
        return 415, f"the request's content type is {content_type!r}: expected application/json"
    return None


class Guard:
    """Middleware that refuses requests according to `refusal`, and adds headers that isolate the page."""

    def __init__(self, app: ASGIApp, hosts: AllowedHosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(RESPONSE_HEADERS)
            await send(message)

        refused = refusal(scope["method"], Headers(scope=scope), self.hosts)
        if refused is None:
            await self.app(scope, receive, send_guarded)
        else:
            status, reason = refused
            await JSONResponse({"error": reason}, status)(scope, receive, send_guarded)


def _name(host: str) -> str | None:
    """The name or address in a Host header, without the port; None if it cannot be parsed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _place(origin: str) -> str:
    """Name and port of an origin; empty for "null"."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
