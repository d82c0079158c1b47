"""The interactive figures in headless Chromium: they compute what the packages compute, and can be used."""

import runpy
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="needs selenium and the projects, which the nox session `docs` installs")

import torch
from browser import DESKTOP, PHONE
from selenium.webdriver import ActionChains, Keys
from synthetic import bits_per_byte, make_group, make_header

from bpe import reference as bpe_reference
from nnscratch import accounting, reference
from nnscratch.accounting.presets import GPT2
from nnscratch.config import TransformerConfig
from tinystories.recipes import PRESETS

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "learn" / "figures"
NAMES = ["bpe-merges", "rope", "attention", "learning-curves", "model-size"]
TEXTS = [
    "low low low low low lower lower widest widest widest newest newest newest newest newest newest",
    "ab ab ba ba aab abb\taab\n\n  ab's we'll 12 123 1234",
    "naïve café, Ünïcödé; 日本語 日本 の 日本語 🙂🙂 🙃",
    "aaaa aaaaa aaa aa a",
    "no-break\u00a0space\u2003em\u0085next\u001cfile \ufeff! !\u001c \ufeff\ufeff x\u00b2 ٣٤ \u0001\u0001 don't DON'T",
    "",
]
SIZES = {  # of the figure, and of a config
    "vocabulary": "vocab_size", "context": "context_length", "width": "d_model", "layers": "num_layers",
    "heads": "num_heads", "inner": "d_ff",
}  # fmt: skip
COURSE = PRESETS["cpu-course"]
TINYSTORIES = TransformerConfig(**{name: getattr(COURSE, name) for name in SIZES.values()})
ODD = TransformerConfig(257, 33, 24, 3, 2, 50)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A folder with the figures, the data of synthetic runs, and one page for each figure."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(FIGURES, folder / "figures")
    runs = folder / "runs"
    make_header(runs)
    finals = {"baseline": [3.2, 3.3, 3.1], "no_rmsnorm": [3.4, None, 3.5], "nope": [3.6, 3.7, 3.8], "silu": [3.3, 3.4]}
    for name, losses in finals.items():
        make_group(runs, name, losses)
    runpy.run_path(str(folder / "figures" / "learning_curves.py"))["main"]([str(runs)])
    for name in NAMES:
        (folder / f"{name}.html").write_text(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Figures</title>'
            '<meta name="viewport" content="width=device-width">'
            '<link rel="icon" href="data:,"><link rel="stylesheet" href="figures/figures.css">'
            '<script src="figures/figures.js"></script></head>'
            f'<body data-md-color-scheme="default"><div class="figure" data-figure="{name}"></div></body></html>',
            encoding="utf-8",
        )
    return folder


@pytest.fixture
def figure(browser, pages):
    """A function that opens a figure and returns the browser."""

    def opened(name, size=DESKTOP):
        browser.open((pages / f"{name}.html").as_uri(), size)
        browser.wait(lambda: browser.find_all("[data-ready], .error:not(:empty)"))
        return browser

    return opened


def plain(merges):
    """Pairs of bytes as pairs of texts with one character per byte, the form of the figure."""
    return [[token.decode("latin-1") for token in pair] for pair in merges]


def type_into(field, text):
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)


