"""The pages that teach: their programs print what they say, and their commands exist."""

import re
from pathlib import Path

import pytest
from pages import accounting_lines, check_command, commands, printed_by, programs

PAGES = sorted((Path(__file__).resolve().parents[3] / "docs" / "learn").glob("*.md"))


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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_accounting_prints_what_the_pages_say(page, capsys):
    from nnscratch.accounting.__main__ import main

    for options, expected in accounting_lines(page):
        assert main(options) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected if line not in printed] == []
