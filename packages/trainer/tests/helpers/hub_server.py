"""A server that answers as the Hugging Face hub does for files in large-file storage, and fails as networks do."""

import hashlib
import re
import socket
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "fedcba9876543210fedcba9876543210fedcba98"


class Hub(ThreadingHTTPServer):
    """`files` are served at `commit`; `faults` are used up one by one, each by the next request for contents."""

    daemon_threads = True

    def __init__(self, repository, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository, self.files, self.commit = repository, dict(files), COMMIT
        self.faults, self.requests, self.status = [], [], 200
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Say nothing: clients go away here on purpose."""

    def contents(self):
        """Requests for contents: [(file, range)]."""
        return [(path.split("/")[-1], asked) for method, path, asked in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.server
        hub.requests.append((self.command, self.path, self.headers["Range"]))
        if hub.status != 200:
            return self.finish_with(hub.status)
        if storage := re.fullmatch(r"/storage/(.+)", self.path):
            return self.send_contents(hub.files[storage[1]], self.headers["Range"])
        resolve = re.fullmatch(rf"/datasets/{hub.repository}/resolve/(\w+)/(.+)", self.path)
        if not resolve or resolve[1] not in ("main", hub.commit):
            return self.finish_with(404, {"X-Error-Code": "RevisionNotFound" if resolve else "RepoNotFound"})
        if resolve[2] not in hub.files:
            return self.finish_with(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
        contents = hub.files[resolve[2]]
        facts = {"X-Linked-Size": len(contents), "X-Linked-Etag": f'"{hashlib.sha256(contents).hexdigest()}"'}
        location = f"http://localhost:{hub.server_port}/storage/{resolve[2]}"  # contents have a server of their own
        return self.finish_with(302, {"X-Repo-Commit": hub.commit, "Location": location, **facts})

    def finish_with(self, status, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": 0, **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def send_contents(self, contents, asked):
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        fault = self.server.faults.pop(0) if self.server.faults else None
        body = contents[begin:]
        announced = len(body)
        if fault == "wrong bytes":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "too short":
            body = body[: announced // 2]
            announced = len(body)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(announced))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(contents) - 1}/{len(contents)}")
        self.end_headers()
        if fault in ("closed", "reset"):
            body = body[: announced // 2]
            self.close_connection = True
        with suppress(OSError):
            self.wfile.write(body)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