def set_slider(browser, index, value):
    browser.run(
        "const input = document.querySelectorAll('.figure [type=range]')[arguments[0]];"
        "input.value = arguments[1]; input.dispatchEvent(new Event('input'));",
        index,
        value,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_builds_itself_in_both_schemes_and_fits_a_phone(figure, name):
    browser = figure(name, PHONE)
    assert not browser.find_all(".error:not(:empty)")
    assert not browser.is_wider_than_its_window()
    paper = "return getComputedStyle(document.querySelector('.figure')).getPropertyValue('--figure-accent')"
    light = browser.run(paper)
    browser.run("document.body.dataset.mdColorScheme = 'slate'")
    assert browser.run(paper) != light
    unnamed = browser.run(
        "return [...document.querySelectorAll('.figure :is(input, select, textarea)')].filter((one) =>"
        "!one.labels[0]?.textContent.trim()).length"
    )
    assert unnamed == 0
    assert browser.find_all("[aria-live=polite]")
    assert browser.messages() == []


def test_a_figure_without_its_data_says_so(browser, pages):
    (pages / "lost.html").write_text((pages / "rope.html").read_text("utf-8").replace('"rope"', '"lost"'), "utf-8")
    browser.open((pages / "lost.html").as_uri())
    browser.wait(lambda: "lost.js could not be loaded" in browser.text(".error"))
    assert browser.messages()


@pytest.mark.parametrize("text", TEXTS)
def test_merges_and_encodings_are_those_of_bpe(figure, text):
    browser = figure("bpe-merges")
    counts = bpe_reference.count_words(text)
    merges = bpe_reference.learn_merges(counts, 60)
    assert browser.run("return figures.bpe.train(arguments[0], 60)", text) == plain(merges)
    words = [word.decode("latin-1") for word in [*counts, b" lowest", "日本語".encode()]]
    encodings = browser.run(
        "return arguments[0].map((word) => figures.bpe.encode(word, arguments[1]).at(-1))", words, plain(merges)
    )
    assert encodings == plain(bpe_reference.encode_word(word.encode("latin-1"), merges) for word in words)


def test_merging_step_by_step_and_back(figure):
    browser = figure("bpe-merges")
    rows = "section:nth-of-type(3) .number"
    merge, back = browser.find_all(".controls button")[1::-1]
    assert "Next: s + t, 9 times" in browser.text(".spoken")
    assert "8 tokens" in browser.text(".encoding")
    for _ in range(4):
        merge.click()
    assert len(browser.find_all(rows)) == 4
    assert browser.text(".spoken").startswith("4 merges.")
    back.click()
    assert len(browser.find_all(rows)) == 3
    merges = bpe_reference.learn_merges(bpe_reference.count_words(browser.find("textarea").get_property("value")), 3)
    assert len(bpe_reference.encode_word(b" slowest", merges)) == 5
    assert "5 tokens" in browser.text(".encoding")
    type_into(browser.find("textarea"), "aa aa")
    assert browser.text(".spoken").startswith("0 merges.")
    play = browser.find_all(".controls button")[2]
    play.click()
    browser.wait(lambda: "No pairs are left" in browser.text(".spoken"))
    assert not merge.is_enabled()
    assert browser.run("return document.activeElement === arguments[0]", back)
    browser.find_all(".controls button")[3].click()
    assert browser.text(".spoken").startswith("0 merges.")
    assert browser.run("return document.activeElement === arguments[0]", merge)
    assert browser.messages() == []


def test_rotation_is_that_of_the_reference(figure):
    browser = figure("rope")
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positions = torch.tensor([0, 1, 7, 50, 100])
    for theta in (10.0, 10_000.0):
        rotated = browser.run(
            "return arguments[0].map((x, i) => figures.rope.rotate(x, arguments[1][i], arguments[2]))",
            x.tolist(), positions.tolist(), theta,
        )  # fmt: skip
        # The reference's frequencies are float32.
        torch.testing.assert_close(
            torch.tensor(rotated).double(), reference.rotate(x, positions, theta), atol=1e-4, rtol=0
        )


def test_the_dot_product_depends_on_the_distance(figure):
    browser = figure("rope")

    def shown():
        return browser.text(".spoken").split(" It is")[0]

    def product(i, j):
        ones = torch.tensor([1.0, 0.0] * 4)
        q, k = (reference.rotate(ones[None], torch.tensor([position])) for position in (i, j))
        return f"{float((q * k).sum()):.3f}"

    assert shown() == f"The dot product is {product(12, 7)} at distance i − j = 5."
    before = shown()
    browser.find("[type=checkbox]").click()
    set_slider(browser, 0, 60)
    assert browser.find_all("[type=range]")[1].get_property("value") == "55"
    assert shown() == before
    set_slider(browser, 0, 2)  # the key's slider ends at 0, and the distance stays
    assert [one.get_property("value") for one in browser.find_all("[type=range]")[:2]] == ["5", "0"]
    assert shown() == before
    browser.find("[type=checkbox]").click()
    browser.find_all("[type=range]")[0].send_keys(Keys.ARROW_RIGHT)
    assert shown() == f"The dot product is {product(6, 0)} at distance i − j = 6."
    browser.find_all(".controls button")[0].click()
    assert shown() != f"The dot product is {product(6, 0)} at distance i − j = 6."
    assert browser.messages() == []


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_the_reference(figure, causal):
    browser = figure("attention")
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 6, 16, generator=generator, dtype=torch.float64)
    weights = browser.run(
        "return figures.attention.weights(figures.attention.scores(arguments[0], arguments[1], true), arguments[2])",
        q.tolist(), k.tolist(), causal,
    )  # fmt: skip
    mask = torch.ones(6, 6, dtype=torch.bool).tril() if causal else None
    expected = reference.attention(q, k, torch.eye(6, dtype=torch.float64), mask)  # the weights, as values are one-hot
    torch.testing.assert_close(torch.tensor(weights, dtype=torch.float64), expected)


