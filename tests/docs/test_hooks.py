"""The hooks of the site: links out of docs/, formulas, and the names of the reference."""

from types import SimpleNamespace

import pytest
from maths import on_page_content
from reference import PACKAGES, names_by_home, page, public_names
from repository import ROOT, source_address, with_links

PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("docs/trainer.md", "trainer.md"),
        ("README.md", "repository.md"),
        ("packages/bpe/README.md", "packages/bpe/README.md"),
        ("packages/bpe", "packages/bpe/README.md"),
        ("packages/bpe/src/bpe/text", "reference/bpe/text.md"),
        ("packages/bpe/tests", "packages/bpe/tests/index.md"),
        ("packages/bpe/src/bpe/reference.py", "packages/bpe/src/bpe/reference.py.md"),
        ("apps/tinystories/results/lr-sweep-sample/rates.png", "apps/tinystories/results/lr-sweep-sample/rates.png"),
    ],
)
def test_files_of_the_repository_have_addresses(path, address):
    assert source_address(ROOT / path) == address


def test_only_links_to_files_of_the_repository_change():
    text = '[a](../README.md#x) [b](https://a.b/README.md) [c](missing.md) [d](#here) <img src="../LICENSE">'
    changed = with_links(text, ROOT / "docs", lambda path: f"new/{path.name}")
    assert changed == (
        '[a](new/README.md#x) [b](https://a.b/README.md) [c](missing.md) [d](#here) <img src="new/LICENSE">'
    )


def test_formulas_become_mathml():
    content = on_page_content('<p><span class="arithmatex">\\(a &lt; x^2\\)</span></p>', PAGE)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in content
    assert "&lt;" in content
    assert "<math>" in content
    block = on_page_content('<div class="arithmatex">\\[\n\\frac{1}{2}\n\\]</div>', PAGE)
    assert "<mfrac>" in block
    assert 'display="block"' in block


def test_a_wrong_formula_is_named():
    with pytest.raises(ValueError, match=r"a\.md: the formula .*\\frac"):
        on_page_content('<span class="arithmatex">\\(\\frac{1}\\)</span>', PAGE)


def test_the_reference_has_every_name_once():
    text = "".join(map(page, names_by_home()))
    entries = [line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")]
    assert len(entries) == len(set(entries))
    assert {name for package in PACKAGES for name in public_names(package)} <= set(entries)
    for name in ("bpe.tokenizer.Tokenizer", "nnscratch.optimizers.muon.Muon", "trainer.config.TrainConfig"):
        assert name in entries
