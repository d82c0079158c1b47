"""The playground's page in headless Chromium: typing, writing, inspecting tokens, and errors."""

import pytest
from browser import DESKTOP, PHONE
from playground_server import follow, serving, small_model

import nnscratch
from tinystories.writing import write_story
from trainer.experiments.playground.story_request import StoryRequest
from trainer.experiments.playground.tokens import write_tokens
from trainer.experiments.runs import Sampling

PROMPT = "Mia took the red ball"


@pytest.fixture(scope="module")
def small():
    return small_model()


@pytest.fixture
def served(small):
    with serving(*small) as server:
        yield server


class Page:
    """Actions of a user on the page."""

    def __init__(self, browser, url, size=DESKTOP):
        self.browser = browser
        browser.open(url, size)
        browser.wait(lambda: browser.find("#write").is_enabled())

    def set(self, **values):
        for name, value in values.items():
            self.browser.run("document.getElementById('settings').open = true")
            field = self.browser.find(f"[name={name}]")
            field.clear()
            field.send_keys(str(value))

    def write(self, **values):
        """Change settings, press the button and wait for the end; the status line."""
        self.set(**values)
        self.browser.find("#write").click()
        return self.end()

    def end(self):
        return self.browser.wait(lambda: "seed" in self.status and self.status)

    @property
    def status(self):
        return self.browser.text("#status")

    @property
    def text(self):
        spans = "document.querySelectorAll('#beginning, #story .token:not(.end)')"
        return self.browser.run(f"return [...{spans}].map((span) => span.textContent).join('')")

    @property
    def error(self):
        return self.browser.wait(lambda: self.browser.text("#error"))

    def details(self):
        """The details of a token: its label, and the numbers beside it."""
        shown = self.browser.find_all("#details .label, #details dd")
        return [element.text for element in shown]


def percent(probability):
    """A probability as the page writes it."""
    value = 100 * probability
    return "< 0.001 %" if value < 0.001 else f"{value:.1f} %" if value >= 9.95 else f"{value:#.2g} %"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_type_write_and_look_at_a_token(browser, served, small, size):
    page = Page(browser, served.url, size)
    for fact in ("small", "12,345", "48 tokens", "290", "1.250", "cpu"):
        assert fact in browser.text("#facts")
    status = page.write(prompt=PROMPT, seed=4, temperature=1.1, top_p=0.9, top_k=60, max_new_tokens=25)
    assert "seed 4." in status
    options = {"max_new_tokens": 25, "temperature": 1.1, "top_p": 0.9, "top_k": 60, "seed": 4}
    assert page.text == write_story(*small, PROMPT, Sampling(**options))
    tokens = list(write_tokens(nnscratch, *small, StoryRequest(PROMPT, sampling=Sampling(**options))))
    whole = [index for index, token in enumerate(tokens) if token.text.isalpha()]
    index = whole[-1]
    browser.find(f"#token-{index}").click()
    label, chance, probability, rank = page.details()
    token = tokens[index]
    assert label == token.chosen.label
    assert (chance, probability) == (percent(token.chosen.chance), percent(token.chosen.probability))
    assert rank == f"{token.rank} of 290"
    rows = browser.find_all("#details tbody tr")
    assert len(rows) in (10, 11)
    for row, other in zip(rows, token.alternatives, strict=False):
        assert row.text.endswith(percent(other.probability))
    assert not browser.is_wider_than_its_window()
    sheet, shown = (
        browser.run(f"return document.querySelector('{selector}').getBoundingClientRect().toJSON()")
        for selector in ("aside", f"#token-{index}")
    )
    assert shown["bottom"] <= sheet["top"] or shown["right"] <= sheet["left"] or sheet["bottom"] <= shown["top"]
    assert 0 <= shown["top"] < size[1]
    assert browser.messages() == []


