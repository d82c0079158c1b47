"""The playground without its page: tokens and probabilities, requests, access, start and end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
from playground_server import CONTEXT, GUARD_SECONDS, Served, follow, serving, small_model
from small_runs import refused, summary_of
from starlette.responses import StreamingResponse

import nnscratch
from nnscratch import complete
from tinystories.run import main
from tinystories.writing import write_story
from trainer.experiments.playground.guard import AllowedHosts
from trainer.experiments.playground.story_request import MAX_BODY_BYTES, StoryRequest, read_story_request
from trainer.experiments.playground.tokens import write_tokens
from trainer.experiments.runs import Sampling

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def small():
    return small_model()


@pytest.fixture
def served(small):
    with serving(*small) as server:
        yield server


def write(small, prompt=PROMPT, story=(), next_token=None, **sampling):
    """The tokens of a story as a list."""
    return list(write_tokens(nnscratch, *small, StoryRequest(prompt, tuple(story), next_token, Sampling(**sampling))))


def text_of(tokens):
    return "".join(token.text for token in tokens)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.0}, {"temperature": 1.5, "top_k": 30, "top_p": None}])
def test_text_is_that_of_generate_with_the_same_seed(small, sampling):
    for seed in range(4):
        options = {"max_new_tokens": CONTEXT + 10, "seed": seed, **sampling}
        assert PROMPT + text_of(write(small, **options)) == write_story(*small, PROMPT, Sampling(**options))


def expected_chances(logits, temperature, top_p):
    """Probabilities by the definition: sort, and keep until they sum to `top_p`."""
    chances = torch.softmax(logits.double() / temperature, -1)
    kept, total = torch.zeros_like(chances), 0.0
    for token in chances.argsort(descending=True).tolist():
        kept[token] = chances[token]
        total += chances[token].item()
        if total >= top_p:
            return kept / total
    return kept


def test_probabilities_are_those_of_the_definition(small):
    model, tokenizer = small
    ids = tokenizer.encode(PROMPT)
    tokens = write(small, max_new_tokens=12, temperature=0.7, top_p=0.8, seed=1)
    for token in tokens:
        logits = model(torch.tensor([ids]))[0, -1].detach()
        plain, drawn = torch.softmax(logits.double(), -1), expected_chances(logits, 0.7, 0.8)
        order = plain.argsort(descending=True).tolist()
        assert [other.id for other in token.alternatives] == order[:10]
        assert token.rank == order.index(token.chosen.id) + 1
        for candidate in (token.chosen, *token.alternatives):
            assert candidate.probability == pytest.approx(plain[candidate.id].item(), rel=1e-3)
            assert candidate.chance == pytest.approx(drawn[candidate.id].item(), rel=1e-3)
        assert token.chosen.chance > 0
        ids.append(token.chosen.id)


def test_temperature_0_leaves_only_the_likeliest(small):
    for token in write(small, max_new_tokens=5, temperature=0.0):
        assert (token.rank, token.chosen.chance) == (1, 1.0)
        assert [other.chance for other in token.alternatives] == [1.0] + [0.0] * 9


def test_a_token_of_the_user_comes_first_and_the_model_goes_on_from_it(small):
    model, tokenizer = small
    story = [token.chosen.id for token in write(small, max_new_tokens=4)]
    other = tokenizer.encode("b")[0]
    tokens = write(small, story=story, next_token=other, max_new_tokens=6, seed=5)
    options = {"temperature": 0.8, "top_p": 0.95, "eos_id": tokenizer.eot_id}
    (rest,) = complete(model, [[*tokenizer.encode(PROMPT), *story, other]], max_new_tokens=5, seed=5, **options)
    assert [token.chosen.id for token in tokens] == [other, *rest]
    assert (tokens[0].chosen.label, tokens[0].text[-1]) == ("b", "b")
    (end,) = write(small, next_token=tokenizer.eot_id)
    assert (end.ends, end.text) == (True, "")


def test_parts_of_characters_are_shown_when_the_character_is_whole(small, monkeypatch):
    model, tokenizer = small
    smile = list("a🙂b".encode())
    follow(model, monkeypatch, [*smile, tokenizer.eot_id])
    tokens = write(small, temperature=0.0)
    assert [token.text for token in tokens] == ["a", "", "", "", "🙂", "b", ""]
    assert [token.chosen.label for token in tokens][:3] == ["a", "⟨F0⟩", "⟨9F⟩"]
    assert [token.ends for token in tokens] == [False] * 6 + [True]
    follow(model, monkeypatch, [0, smile[5]])
    assert text_of(write(small, story=smile[:3], next_token=smile[3], temperature=0.0, max_new_tokens=2)) == "\ufffdb"
    follow(model, monkeypatch, [0, *smile[3:]])
    tokens = write(small, story=smile[:2], next_token=smile[2], temperature=0.0, max_new_tokens=4)
    assert [token.text for token in tokens] == ["", "", "🙂", "b"]
    follow(model, monkeypatch, smile[1:3])
    assert [token.text for token in write(small, temperature=0.0, max_new_tokens=2)][-1].endswith("\ufffd")


def test_a_request_has_the_defaults_of_generate():
    assert read_story_request(b'{"prompt": "Mia"}') == StoryRequest("Mia", (), None, Sampling())


BAD = {
    "not JSON": (b"prompt=Mia", "not JSON"),
    "not UTF-8": (b'{"prompt": "\xff"}', "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "no number": (b'{"prompt": "Mia", "temperature": NaN}', "NaN is no JSON number"),
    "a list": ([1, 2], "the request is [1, 2]: expected a JSON object"),
    "nothing": ({}, "the beginning is empty: expected some text"),
    "empty": ({"prompt": ""}, "the beginning is empty: expected some text"),
    "a number": ({"prompt": 7}, "the beginning is 7: expected text"),
    "unknown": (
        {"prompt": "Mia", "warmth": 1},
        'unknown in the request: "warmth"; expected max_new_tokens, next_token',
    ),
    "cold": ({"prompt": "Mia", "temperature": -0.1}, "temperature is -0.1: expected a number from 0"),
    "hot": ({"prompt": "Mia", "temperature": 11}, "temperature is 11: expected a number from 0"),
    "infinite": (b'{"prompt": "Mia", "temperature": 1e999}', "temperature is Infinity: expected a number"),
    "true": ({"prompt": "Mia", "temperature": True}, "temperature is true: expected a number"),
    "left open": ({"prompt": "Mia", "temperature": ""}, 'temperature is "": expected a number'),
    "top-p 0": ({"prompt": "Mia", "top_p": 0}, "top-p is 0: expected a number above 0 and at most 1"),
    "top-k 0": ({"prompt": "Mia", "top_k": 0}, "top-k is 0: expected a whole number, at least 1"),
    "half a seed": ({"prompt": "Mia", "seed": 0.5}, "seed is 0.5: expected a whole number, at least 0"),
    "long": ({"prompt": "Mia", "max_new_tokens": 5000}, "length is 5000: expected a whole number, from 1 to 4,096"),
    "story": ({"prompt": "Mia", "story": "and"}, 'story is "and": expected a list of token ids'),
    "strange token": ({"prompt": "Mia", "story": [290]}, "story holds 290: expected token ids below 290"),
    "strange next": ({"prompt": "Mia", "next_token": 290}, "next token is 290: expected an id below 290"),
    "lone surrogate": ({"prompt": "Mia", "seed": "\ud800"}, r"\ud800"),
    "huge prompt": ({"prompt": "Mia " * 400}, "tokens long (1,600 characters): expected at most the 48 tokens"),
    "huge body": ({"prompt": "a" * 3_000_000}, f"bytes: expected at most {MAX_BODY_BYTES:,}"),
}


def test_bad_requests_are_refused_with_what_came_and_what_was_expected(served):
    for what, (request, message) in BAD.items():
        status, (answer,) = served.ask(request)
        assert (what, status) == (what, 400)
        assert message in answer["error"], what
        assert len(answer["error"]) < 250, what
    assert answer["field"] == "prompt"


def test_a_story_comes_line_by_line_and_says_how_it_ended(served, small):
    status, lines = served.ask({"prompt": PROMPT, "max_new_tokens": 30, "seed": 2})
    assert status == 200
    text = "".join(line["token"]["text"] for line in lines[:-1])
    assert PROMPT + text == write_story(*small, PROMPT, Sampling(max_new_tokens=30, seed=2))
    assert lines[-1] == {"end": "end_of_text" if lines[-2]["token"]["ends"] else "length"}


def test_the_page_asks_nothing_of_others(served):
    names = ["", "index.html", "page.css", "page.js", "story.js", "details.js", "connection.js", "icon.svg"]
    for name in names:
        status, headers, body = served.request("GET", f"/{name}")
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"//" not in body.replace(b"http://www.w3.org/2000/svg", b"").replace(b"// ", b"")
    assert served.request("GET", "/absent")[0] == 404
    assert served.request("GET", "/story")[0] == 405


def test_other_pages_and_names_are_refused(served):
    port = served.host.split(":")[1]
    request = {"prompt": PROMPT, "max_new_tokens": 1}
    for headers in ({}, {"Origin": served.url}, {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}):
        assert served.ask(request, **headers)[0] == 200
    for host in ("foreign.example", f"foreign.example:{port}", "127.0.0.1.foreign.example", "[", ""):
        status, (answer,) = served.ask(request, Host=host)
        assert status == 421
        assert "expected 127.0.0.1 or ::1 or localhost" in answer["error"]
        assert served.request("GET", "/model", Host=host)[0] == 421
    for origin in ("http://foreign.example", "null", f"http://localhost:{port}", "http://127.0.0.1:1"):
        status, (answer,) = served.ask(request, Origin=origin)
        assert status == 403
        assert origin in answer["error"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        status, (answer,) = served.ask(request, Content_Type=kind)
        assert status == 415
        assert "expected application/json" in answer["error"]
    headers = {"Origin": "http://foreign.example", "Access_Control_Request_Method": "POST"}
    status, answered, _ = served.request("OPTIONS", "/story", **headers)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]


def test_names_that_are_allowed():
    loopback = AllowedHosts.of("127.0.0.1", "127.0.0.1")
    assert all(map(loopback.allow, ("localhost", "127.0.0.1", "::1")))
    assert not any(map(loopback.allow, ("192.168.1.5", "foreign.example", socket.gethostname() + ".foreign.example")))
    network = AllowedHosts.of("0.0.0.0", "0.0.0.0")
    assert all(map(network.allow, ("localhost", "192.168.1.5", "fe80::1", socket.gethostname().lower())))
    assert not network.allow("foreign.example")
    one = AllowedHosts.of("Box.Example", "192.168.1.5")
    assert all(map(one.allow, ("box.example", "192.168.1.5")))
    assert not any(map(one.allow, ("localhost", "192.168.1.6", "foreign.example")))


def counted(model, monkeypatch):
    """A list that grows with every forward pass, each of which takes a while."""
    calls, real = [], model.next_token_logits

    def next_token_logits(*arguments, **more):
        calls.append(threading.get_ident())
        time.sleep(0.005)
        return real(*arguments, **more)

    monkeypatch.setattr(model, "next_token_logits", next_token_logits)
    return calls


LONG = json.dumps({"prompt": PROMPT, "max_new_tokens": 4096, "temperature": 0}).encode()


def begin(served):
    """A long story of which the first line was read."""
    connection = served.connection()
    connection.request("POST", "/story", LONG, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert "token" in json.loads(response.readline())
    return connection, response


def test_a_client_that_goes_away_ends_its_story(small, monkeypatch):
    calls, ended = counted(small[0], monkeypatch), threading.Event()

    class WatchedResponse(StreamingResponse):
        async def __call__(self, scope, receive, send):
            try:
                await super().__call__(scope, receive, send)
            finally:
                ended.set()

    monkeypatch.setattr("trainer.experiments.playground.app.StreamingResponse", WatchedResponse)
    with serving(*small) as served:
        connection, response = begin(served)
        response.close()
        connection.close()
        assert ended.wait(GUARD_SECONDS)
        assert 0 < len(calls) < 4096
        assert served.ask({"prompt": PROMPT, "max_new_tokens": 1})[0] == 200


def test_a_server_that_ends_does_not_wait_for_stories(small, monkeypatch):
    calls = counted(small[0], monkeypatch)
    with serving(*small) as served:
        connection, response = begin(served)
        served.server.should_exit = True
        assert json.loads(response.read().splitlines()[-1]) == {"error": "the server was stopped"}
        connection.close()
    assert 0 < len(calls) < 4096


def test_stories_at_the_same_time_are_not_mixed_up(small, monkeypatch):
    calls = counted(small[0], monkeypatch)
    prompts = [PROMPT, "Mia took", "the red ball", "home"]
    expected = [
        write_story(*small, prompt, Sampling(max_new_tokens=25, seed=seed)) for seed, prompt in enumerate(prompts)
    ]
    texts = {}

    def tell(seed):
        _, lines = served.ask({"prompt": prompts[seed], "max_new_tokens": 25, "seed": seed})
        texts[seed] = prompts[seed] + "".join(line["token"]["text"] for line in lines[:-1])

    with serving(*small) as served:
        calls.clear()
        threads = [threading.Thread(target=tell, args=(seed,)) for seed in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [texts[seed] for seed in range(len(prompts))] == expected


def test_a_model_that_diverged_is_reported(small, served, monkeypatch):
    logits = torch.full((1, small[0].config.vocab_size), torch.nan)
    monkeypatch.setattr(small[0], "next_token_logits", lambda *_, **more: logits)
    status, (line,) = served.ask({"prompt": PROMPT})
    assert status == 200
    assert "the model cannot continue" in line["error"]
    assert "not finite" in line["error"]


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot send Ctrl-C to one process")
def test_play_prints_its_address_and_ends_with_ctrl_c(trained):
    arguments = [sys.executable, "-m", "tinystories.run", "play", str(trained), "--device", "cpu", "--port", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split(": ")[1].split(" ")[0]
        served = Served(url, None)
        facts = json.loads(served.request("GET", "/model")[2])
        summary = summary_of(trained)
        assert facts["parameters"] == summary["parameters"]
        assert facts["valid_loss"] == summary["best_valid_loss"]
        assert (facts["run"], facts["context_length"], facts["vocab_size"]) == ("run", 16, 300)
        assert main(["play", str(trained), "--port", served.host.split(":")[1]]) == 2
        connection, response = begin(served)
        process.send_signal(signal.SIGINT)
        response.read()
        connection.close()
        printed, errors = process.communicate(timeout=GUARD_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, printed, errors) == (0, "stopped\n", "")


def test_places_where_it_cannot_listen(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused(["play", str(tmp_path), "--port", str(port)], capsys)
        assert f"port {port} of 127.0.0.1 is taken: choose another --port, or --port 0" in error
    assert "expected 1 to 65535" in refused(["play", str(tmp_path), "--port", "70000"], capsys)
    error = refused(["play", str(tmp_path), "--port", "0", "--host", "192.0.2.1"], capsys)
    assert "expected an address of this machine" in error
    assert "expected a name or an address" in refused(["play", str(tmp_path), "--host", "not a name"], capsys)
    assert str(tmp_path) in refused(["play", str(tmp_path), "--port", "0"], capsys)


def test_an_open_address_brings_a_warning(trained, monkeypatch, capsys):
    monkeypatch.setattr("trainer.experiments.playground.server.serve", lambda server, listener: None)
    arguments = ["play", str(trained), "--port", "0", "--device", "cpu"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    assert main([*arguments, "--host", "0.0.0.0"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("notice: --host 0.0.0.0: anyone who can reach this machine")
    assert "http://127.0.0.1:" in captured.out


def test_what_is_not_installed_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trainer.experiments.commands.find_spec", lambda name: None)
    assert "pip install starlette uvicorn" in refused(["play", str(tmp_path)], capsys)
