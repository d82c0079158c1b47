"""The built site: no dead link, every page opens on a phone without an error, and newcomers find their way."""

import functools
import json
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urldefrag, urljoin

import pytest

PARTS = 4
PHONE = (380, 800)
QUESTIONS = {
    "how do I train on my own text": "use/own-text.html",
    "why does RoPE rotate pairs": "learn/positions.html",
    "how fast is encoding": "benchmarks.html#beside-gigatoken",
    "how do I add an ablation": "contribute/variant.html",
}


class Document(HTMLParser):
    """The links, sources and anchors of a page; links of its text apart."""

    def __init__(self, text):
        super().__init__()
        self.links, self.text_links, self.sources, self.anchors, self._articles = [], [], [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._articles += tag == "article"
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
            if self._articles:
                self.text_links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.sources.append(attributes["href"])
        elif attributes.get("src"):
            self.sources.append(attributes["src"])

    def handle_endtag(self, tag):
        self._articles -= tag == "article"


@pytest.fixture(scope="session")
def documents(site):
    """All pages by their address in the site."""
    paths = sorted(path for path in site.rglob("*.html") if path.name != "404.html")
    return {path.relative_to(site).as_posix(): Document(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="session")
def server(site):
    """The address of the site on this machine."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    empty_index = json.dumps({**index, "docs": []}).encode("utf-8")

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self):
            # Every page reads the index of the search, which is large; only a page that searches gets it.
            if not self.path.endswith("/search_index.json") or "?q=" in self.headers.get("Referer", ""):
                super().do_GET()
            else:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(empty_index)))
                self.end_headers()
                self.wfile.write(empty_index)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()


def is_outside(link):
    return link.startswith(("http://", "https://", "mailto:"))


def target_of(page, link):
    """The address of a link's target in the site, and its anchor."""
    path, anchor = urldefrag(urljoin(page, link))
    return unquote(path), unquote(anchor)


def test_no_link_is_dead(documents, site):
    dead = []
    for page, document in documents.items():
        for link in {*document.links, *document.sources}:
            if is_outside(link) or link.startswith(("data:", "javascript:")):
                continue
            path, anchor = target_of(page, link)
            if not (site / path).is_file():
                dead.append(f"{page}: {link}")
            elif anchor and path in documents and anchor not in documents[path].anchors:
                dead.append(f"{page}: {link} has no such anchor")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(documents):
    assert {source for document in documents.values() for source in document.sources if is_outside(source)} == set()


@pytest.mark.parametrize("question", QUESTIONS)
def test_newcomers_need_at_most_two_clicks(documents, question):
    """Two links of the pages' own text, without the navigation, lead from the first page to the answer."""
    first = {link for link in documents["index.html"].text_links if not is_outside(link)}
    reached = {"#".join(target_of("index.html", link)).rstrip("#") for link in first}
    for page in {address.partition("#")[0] for address in reached} & documents.keys():
        links = (link for link in documents[page].text_links if not is_outside(link))
        reached |= {"#".join(target_of(page, link)).rstrip("#") for link in links}
    assert QUESTIONS[question] in reached


@pytest.mark.parametrize("part", range(PARTS))  # which the processes of the tests share
def test_every_page_opens_on_a_phone(documents, server, browser, part):
    faults = []
    for page in sorted(documents)[part::PARTS]:
        browser.open(server + page, PHONE)
        browser.run("document.querySelectorAll('article details').forEach((details) => (details.open = true))")
        if messages := browser.messages():
            faults.append(f"{page}: {messages}")
        if browser.is_wider_than_its_window():
            wide = browser.run(
                "return [...document.querySelectorAll('article *')].filter((element) =>"
                " element.getBoundingClientRect().right > 381).slice(0, 3).map((element) =>"
                " element.outerHTML.slice(0, 80))"
            )
            faults.append(f"{page} is wider than a phone: {wide}")
    assert faults == []


def test_the_search_finds_a_guide(server, browser):
    browser.open(server + "index.html?q=ablations")
    found = "[...document.querySelectorAll('.md-search-result__link')].map((link) => link.getAttribute('href'))"
    assert any("ablations" in link for link in browser.wait(lambda: browser.run(f"return {found}")))
