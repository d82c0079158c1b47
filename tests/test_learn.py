"""The pages that teach have the same sections, and questions whose answers are hidden behind a hint."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
INDEX = DOCS / "learn" / "index.md"
PARTS = sorted({*INDEX.parent.glob("*.md")} - {INDEX})
MAP = DOCS.parent / "apps" / "tinystories" / "docs" / "course-map.md"
SECTIONS = """
    The idea, The maths, Your turn, Our implementation, The fast version, The tests, The experiment, Questions
""".strip().split(", ")
FIGURES = {
    "accounting": "model-size",
    "attention": "attention",
    "bpe": "bpe-merges",
    "experiments": "learning-curves",
    "positions": "rope",
}

every_part = pytest.mark.parametrize("page", PARTS, ids=lambda path: path.stem)


def rows():
    """Return the page and the problems of each row of the index."""
    return [
        (name, re.findall(r"`(\w+)`", line))
        for line in INDEX.read_text("utf-8").splitlines()
        for name in re.findall(r"^\| \[.*?\]\(([\w-]+\.md)\)", line)
    ]


def test_the_index_names_every_page_and_every_problem_of_the_course():
    assert sorted(name for name, _ in rows()) == [page.name for page in PARTS]
    problems = re.findall(r"^\| `(\w+)`", MAP.read_text("utf-8"), re.MULTILINE)
    assert sorted(problem for _, found in rows() for problem in found) == sorted(problems)


@every_part
def test_each_page_names_its_problems_where_it_is_the_readers_turn(page):
    turn = page.read_text("utf-8").partition("## Your turn")[2].partition("\n## ")[0]
    for problem in dict(rows())[page.name]:
        assert f"`{problem}`" in turn
    assert "must be your own" in " ".join(turn.split())
    assert turn.count('??? tip "Hint') >= 3


@every_part
def test_the_sections_come_in_order(page):
    found = re.findall(r"^## (.+)$", page.read_text("utf-8"), re.MULTILINE)
    assert [section for section in found if section in SECTIONS] == SECTIONS


@every_part
def test_three_questions_have_a_hint_before_a_hidden_answer(page):
    questions = page.read_text("utf-8").partition("## Questions")[2].split('??? question "')[1:]
    assert len(questions) == 3
    for number, question in enumerate(questions, start=1):
        title, _, body = question.partition("\n")
        assert re.fullmatch(rf'{number}\. [^"]+[?.]"', title), title
        hint, answer, text = body.partition('\n    ??? success "Answer"\n')
        assert hint.startswith("    Hint: ")
        assert answer
        assert all(line.startswith(" " * 8) for line in text.splitlines() if line)


@every_part
def test_pictures_have_words_and_a_caption(page):
    pictures = re.findall(r"^!\[(.+)\]\(.+\)\n\n\*", page.read_text("utf-8"), re.MULTILINE)
    assert len(pictures) == page.read_text("utf-8").count("![") >= 1


@every_part
def test_interactive_figures_are_in_their_place(page):
    figures = re.findall(r'^\S.*\n\n<div class="figure" data-figure="([\w-]+)"></div>$', page.read_text("utf-8"), re.M)
    assert figures == ([FIGURES[page.stem]] if page.stem in FIGURES else [])


def test_the_pictures_are_those_of_today_s_numbers():
    drawn = dict(runpy.run_path(str(DOCS / "figures" / "draw.py"))["pictures"]())
    shown = {path.name for path in (DOCS / "figures").glob("learn-*.svg")}
    assert {f"learn-{name}.svg" for name in drawn} == shown
    for name, content in drawn.items():
        assert (DOCS / "figures" / f"learn-{name}.svg").read_text("utf-8") == content, "run python docs/figures/draw.py"