def test_pointer_and_keys_go_from_token_to_token(browser, served):
    from selenium.webdriver import ActionChains, Keys

    page = Page(browser, served.url)
    page.write(prompt=PROMPT, seed=1, max_new_tokens=12)
    tokens = browser.find_all("#story .token")
    assert page.details() == []
    ActionChains(browser.driver).move_to_element(tokens[2]).perform()
    assert page.details()
    story = browser.find("#story")
    story.send_keys(Keys.HOME)
    for _ in range(3):
        story.send_keys(Keys.ARROW_RIGHT)
    active = story.get_attribute("aria-activedescendant")
    assert active == tokens[3].get_attribute("id")
    assert tokens[3].get_attribute("aria-selected") == "true"
    assert "drawn with" in browser.run("return document.querySelector('#spoken').textContent")
    story.send_keys(Keys.ESCAPE)
    assert page.details() == []
    assert browser.messages() == []


def test_another_token_is_chosen_and_the_story_goes_on(browser, served, small):
    page = Page(browser, served.url)
    page.write(prompt=PROMPT, seed=1, max_new_tokens=20, temperature=0)
    request = StoryRequest(PROMPT, sampling=Sampling(max_new_tokens=20, temperature=0.0))
    tokens = list(write_tokens(nnscratch, *small, request))
    place = next(index for index, token in enumerate(tokens) if index > 2 and token.text)
    story = tuple(token.chosen.id for token in tokens[:place])
    browser.find(f"#token-{place}").click()
    other = next(index for index, one in enumerate(tokens[place].alternatives) if index and one.label.isalpha())
    browser.find_all("#details tbody button")[other].click()
    rest = Sampling(max_new_tokens=20 - place, temperature=0.0)
    request = StoryRequest(PROMPT, story, tokens[place].alternatives[other].id, rest)
    expected = list(write_tokens(nnscratch, *small, request))
    text = PROMPT + "".join(token.text for token in tokens[:place] + expected)
    browser.wait(lambda: page.text == text)
    page.end()
    assert page.details()[0] == tokens[place].alternatives[other].label
    assert browser.messages() == []


def test_a_character_of_several_tokens_is_never_shown_in_parts(browser, served, small, monkeypatch):
    model, tokenizer = small
    follow(model, monkeypatch, [*"a🙂é<b>".encode(), tokenizer.eot_id])
    page = Page(browser, served.url)
    assert page.write(prompt=PROMPT, temperature=0).startswith("The end, by the model: 11 tokens")
    assert page.text == PROMPT + "a🙂é<b>"
    assert [span.text for span in browser.find_all("#story .token")] == ["a", "🙂", "é", "<", "b", ">", "end"]
    browser.find("#token-1").click()
    assert [label.text for label in browser.find_all("#details .label")] == ["⟨F0⟩", "⟨9F⟩", "⟨99⟩", "⟨82⟩"]


BAD = [
    ({"prompt": " \b"}, "The beginning is empty: expected some text to continue.", "prompt"),
    ({"prompt": "Mia " * 60}, "(240 characters): expected at most the 48 tokens that this model reads", "prompt"),
    ({"temperature": -1}, "Temperature is -1: expected a number from 0", "temperature"),
    ({"temperature": " \b"}, 'Temperature is "": expected a number', "temperature"),
    ({"top_p": 1.5}, "Top-p is 1.5: expected a number above 0 and at most 1.", "top_p"),
    ({"max_new_tokens": 0}, "Length is 0: expected a whole number, from 1 to 4,096.", "max_new_tokens"),
]


