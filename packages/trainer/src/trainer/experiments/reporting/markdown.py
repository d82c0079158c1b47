"""The report as Markdown."""

import re
from collections.abc import Mapping, Sequence

from trainer.experiments.reporting import words
from trainer.experiments.reporting.document import Document, Picture
from trainer.experiments.reporting.summary import Facts
from trainer.experiments.reporting.tables import Rows

_NONE: Mapping[str, str] = {}


def markdown(document: Document) -> str:
    """The whole report; pictures are linked as files beside it."""
    lines = [f"# {_escaped(document.title)}", ""]
    if document.missing:
        known = "; ".join(f"{name}: {value}" for name, value in document.missing)
        lines += [f"> **{words.INCOMPLETE}** {_escaped(known)}.", ""]
    lines += [_escaped(document.headline), "", *_pictures(document.pictures[:1])]
    lines += [
        *_list(document.summary),
        "",
        *_table(document.results, {name: f"#{anchor}" for name, anchor in document.places.items()}),
        "",
    ]
    for sentence in document.reading:
        lines += [_escaped(sentence), ""]
    lines += _pictures(document.pictures[1:])
    if document.variants:
        lines += [f"## {words.VARIANTS}", "", *_table(document.variants), ""]
    if document.stories:
        lines += [f"## {words.STORIES.format(document.text)}", ""]
        lines += [document.text_note, ""] if document.text_note else []
        for story in document.stories:
            lines += [
                f"### {_escaped(story.name)}",
                "",
                _quoted(story.text) if story.text is not None else words.NOTHING_WRITTEN.format(document.text),
                "",
            ]
    lines += [f"## {words.SETTING}", "", *_list(document.setting), ""]
    lines += [*(f"- {_escaped(note)}" for note in document.notes), ""] if document.notes else []
    if len(document.costs) > 1:
        lines += [f"## {words.COSTS}", "", words.COSTS_NOTE, "", *_table(document.costs), ""]
    lines += [f"## {words.RUNS}", "", *_table(document.runs, document.sources, document.group_starts), ""]
    return "\n".join(lines)


def _list(facts: Facts) -> list[str]:
    return [f"- {_escaped(name)}: {_escaped(value)}" for name, value in facts]


def _pictures(pictures: Sequence[Picture]) -> list[str]:
    shown = ((f"![{_escaped(one.title)}]({one.name}.png)", "", f"*{_escaped(one.caption)}*", "") for one in pictures)
    return [line for lines in shown for line in lines]


def _table(rows: Rows, links: Mapping[str, str] = _NONE, anchors: Mapping[str, str] = _NONE) -> list[str]:
    """A table; `links` and `anchors` are those of its first cells."""

    def line(cells: Sequence[str]) -> str:
        first, *others = map(_escaped, cells)
        if cells[0] in links:
            first = f"[{first}]({links[cells[0]]})"
        if cells[0] in anchors:
            first = f'<a id="{anchors[cells[0]]}"></a>{first}'
        return "| " + " | ".join((first, *others)) + " |"

    sides = [":---" if column == 0 or name in words.WORDY else "---:" for column, name in enumerate(rows[0])]
    return [line(rows[0]), "|" + "|".join(sides) + "|", *map(line, rows[1:])]


def _escaped(text: str) -> str:
    """Text on one line that Markdown shows unchanged: no markup, no HTML, no table cells."""
    one_line = " ".join(text.split())
    one_line = re.sub(r"([\\`*|~])", r"\\\1", one_line)
    one_line = re.sub(r"\](?=[(\[:])", r"\]", one_line)  # no links
    one_line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", one_line)  # inside a word it is no emphasis
    return one_line.replace("&", "&amp;").replace("<", "&lt;")


def _quoted(text: str) -> str:
    """A text as a block quote, line by line; no line begins a heading or a list."""
    lines = []
    for line in text.splitlines():
        escaped = re.sub(r"^(\d+)([.)])", r"\1\\\2", _escaped(line))
        lines.append("> " + re.sub(r"^([#+>=-])", r"\\\1", escaped))
    return "\n".join(line.rstrip() for line in lines)
