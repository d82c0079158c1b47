"""The report of ablations: the table, the text and what they may claim."""

import csv
import re
import statistics as standard
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import BYTES_PER_TOKEN, make_failure, make_group, make_header, make_run

from tinystories.reporting.document import compose
from tinystories.reporting.html import html
from tinystories.reporting.markdown import markdown
from tinystories.reporting.write import aligned, summary_table, write_report
from tinystories.results.records import read_experiment
from tinystories.variants import VARIANTS

INTERVAL = re.compile(r"[+-]\d+\.\d{4} \[([+-]\d+\.\d{4}), ([+-]\d+\.\d{4})\]")


@pytest.fixture
def directory(tmp_path):
    """Three seeds of everything that can happen."""
    make_header(tmp_path, notes=["Every variant at its own rate."])
    make_group(tmp_path, "baseline", [2.00, 2.02, 2.04])
    make_group(tmp_path, "no_rmsnorm", [None, None, None])
    make_group(tmp_path, "post_norm", [2.01, 2.02, 2.05])
    make_group(tmp_path, "nope", [3.00, 3.02, 3.04])
    make_group(tmp_path, "silu", [1.50, 1.52, 1.54])
    make_group(tmp_path, "qk_norm", [2.5, None, None])
    make_group(tmp_path, "half_vocabulary", [1.50, 1.51, 1.52], vocab_size=1024, bytes_per_token=2.0)
    make_failure(tmp_path / "muon", "RuntimeError: a | b <b>bold</b>")
    return tmp_path


def by_name(rows):
    """Rows of a table as {first cell: {heading: cell}}; a heading that comes twice has its number."""
    headings = [heading + str(rows[0][:i].count(heading) or "") for i, heading in enumerate(rows[0])]
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows[1:]}


def test_table_has_means_spreads_and_differences(directory):
    rows = by_name(compose(read_experiment(directory)).results)
    assert list(rows) == [
        "baseline", "no_rmsnorm", "post_norm", "nope", "silu", "qk_norm", "muon", "half_vocabulary",
    ]  # fmt: skip
    deviation = standard.stdev([2.00, 2.02, 2.04])
    assert rows["baseline"]["validation loss"] == f"2.0200 ± {deviation:.4f}"
    assert rows["baseline"]["to baseline [95 %]"] == "-"
    # By hand: t(0.975; 4 degrees) = 2.7764, standard error = 0.02 * sqrt(2 / 3); rounded outwards.
    assert rows["nope"]["to baseline [95 %]"] == "+1.0000 [+0.9546, +1.0454]"
    assert rows["half_vocabulary"]["to baseline [95 %]"] == "-"
    assert rows["half_vocabulary"]["to baseline [95 %]1"].startswith("+0.1178 [")
    assert {name: row["finding"] for name, row in rows.items()} == {
        "baseline": "baseline",
        "no_rmsnorm": "diverged",
        "post_norm": "no difference found",
        "nope": "worse, as expected",
        "silu": "better, against the expectation",
        "qk_norm": "nothing can be said",
        "muon": "failed",
        "half_vocabulary": "worse, as expected",
    }
    assert rows["no_rmsnorm"]["runs"] == "3, 3 diverged"
    assert rows["qk_norm"]["runs"] == "3, 2 diverged"
    assert rows["muon"]["runs"] == "1, 1 failed"
    assert rows["muon"]["validation loss"] == "-"


def test_paragraphs_say_what_was_expected_found_and_visible(directory):
    text = {finding.name: finding.text for finding in compose(read_experiment(directory)).findings}
    assert "Expected: worse. The causal mask gives away some position" in text["nope"]
    assert "interval from +0.9546 to +1.0454: worse than the baseline, as expected." in text["nope"]
    assert "no difference found. These runs could have shown one of about 0.0" in text["post_norm"]
    assert "better than the baseline, against the expectation" in text["silu"]
    assert (
        "Training diverged in 3 of 3 runs (not finite at step 17). Diverged: no loss to compare." in text["no_rmsnorm"]
    )
    assert "Training diverged in 2 of 3 runs" in text["qk_norm"]
    assert "In the other run the validation loss was 2.5000" in text["qk_norm"]
    assert "1 run failed: RuntimeError: a | b <b>bold</b>" in text["muon"]
    assert "bits per byte" in text["half_vocabulary"]
    assert "losses per token cannot be compared" in text["half_vocabulary"]


