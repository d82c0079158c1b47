"""The pages that teach: their programs print what they say, and their commands exist."""

import re

import pytest
from pages import ROOT, accounting_lines, check_command, command_lines, commands, printed_by, programs

PAGES = sorted((ROOT / "docs" / "learn").glob("*.md"))
RECORDS = {"CHANGELOG.md", "experiments.md", "benchmarks.md"}  # which keep commands of their day
OTHERS = [
    page
    for pattern in ("*.md", "docs/*.md", "docs/from-maths-to-kernel/*.md", "*/*/README.md", "*/*/results/README.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name not in RECORDS and command_lines(page.read_text("utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_programs_print_what_the_pages_say(page):
    found = programs(page)
    assert len(found) == len(re.findall(r"^ *```python$", page.read_text("utf-8"), re.MULTILINE))
    for code, expected in found:
        assert printed_by(code, str(page)) == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_exist(page):
    for words in commands(page.read_text("utf-8")):
        check_command(words)


@pytest.mark.parametrize("page", OTHERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_other_documents_are_accepted(page):
    """`nox -s docs_tests` runs those of the guides."""
    for words in command_lines(page.read_text("utf-8")):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_accounting_prints_what_the_pages_say(page, capsys):
    from nnscratch.accounting.__main__ import main

    for options, expected in accounting_lines(page):
        assert main(options) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected if line not in printed] == []
