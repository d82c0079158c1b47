"""The pages from the maths to the kernel show lines of the code as it is, and all of the reference."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "from-maths-to-kernel").glob("*.md"))
PACKAGE = ROOT / "packages" / "nnscratch" / "src" / "nnscratch"
REFERENCE = PACKAGE / "reference.py"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def blocks(page):
    """Return the source file and the lines of each Python block of a page."""
    found = re.findall(r"^```python *([^\n]*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [(PACKAGE / name, code.splitlines()) for name, code in found]


def place(block, lines):
    """Return the numbers, from 1, of the adjacent lines that equal a block but for a common indent, or nothing."""
    for start in range(len(lines) - len(block) + 1):
        if textwrap.dedent("\n".join(lines[start : start + len(block)])).splitlines() == block:
            return range(start + 1, start + 1 + len(block))
    return range(0)


def shown():
    """Return the numbers of the reference's lines that are on a page."""
    lines = REFERENCE.read_text("utf-8").splitlines()
    return {
        number for page in PAGES for path, block in blocks(page) if path == REFERENCE for number in place(block, lines)
    }


def functions():
    module = ast.parse(REFERENCE.read_text("utf-8"))
    return [node for node in module.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


@every_page
def test_code_is_that_of_the_file_it_names(page):
    for path, block in blocks(page):
        assert path.is_file(), f"{page.name}: a Python block names {path.name!r}, expected a file of nnscratch"
        assert place(block, path.read_text("utf-8").splitlines()), "\n".join([f"not in {path.name}:", *block])
        assert len(block) <= 10


@pytest.mark.parametrize("function", functions(), ids=lambda node: node.name)
def test_every_function_of_the_reference_is_on_a_page(function):
    first = function.body[1].lineno  # after the docstring
    assert set(range(first, function.end_lineno + 1)) <= shown()


def test_the_index_names_every_page_and_function():
    index = (PAGES[0].parent / "README.md").read_text("utf-8")
    assert {page.name for page in PAGES} - {"README.md"} == set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    named = {
        name for row in re.findall(r"^\| \[.*?\| (.*?) \|", index, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert named == {function.name for function in functions()}


@every_page
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        path = (page.parent / target).resolve()
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_changed_line_is_noticed():
    lines = ["def f(x):", "    y = x", "    return y"]
    assert place(["y = x", "return y"], lines) == range(2, 4)
    assert not place(["y = x", "return x"], lines)
    assert not place(["    y = x", "return y"], lines)