def test_bad_input_and_huge_prompts_are_told_and_the_story_stays(browser, served):
    page = Page(browser, served.url)
    page.write(prompt=PROMPT, seed=1, max_new_tokens=8)
    before = page.text
    for values, message, name in BAD:
        page.set(**values)
        browser.find("#write").click()
        browser.wait(lambda message=message: message in browser.text("#error"))
        assert browser.find(f"[name={name}]").get_attribute("aria-invalid") == "true"
        assert len(browser.find_all("[aria-invalid]")) == 1
        assert browser.run("return document.activeElement.name") == name
        assert page.text == before
        page.set(**{name: {"prompt": PROMPT, "temperature": 1, "top_p": 0.9, "max_new_tokens": 5}[name]})
    browser.run("document.getElementById('prompt').value = 'Mia '.repeat(500_000)")
    browser.find("#write").click()
    browser.wait(lambda: "The beginning is too long (2,000,000 characters" in browser.text("#error"))
    assert all("status of 400" in message for message in browser.messages())
    page.write(prompt="Mia")
    assert browser.text("#error") == ""
    assert page.text.startswith("Mia")


def test_stop_ends_a_story(browser, served):
    page = Page(browser, served.url)
    page.set(prompt=PROMPT, seed=3, max_new_tokens=4096, temperature=0)
    browser.find("#write").click()
    browser.wait(lambda: len(browser.find_all("#story .token")) > 3)
    browser.find("#stop").click()
    assert page.end().startswith("Stopped: ")
    assert not browser.find("#stop").is_enabled()
    count = len(browser.find_all("#story .token"))
    assert "seed 5." in page.write(seed=5, max_new_tokens=2)
    assert len(browser.find_all("#story .token")) <= 2 < count
    assert browser.messages() == []


def test_a_server_that_is_gone_is_told_of(browser, small):
    with serving(*small) as server:
        page = Page(browser, server.url)
    browser.find("#write").click()
    assert page.error == "The server does not answer. Is it still running?"


def test_two_tabs_write_at_the_same_time(browser, served, small):
    first, pages = browser.driver.current_window_handle, {}
    page = Page(browser, served.url)
    browser.driver.switch_to.new_window("tab")
    second = browser.driver.current_window_handle
    try:
        Page(browser, served.url)
        for seed, window in enumerate((first, second)):
            browser.driver.switch_to.window(window)
            page.set(prompt=PROMPT, seed=seed, max_new_tokens=60)
            browser.find("#write").click()
        for seed, window in enumerate((first, second)):
            browser.driver.switch_to.window(window)
            page.end()
            pages[seed] = page.text
    finally:
        browser.driver.switch_to.window(second)
        browser.driver.close()
        browser.driver.switch_to.window(first)
    assert pages == {seed: write_story(*small, PROMPT, Sampling(max_new_tokens=60, seed=seed)) for seed in (0, 1)}


def test_a_foreign_name_for_this_machine_gets_nothing(browser, served):
    browser.open(served.url.replace("127.0.0.1", "foreign.example"))
    assert "the request is for host" in browser.text("body")
    script = """const [url, done] = arguments;
        fetch(url + "/story", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"})
          .then((response) => done(response.status), (error) => done(String(error)))"""
    assert "Failed to fetch" in browser.driver.execute_async_script(script, served.url)


def test_every_input_has_a_name_and_colours_can_be_read(browser, served):
    for dark in (False, True):
        browser.open(served.url, dark=dark)
        browser.wait(lambda: browser.find("#write").is_enabled())
        nameless = """return [...document.querySelectorAll("input, textarea, button, [role=listbox]")]
            .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim())).length"""
        assert browser.run(nameless) == 0
        assert browser.run("return document.documentElement.lang") == "en"
        for selector in ("body", ".hint", "#write", "#facts dt"):
            assert contrast(browser, selector) >= 4.5, (selector, dark)


def contrast(browser, selector):
    """The ratio of WCAG between an element's text and what is behind it."""
    colours = """const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        let element = document.querySelector(arguments[0]);
        const ink = channels(getComputedStyle(element).color);
        let paper = channels(getComputedStyle(element).backgroundColor);
        while (paper[3] === 0) {
          element = element.parentElement;
          paper = channels(getComputedStyle(element).backgroundColor);
        }
        return [ink, paper]"""
    light, dark = sorted((luminance(colour[:3]) for colour in browser.run(colours, selector)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
