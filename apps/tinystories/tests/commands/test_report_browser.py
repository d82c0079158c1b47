"""The report in headless Chromium: complete, self-contained, and readable on a phone."""

import pytest
from synthetic import make_failure, make_group, make_header, make_run

from tinystories.variants import VARIANTS, WORDING
from trainer.experiments.reporting import write_report
from trainer.experiments.results import read_experiment

PHONE = (390, 844)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of all ablations, with a story that would do harm."""
    directory = tmp_path_factory.mktemp("ablations")
    make_header(directory, title="Ablations on a test")
    for number, name in enumerate(VARIANTS):
        make_group(
            directory, name, [2 + 0.1 * number, 2.01 + 0.1 * number], story="<script>document.title='taken'</script>"
        )
    make_failure(directory / "silu-seed-7", "RuntimeError: " + "a_long_word" * 20)
    return write_report(read_experiment(directory, WORDING), directory)[1]


@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_report_is_complete_and_fits(browser, page, size, dark):
    browser.open(page.as_uri(), size, dark=dark)
    assert browser.messages() == []
    assert browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))") == []
    assert browser.run("return document.title") == "Ablations on a test"
    first = browser.run(
        "return [...document.querySelectorAll('table')[0].querySelectorAll('tbody th')].map(e => e.innerText)"
    )
    assert first == list(VARIANTS)
    images = browser.run(
        "return [...document.images].map(e => [e.complete, e.naturalWidth, e.alt.length, e.currentSrc])"
    )
    assert len(images) == 3
    assert all(complete and width > 0 and alt > 0 for complete, width, alt, _ in images)
    sources = browser.run("return [...document.querySelectorAll('source')].map(e => e.srcset)")
    assert all((image[3] == source) is dark for image, source in zip(images, sources, strict=True))
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert not browser.is_wider_than_its_window()
    assert "<script>document.title='taken'</script>" in browser.text("main")


def test_wide_tables_scroll_in_their_box(browser, page):
    browser.open(page.as_uri(), PHONE)
    box = "document.querySelector('.scroll')"
    assert browser.run(f"return {box}.scrollWidth > {box}.clientWidth")
    browser.run(f"{box}.scrollLeft = 200")
    assert browser.run(f"return {box}.querySelector('tbody th').getBoundingClientRect().left >= 0")


def test_stories_stand_side_by_side_where_there_is_room(browser, page):
    count = "return new Set([...document.querySelectorAll('article')].map(e => e.getBoundingClientRect().left)).size"
    browser.open(page.as_uri(), (1280, 900))
    assert browser.run(count) == 3
    browser.open(page.as_uri(), PHONE)
    assert browser.run(count) == 1


def test_reports_of_sweeps_fit_a_phone(browser, tmp_path):
    for kind, name in (("lr-sweep", "rate-{}"), ("batch-sweep", "batch-8-rate-{}")):
        directory = tmp_path / kind
        make_header(directory, kind=kind, target_loss=3.0)
        for rate, final in ((0.01, 2.5), (0.02, 2.2), (0.04, None)):
            at = 17 if final is None else None
            make_run(directory / name.format(rate), [7.6, 4.0, final], at=at, learning_rate=rate, batch_size=8)
        browser.open(write_report(read_experiment(directory, WORDING), directory)[1].as_uri(), PHONE)
        assert browser.messages() == []
        assert not browser.is_wider_than_its_window()
        assert browser.run("return [...document.images].every(e => e.naturalWidth > 0)")
