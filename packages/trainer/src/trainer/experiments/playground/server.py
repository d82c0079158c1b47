"""The web server: its socket, its address, and serving until Ctrl-C."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens at a name or address of this machine; port 0 takes a free one.

    Raises:
        ValueError: The port or the host is wrong, or the port is taken or not allowed.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 1 to 65535, or 0 for a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(f"--host {host}: expected a name or an address of this machine ({error})") from None
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is taken: choose another --port, or --port 0 for a free one"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"--host {host}: expected an address of this machine, such as 127.0.0.1") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ValueError(f"--port {port}: not allowed for this user; choose one above 1023") from None
        raise


def address_of(listener: socket.socket) -> str:
    """The IP address at which a socket listens."""
    return str(listener.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an IP address."""
    return ipaddress.ip_address(address).is_loopback


def url_of(listener: socket.socket) -> str:
    """The URL to open in a browser on this machine."""
    address, port = listener.getsockname()[:2]
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
    return f"http://{ip}:{port}" if ip.version == 4 else f"http://[{ip}]:{port}"


def make_server(make_app: Callable[[Callable[[], bool]], ASGIApp]) -> uvicorn.Server:
    """Make a server that ends its requests soon after it was asked to stop.

    Args:
        make_app: Returns the application; its argument is a function that tells whether the server is stopping.
    """
    server: uvicorn.Server
    config = uvicorn.Config(
        make_app(lambda: server.should_exit),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    return server


def serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Answer requests at a socket from `listen`, until SIGINT."""
    with suppress(KeyboardInterrupt):  # uvicorn shuts down cleanly and then repeats the signal
        server.run(sockets=[listener])