def test_rows_of_attention_by_key_and_pointer(figure):
    browser = figure("attention")

    def chosen():
        return browser.text(".bars caption")

    def weights():
        return [float(cell.text.removesuffix(" %")) for cell in browser.find_all(".bars td:last-child")]

    assert chosen() == "Query 4, “on”"
    browser.find(".weights [tabindex='0']").send_keys(Keys.ARROW_DOWN)
    assert chosen() == "Query 5, “the”"
    assert browser.run("return document.activeElement.matches('tr.selected')")
    assert weights()[-1] == 0.0
    assert weights()[0] == weights()[4]  # equal tokens
    assert abs(sum(weights()) - 100) < 2
    scaled = max(weights())
    divide, mask = browser.find_all("[type=checkbox]")
    divide.click()
    assert max(weights()) > scaled
    mask.click()
    assert weights()[-1] > 0 or "−∞" not in browser.text(".bars")
    ActionChains(browser.driver).move_to_element(browser.find(".weights tbody tr")).perform()
    assert chosen() == "Query 1, “the”"
    field = browser.find("[type=text]")
    type_into(field, "a b")
    assert len(browser.find_all(".weights tbody tr")) == 2
    type_into(field, Keys.DELETE)
    assert "Type a few words" in browser.text(".matrix")
    assert browser.messages() == []


def test_curves_are_those_of_the_records(figure):
    browser = figure("learning-curves")

    def table():
        rows = browser.find_all(".row tbody tr")
        return {row.find_element("css selector", "th").text: row.text.split()[1:] for row in rows}

    ends = bits_per_byte(statistics.mean([3.2, 3.3, 3.1]))
    assert table()["baseline"][0] == f"{ends:.3f}"
    assert table()["no_rmsnorm"][2:] == ["2", "of", "3"]
    assert next(iter(table())) == "baseline"  # the lowest
    assert len(browser.find_all(".chart .line")) == 4
    assert len(browser.find_all(".chart .diverged")) == 1
    set_slider(browser, 0, 0.875)  # step 35, between the evaluations at 30 and 40
    assert table()["baseline"][0] == f"{ends + bits_per_byte(0.1):.3f}"
    assert "35 steps" in browser.text(".row caption")
    browser.find("select").send_keys("seconds")
    assert "35 seconds" in browser.text(".row caption")
    for box in browser.find_all("[type=checkbox]")[-2:]:  # logarithmic axes
        box.click()
    for box in browser.find_all("[type=checkbox]")[:4]:  # no variant is left
        box.click()
    assert table() == {}
    assert browser.messages() == []


def test_data_needs_one_directory_of_runs(tmp_path):
    main = runpy.run_path(str(FIGURES / "learning_curves.py"))["main"]
    with pytest.raises(SystemExit, match="expected one directory"):
        main([])
    with pytest.raises(FileNotFoundError, match="no finished run"):
        main([str(tmp_path)])


@pytest.mark.parametrize("config", [*GPT2.values(), TINYSTORIES, ODD, replace(ODD, num_layers=1, context_length=1)])
def test_sizes_are_those_of_the_accounting(figure, config):
    browser = figure("model-size")
    sizes = {name: getattr(config, field) for name, field in SIZES.items()}

    def parts(name, *arguments):
        script = f"return Object.values(figures.modelSize.{name}(...arguments))"
        return browser.run(script, sizes, *arguments)

    assert parts("parameters") == list(accounting.parameters_by_part(config).values())
    assert parts("flops") == list(accounting.flops_by_part(config).values())
    assert browser.run("return figures.modelSize.activations(arguments[0])", sizes) == accounting.activation_values(
        config
    )
    for batch, size, optimizer in ((1, 4, "adamw"), (7, 2, "muon"), (64, 4, "sgd")):
        kept = accounting.memory_estimate(config, batch, bytes_per_value=size, optimizer=optimizer)
        expected = [kept.parameters, kept.gradients, kept.optimizer_state, kept.activations]
        assert parts("memory", batch, size, optimizer) == expected


def test_presets_are_those_of_the_packages(figure):
    browser = figure("model-size")
    for index, config in enumerate([TINYSTORIES, *GPT2.values()]):
        browser.run(
            "const select = document.querySelector('select'); select.selectedIndex = arguments[0];"
            "select.dispatchEvent(new Event('change'))",
            index,
        )
        shown = [item.get_attribute("title") for item in browser.find_all("section:first-child .times[title]")]
        assert shown == [f"{count:,}" for count in accounting.parameters_by_part(config).values()]
        assert int(browser.find_all("[type=number]")[2].get_property("value")) == config.num_heads


def test_sizes_that_make_no_model_are_refused(figure):
    browser = figure("model-size")
    heads = browser.find_all("[type=number]")[2]
    for value, words in (("3", "do not divide"), ("512", "even width"), ("0", "above 0"), ("", "above 0")):
        browser.run("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", heads, value)
        assert words in browser.text(".error")
    type_into(heads, "8")
    assert browser.text(".error") == ""
    assert browser.find("select").get_property("value") == "your own"
    assert browser.messages() == []
