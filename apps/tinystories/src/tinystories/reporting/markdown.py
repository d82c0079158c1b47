"""The report as Markdown."""

import re
from collections.abc import Sequence

from tinystories.reporting.document import Document
from tinystories.reporting.tables import Rows

PROMPT_NOTE = "Same prompt, same seed, temperature 0.8, top-p 0.95."
NOTHING_WRITTEN = "(It wrote nothing: training stopped before.)"


def markdown(document: Document) -> str:
    """The whole report; pictures are named as files beside it."""
    lines = [f"# {_escaped(document.title)}", ""]
    if document.incomplete:
        lines += [
            f"> **This report covers a part of the experiment only.** {_escaped(' '.join(document.incomplete))}",
            "",
        ]
    lines += [*(f"- {_escaped(sentence)}" for sentence in document.summary), ""]
    lines += [*_table(document.results), ""]
    for sentence in document.reading:
        lines += [_escaped(sentence), ""]
    for picture in document.pictures:
        lines += [f"![{_escaped(picture.alt)}]({picture.name}.png)", "", f"*{_escaped(picture.caption)}*", ""]
    if document.findings:
        lines += ["## What was changed, expected and found", ""]
        for finding in document.findings:
            lines += [f"**{_escaped(finding.name)}**: {_escaped(finding.verdict)}. {_escaped(finding.text)}", ""]
    if document.stories:
        lines += ["## One story each", "", PROMPT_NOTE, ""]
        for story in document.stories:
            lines += [f"### {_escaped(story.name)}", "", _quoted(story.text), ""]
    lines += ["## What was run, on what", ""]
    lines += [*(f"- {name}: {_escaped(value)}" for name, value in document.facts), ""]
    lines += [*(f"- {_escaped(note)}" for note in document.notes), ""] if document.notes else []
    if len(document.costs) > 1:
        lines += ["Means over the runs that did not diverge; the most memory of any:", "", *_table(document.costs), ""]
    lines += ["## Every run", "", *_table(document.runs), ""]
    return "\n".join(lines)


def _table(rows: Rows) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"

    return [line(rows[0]), "|" + "|".join([":---"] + ["---:"] * (len(rows[0]) - 1)) + "|", *map(line, rows[1:])]


def _escaped(text: str) -> str:
    """Text on one line that Markdown shows as it is: no markup, no HTML, no table cells."""
    one_line = " ".join(text.split())
    one_line = re.sub(r"([\\`*|~])", r"\\\1", one_line)
    one_line = re.sub(r"\](?=[(\[:])", r"\]", one_line)  # what would be a link
    one_line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", one_line)  # inside of a word it is no emphasis
    return one_line.replace("&", "&amp;").replace("<", "&lt;")


def _quoted(text: str | None) -> str:
    """A text as a quotation, line by line; what would begin a heading or a list does not."""
    if text is None:
        return NOTHING_WRITTEN
    lines = []
    for line in text.splitlines():
        escaped = re.sub(r"^(\d+)([.)])", r"\1\\\2", _escaped(line))
        lines.append("> " + re.sub(r"^([#+>=-])", r"\\\1", escaped))
    return "\n".join(line.rstrip() for line in lines)
