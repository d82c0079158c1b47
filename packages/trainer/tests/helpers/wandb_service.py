"""As much of wandb's service as one run needs, on this machine: it keeps the rows that are sent."""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {"id": "1", "name": "p", "entity": {"id": "2", "name": "someone"}}


class Service:
    """Received rows, exit codes and run ids, and the address."""

    def __init__(self):
        self.rows, self.exit_codes, self.run_ids = [], [], []
        self.url = ""

    def answer(self, query):
        """Answer a GraphQL query."""
        name, variables = query.get("operationName"), query.get("variables") or {}
        if name == "RunResumeStatus":
            self.run_ids.append(variables["name"])
            return {"model": {**PROJECT, "bucket": self._stored()}}
        if name == "UpsertBucket":
            run = {"id": "3", "name": variables["name"], "displayName": "", "config": "{}", "project": PROJECT}
            return {"upsertBucket": {"bucket": {**run, "historyLineCount": 0}, "inserted": not self.rows}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "3", "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}}

    def take(self, content):
        """A part of the stream of a run."""
        lines = content.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.rows += [json.loads(line) for line in lines]
        if content.get("complete"):
            self.exit_codes.append(content["exitcode"])

    def _stored(self):
        if not self.rows:
            return None
        last = json.dumps(self.rows[-1])
        counts = {"historyLineCount": len(self.rows), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"historyTail": json.dumps([last]), "eventsTail": "[]", "summaryMetrics": last, "config": "{}"}
        return {"id": "3", "name": self.run_ids[-1], "wandbConfig": '{"t": 1}', "tags": [], **counts, **texts}


@contextmanager
def serve(status=200):
    """The service, at an address that is its `url`, until the end of the block; other statuses refuse everything."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            answer = {}
            if self.path.endswith("/graphql"):
                answer = {"data": service.answer(json.loads(body))}
            elif self.path.endswith("/file_stream"):
                service.take(json.loads(body))
            text = json.dumps(answer).encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_PUT = do_GET = do_POST  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