def test_single_runs_claim_nothing(tmp_path):
    for name, final in (("baseline", 2.0), ("nope", 9.0), ("silu", 2.0001)):
        make_group(tmp_path, name, [final])
    document = compose(read_experiment(tmp_path))
    assert by_name(document.results)["nope"]["to baseline [95 %]"] == "+7.0000"
    assert {finding.verdict for finding in document.findings[1:]} == {"nothing can be said"}
    assert any("One run only, so that nothing can be said: nope and silu." in line for line in document.summary)
    assert any("n = 1" in sentence for sentence in document.reading)
    assert not any("one in twenty" in sentence for sentence in document.reading)


def test_without_a_baseline_nothing_is_compared(tmp_path):
    make_group(tmp_path, "nope", [2.0, 2.1])
    make_group(tmp_path, "baseline", [None, None])
    document = compose(read_experiment(tmp_path))
    assert [finding.verdict for finding in document.findings] == ["diverged", "no comparison"]
    assert "There is no baseline to compare with." in document.summary


def test_a_part_of_an_experiment_says_so(directory):
    (directory / "silu-seed-1" / "summary.json").unlink()
    text = markdown(compose(read_experiment(directory)))
    assert "This report covers a part of the experiment only." in text
    assert "Not finished yet: silu-seed-1." in text
    assert "Failed: muon." in text
    assert "Fewer than 3 runs: silu and muon." in text


def test_only_failures_make_a_report_too(tmp_path):
    make_failure(tmp_path / "baseline", "RuntimeError: no")
    paths = write_report(read_experiment(tmp_path), tmp_path)
    assert [path.name for path in paths] == ["report.md", "report.html", "runs.csv"]
    assert "failed: RuntimeError: no" in paths[0].read_text("utf-8")


def test_terminal_table_is_aligned(directory):
    rows = summary_table(read_experiment(directory))
    lines = aligned(rows).splitlines()
    words = lines[0].index("finding")
    assert all(
        line[words:].startswith(row[1]) and line[words - 1] == " " for line, row in zip(lines, rows, strict=True)
    )
    numbers = lines[0].index("validation loss") + len("validation loss")
    assert all(line[:numbers].endswith(row[3]) for line, row in zip(lines, rows, strict=True))
    assert lines[-1].endswith("] bits/byte")


def test_facts_are_those_of_the_records(directory):
    facts = dict(compose(read_experiment(directory)).facts)
    assert facts["device"] == "a CPU (cpu)"
    assert facts["threads"] == "2"
    assert facts["data type"] == "bfloat16"
    assert facts["torch"] == "2.13.0"
    assert facts["commit"] == "0123456789ab with uncommitted changes"
    assert facts["begun"] == "2026-11-21"
    assert facts["command"] == "python -m tinystories.run ablations --seeds 3"
    assert facts["seeds"] == "0; 1; 2"


def test_the_runs_are_a_table_too(directory):
    write_report(read_experiment(directory), directory)
    with (directory / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["final_valid_loss"] for row in rows if row["group"] == "silu"] == ["1.5", "1.52", "1.54"]
    assert [row["final_valid_loss"] for row in rows if row["group"] == "qk_norm"] == ["2.5", "", ""]
    assert {row["seed"] for row in rows if row["group"] == "nope"} == {"0", "1", "2"}


def test_files_are_written_whole_and_named(directory):
    paths = write_report(read_experiment(directory), directory)
    assert [path.name for path in paths] == [
        "report.md", "report.html", "runs.csv", "differences.png", "loss-by-steps.png", "loss-by-seconds.png",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[3:])
    assert not list(directory.glob(".*tmp*"))
    text = paths[0].read_text("utf-8")
    for path in paths[3:]:
        assert f"]({path.name})" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") - line.count(r"\|") for line in table.splitlines()}) == 1
    assert "> Once upon a time\n> there was" in text
    assert html(compose(read_experiment(directory))).encode() == paths[1].read_bytes()  # nothing in it is by chance


