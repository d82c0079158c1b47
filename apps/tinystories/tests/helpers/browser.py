"""Headless Chromium for tests: the fixture `browser`, which conftest.py gives to every test."""

import os
import shutil
import time

import pytest

DESKTOP = (1280, 900)
PHONE = (360, 740)
# Nothing outside of this machine is reached, and foreign.example stands for a web site that points to this machine.
HOSTS = "MAP foreign.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # without which Chromium does not start as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    f"--host-resolver-rules={HOSTS}",
)


class Browser:
    """A page in Chromium: what a test opens, reads and does."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url, size=DESKTOP, *, dark=False):
        """Open a page in a window of that size (width and height in CSS pixels), light or dark."""
        self.width, height = size
        screen = {"width": self.width, "height": height, "deviceScaleFactor": 1, "mobile": self.width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(str(url))

    def find(self, selector):
        """The first element of a CSS selector; NoSuchElementException if there is none."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector):
        """All elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def run(self, script, *arguments):
        """The value of a JavaScript function's body."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector):
        """The text of the first element as it is displayed."""
        return self.find(selector).text

    def wait(self, condition, seconds=300):
        """The first true value of a function without arguments; the limit keeps a broken test from hanging."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"nothing came of {condition} in {seconds} s"
            time.sleep(0.02)
        return value

    def is_wider_than_its_window(self):
        """Return True if the page is wider than the window, which a phone then shrinks to fit."""
        return self.run("return document.documentElement.scrollWidth") > self.width

    def messages(self):
        """Errors and warnings in the console since the last call (a failed request is one)."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path):
        """Write what the window shows as a PNG file."""
        self.driver.save_screenshot(str(path))


def _missing():
    """The reason why Chromium is not available, or None."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not found on PATH" if lacking else None


@pytest.fixture(scope="session")
def chromium():
    """Chromium's driver, started once."""
    if reason := _missing():
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(f"needs Chromium: {reason}")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "localhost,127.0.0.1")
        environment.setenv("NO_PROXY", "localhost,127.0.0.1")
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        driver.set_page_load_timeout(300)
        driver.set_script_timeout(300)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def browser(chromium):
    """An empty page in Chromium; without Chromium the test is skipped, or fails if REQUIRE_BROWSER=1."""
    chromium.get("about:blank")
    browser = Browser(chromium)
    browser.messages()
    return browser
