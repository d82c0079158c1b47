"""A small untrained model, and the playground's server with it."""

import http.client
import json
import threading
from contextlib import contextmanager

import torch

import nnscratch
from bpe import train_from_iterator
from nnscratch import TransformerConfig, TransformerLM
from trainer.experiments.playground.app import Playground, make_app
from trainer.experiments.playground.guard import AllowedHosts
from trainer.experiments.playground.server import listen, make_server, url_of
from trainer.experiments.playground.story_request import MAX_BODY_BYTES

CONTEXT = 48
GUARD_SECONDS = 300  # only keeps a broken test from hanging
FACTS = {
    "run": "small",
    "parameters": 12345,
    "context_length": CONTEXT,
    "vocab_size": 290,
    "device": "cpu",
    "valid_loss": 1.25,
    "max_body_bytes": MAX_BODY_BYTES,
    "settings": {"prompt": "Once upon a time", "max_new_tokens": 40, "temperature": 0.8, "top_k": None, "top_p": 0.95},
}


def small_model():
    """A model of 290 tokens, most of them single bytes, and its tokenizer: its text is full of broken characters."""
    tokenizer = train_from_iterator(["Once upon a time there was a red ball. Mia took the red ball home."] * 9, 290)
    torch.manual_seed(0)
    config = TransformerConfig(tokenizer.vocab_size, CONTEXT, d_model=16, num_layers=1, num_heads=2, d_ff=24)
    model = TransformerLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # or else all tokens would be about equally likely
    return model, tokenizer


def follow(model, monkeypatch, tokens):
    """Make a model give nearly all probability to these tokens, one after the other."""
    rest = iter(tokens)

    def next_token_logits(*_, **more):
        return torch.zeros(1, model.config.vocab_size).index_fill_(1, torch.tensor([next(rest)]), 12.0)

    monkeypatch.setattr(model, "next_token_logits", next_token_logits)


class Served:
    """A running server."""

    def __init__(self, url, server):
        self.url, self.server = url, server
        self.host = url.removeprefix("http://")

    def connection(self):
        return http.client.HTTPConnection(self.host, timeout=GUARD_SECONDS)

    def request(self, method, path, body=None, **headers):
        """Status, headers and body of an answer; a header's name is written with underscores."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def ask(self, request, **headers):
        """Status and JSON lines of the answer to a story request."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        status, _, text = self.request("POST", "/story", body, **{"Content_Type": "application/json"} | headers)
        return status, [json.loads(line) for line in text.splitlines()]


@contextmanager
def serving(model, tokenizer):
    """The server in a thread of its own."""
    listener = listen("127.0.0.1", 0)
    hosts = AllowedHosts.of("127.0.0.1", "127.0.0.1")

    def page(is_stopping):
        return make_app(Playground(nnscratch, model, tokenizer, FACTS, is_stopping), hosts)

    server = make_server(page)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(url_of(listener), server)
    finally:
        server.should_exit = True
        thread.join(GUARD_SECONDS)
        listener.close()
        assert not thread.is_alive()
