"""Pages show lines of the code as it is; those from the maths to the kernel show all of nnscratch's reference."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "from-maths-to-kernel").glob("*.md"))
LESSONS = sorted((ROOT / "docs" / "learn").glob("*.md"))
PACKAGES = ROOT / "packages"
REFERENCE = PACKAGES / "nnscratch" / "src" / "nnscratch" / "reference.py"
LONGEST = 18  # lines of code that a reader takes in at a glance

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("page", LESSONS, ids=lambda path: path.stem)
every_page_and_lesson = pytest.mark.parametrize("page", [*PAGES, *LESSONS], ids=lambda path: path.stem)


def blocks(page):
    """Return the source file and the lines of each Python block of a page that names a file."""
    text = page.read_text("utf-8")
    named = re.findall(r"^```python ([^\n]+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(source(name), code.splitlines()) for name, code in named]


def source(name):
    """Return the file that a block names: `adamw.py` of nnscratch, or `title="bpe/reference.py"` of any package."""
    if title := re.fullmatch(r'title="((\w+)/.+)"', name):
        return PACKAGES / title[2] / "src" / title[1]
    return REFERENCE.parent / name


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


@every_page_and_lesson
def test_code_is_that_of_the_file_it_names(page):
    for path, block in blocks(page):
        assert path.is_file(), f"{page.name}: a Python block names {path}, expected a file of a package"
        assert place(block, path.read_text("utf-8").splitlines()), "\n".join([f"not in {path.name}:", *block])
        assert len(block) <= (10 if page in PAGES else LONGEST)


@every_page
def test_every_block_names_its_file(page):
    assert len(blocks(page)) == page.read_text("utf-8").count("```python")


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


@every_page_and_lesson
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
