"""The browser of the other tests: window, colours, waiting, and messages."""

import pytest
from browser import DESKTOP, PHONE

PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><meta name="viewport" content="width=device-width">
<style>p { color: rgb(0, 0, 0) } @media (prefers-color-scheme: dark) { p { color: rgb(255, 255, 255) } }</style>
<p>text</p><script>setTimeout(() => document.body.append("later"), 100)</script>"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE, "utf-8")
    return path


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_window_and_colours_are_as_asked(browser, page, size, tmp_path):
    for dark, shade in ((False, "0, 0, 0"), (True, "255, 255, 255")):
        browser.open(page.as_uri(), size, dark=dark)
        assert browser.run("return [window.innerWidth, window.innerHeight]") == list(size)
        assert shade in browser.find("p").value_of_css_property("color")
    assert not browser.is_wider_than_its_window()
    browser.run("document.querySelector('p').style.width = '5000px'")
    assert browser.is_wider_than_its_window()
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_that_a_phone_shrinks_to_fit_is_too_wide(browser, tmp_path):
    page = tmp_path / "wide.html"
    page.write_text(PAGE.replace("<p>", "<p style='width: 5000px'>"), "utf-8")
    browser.open(page.as_uri(), PHONE)
    assert browser.is_wider_than_its_window()


def test_what_comes_later_is_waited_for(browser, page):
    browser.open(page.as_uri())
    assert browser.text("p") == "text"
    browser.wait(lambda: "later" in browser.text("body"))
    with pytest.raises(AssertionError, match="nothing came"):
        browser.wait(lambda: browser.find_all("h1"), seconds=0.1)


def test_errors_and_requests_that_fail_are_messages(browser, page):
    browser.open(page.as_uri())
    assert browser.messages() == []
    browser.run("console.error('first')")
    browser.run("setTimeout(() => { throw new Error('second') }, 0)")
    browser.run("document.body.append(Object.assign(new Image(), {src: 'http://outside.example/third.png'}))")
    seen = []
    browser.wait(lambda: seen.extend(browser.messages()) or len(seen) >= 3)
    assert all(any(word in message for message in seen) for word in ("first", "second", "third"))
    assert browser.messages() == []