class Tags(HTMLParser):
    """The tags of a page, their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


HOSTILE = "Once <script>alert(1)</script> & <img src=x onerror=alert(2)> # *no* [a](http://b) `c` {{ 7 * 7 }} \x00 ok"


def test_what_a_model_wrote_is_text(tmp_path):
    make_run(tmp_path / "baseline", [7.0, 3.0], story=HOSTILE)
    make_run(tmp_path / "<b>$x_1$ | {{ 1 }}", [7.0, 3.5], story="# no heading\n- no list\n1. nor here\n\n> end")
    make_header(tmp_path, title="A <i>title</i>", notes=["</p><script>"])
    document = compose(read_experiment(tmp_path))
    page = Tags(html(document))
    assert not {"script", "i", "b"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    text = "".join(page.words)
    assert HOSTILE in text
    assert "<b>$x_1$ | {{ 1 }}" in text
    written = markdown(document)
    assert "<script>" not in written
    assert "\n> \\# no heading\n> \\- no list\n> 1\\. nor here\n>\n> \\> end\n" in written
    assert "[a](http" not in written


def test_the_page_needs_nothing_else(directory):
    page = Tags(html(compose(read_experiment(directory))))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(picture["alt"] and picture["src"].startswith("data:image/svg+xml") for picture in pictures)
    links = [value for _, each in page.tags for name, value in each.items() if name in ("href", "src", "srcset")]
    assert all(link.startswith("data:") for link in links)
    assert not {"script", "link"} & {tag for tag, _ in page.tags if tag != "link"}


finals = st.lists(st.one_of(st.none(), st.floats(1.9, 2.1).map(lambda x: round(x, 4))), min_size=1, max_size=4)
"""Losses close enough that many intervals hold 0, and some runs that diverged."""


@settings(max_examples=60, deadline=None)
@given(
    baseline=finals,
    others=st.dictionaries(st.sampled_from([*list(VARIANTS)[1:], "mine"]), finals, min_size=1, max_size=4),
)
def test_text_and_table_never_disagree(baseline, others):
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        make_group(directory, "baseline", baseline)
        for name, losses in others.items():
            size, length = (1024, 2.0) if name == "half_vocabulary" else (2048, BYTES_PER_TOKEN)
            make_group(directory, name, losses, vocab_size=size, bytes_per_token=length)
        document = compose(read_experiment(directory))
    rows = by_name(document.results)
    reference = [loss for loss in baseline if loss is not None]
    for finding in document.findings:
        if finding.name == "baseline":
            continue
        row, losses = rows[finding.name], [loss for loss in others[finding.name] if loss is not None]
        assert row["finding"] == finding.verdict
        cells = [row["to baseline [95 %]"], row["to baseline [95 %]1"]]
        intervals = [tuple(map(float, match.groups())) for cell in cells if (match := INTERVAL.fullmatch(cell))]
        claims = {word for word in ("worse", "better") if f"{word} than the baseline" in finding.text}
        summarised = {
            word for word in ("worse", "better")
            for line in document.summary
            if line.startswith(word.capitalize()) and re.search(rf"\b{finding.name}\b", line)
        }  # fmt: skip
        assert claims == summarised == {word for word in ("worse", "better") if finding.verdict.startswith(word)}
        if len(losses) < 2 or len(reference) < 2:
            assert not intervals
            assert not claims
        elif claims == {"worse"}:
            assert all(low > 0 for low, _ in intervals)
            assert intervals
        elif claims == {"better"}:
            assert all(high < 0 for _, high in intervals)
            assert intervals
        elif intervals:
            assert any(low <= 0 <= high for low, high in intervals)
            assert finding.verdict == "no difference found"
            assert "no difference found" in finding.text
        if not losses:
            assert finding.verdict == "diverged"
        expected = VARIANTS[finding.name].expected if finding.name in VARIANTS else None
        if claims and expected:
            assert ("as expected" in finding.text) is (claims == {expected})
            assert ("against the expectation" in finding.text) is (claims != {expected})


def test_an_interval_that_goes_on_beyond_the_picture_has_an_arrowhead():
    from types import SimpleNamespace

    from matplotlib.figure import Figure

    from tinystories.reporting.pictures.forest import differences
    from tinystories.reporting.pictures.style import LIGHT
    from trainer.experiments.comparison import Difference

    def comparison(name, value, low, high):
        group = SimpleNamespace(name=name)
        return SimpleNamespace(
            group=group, verdict="worse", finding="", direction=None, bits_difference=Difference(value, low, high)
        )

    rows = [
        comparison("near", 0.05, 0.04, 0.06),
        comparison("wide", 0.05, -0.25, 0.35),
        comparison("c", 0.06, 0.05, 0.07),
    ]
    figure = Figure()
    differences(rows)(figure, LIGHT)
    (axes,) = figure.axes
    edge = axes.get_xlim()[1]
    heads = [(line.get_marker(), line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("<", ">")]
    assert heads == [("<", pytest.approx(-edge)), (">", pytest.approx(edge))]
    assert edge == pytest.approx(1.08 * 0.07 * 1.05, rel=0.01)
