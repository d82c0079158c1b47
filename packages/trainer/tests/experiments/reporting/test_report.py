"""Reports: tables, key figures, Markdown, HTML and CSV, from synthetic experiments."""

import csv
import re
import statistics as standard
from html.parser import HTMLParser

import pytest
from synthetic import WORDING, make_failure, make_group, make_header, make_run

from trainer.experiments.reporting import aligned, brief_table, key_figures, write_report
from trainer.experiments.reporting.document import compose
from trainer.experiments.reporting.html import html
from trainer.experiments.reporting.markdown import markdown
from trainer.experiments.reporting.pictures import LIGHT, rendered
from trainer.experiments.reporting.summary import headline
from trainer.experiments.reporting.tables import runs_csv
from trainer.experiments.results import Described, Wording, read_experiment


def make_ablations(directory):
    """Three seeds of every way that a variant can end."""
    make_header(directory, notes=["Every variant at its own rate."])
    make_group(directory, "baseline", [2.00, 2.02, 2.04])
    make_group(directory, "no_rmsnorm", [None, None, None])
    make_group(directory, "post_norm", [2.01, 2.02, 2.05])
    make_group(directory, "nope", [3.00, 3.03, 3.03])
    make_group(directory, "silu", [1.50, 1.53, 1.53])
    make_group(directory, "qk_norm", [2.5, None, None])
    make_group(directory, "half_vocabulary", [1.50, 1.51, 1.52], vocab_size=1024, bytes_per_token=2.0)
    make_failure(directory / "muon", "RuntimeError: a | b <b>bold</b>")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """An experiment with its report, pictures included."""
    folder = tmp_path_factory.mktemp("ablations")
    make_ablations(folder)
    write_report(read_experiment(folder, WORDING), folder)
    return folder


@pytest.fixture
def document(directory):
    return compose(read_experiment(directory, WORDING), directory)


def by_name(rows):
    """Rows of a table as {first cell: {heading: cell}}; a heading that comes twice has its number."""
    headings = [heading + str(rows[0][:i].count(heading) or "") for i, heading in enumerate(rows[0])]
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows[1:]}


VERDICTS = {
    "baseline": "baseline",
    "no_rmsnorm": "diverged",
    "post_norm": "inconclusive (3 runs)",
    "nope": "worse",
    "silu": "better",
    "qk_norm": "unstable (2 of 3 runs diverged)",
    "muon": "failed",
    "half_vocabulary": "worse",
}


def test_results_have_means_spreads_differences_and_verdicts(document):
    rows = by_name(document.results)
    assert {name: row["verdict"] for name, row in rows.items()} == VERDICTS
    assert list(rows) == list(VERDICTS)
    deviation = standard.stdev([2.00, 2.02, 2.04])
    assert rows["baseline"]["validation loss"] == f"2.0200 ± {deviation:.4f}"
    assert rows["baseline"]["nats to baseline [95 %]"] == "-"
    # By hand: t(0.975; 2 degrees) = 4.3027, standard error of 1.00, 1.01 and 0.99 = 0.01 / sqrt(3); rounded outwards.
    assert rows["nope"]["nats to baseline [95 %]"] == "+1.0000 [+0.9751, +1.0249]"
    assert rows["half_vocabulary"]["nats to baseline [95 %]"] == "-"
    assert rows["half_vocabulary"]["bits to baseline [95 %]"].startswith("+0.1178 [")
    assert rows["no_rmsnorm"]["runs"] == "3, 3 diverged"
    assert rows["qk_norm"]["runs"] == "3, 2 diverged"
    assert rows["muon"]["runs"] == "1, 1 failed"
    assert rows["muon"]["validation loss"] == "-"


def test_variants_have_their_hypothesis_beside_their_verdict(document):
    rows = by_name(document.variants)
    assert {name: row["verdict"] for name, row in rows.items()} == VERDICTS
    assert (rows["nope"]["change"], rows["nope"]["expected"]) == ("change of nope", "worse")
    assert rows["nope"]["hypothesis"] == "hypothesis of nope"


def test_runs_of_equal_time_are_shown_with_their_tokens(tmp_path):
    make_group(tmp_path, "full", [2.0, 2.1], time_limit_seconds=60.0)
    make_run(tmp_path / "slow", [7.0, 2.5], time_limit_seconds=60.0)
    wording = Wording({"full": Described("all"), "slow": Described("slow=True")}, baseline="full")
    document = compose(read_experiment(tmp_path, wording), tmp_path)
    rows = by_name(document.results)
    assert {name: (row["verdict"], row["tokens"]) for name, row in rows.items()} == {
        "full": ("baseline", "81.92 k"),
        "slow": ("inconclusive (1 run)", "20.48 k"),
    }
    assert [picture.name for picture in document.pictures] == ["differences", "loss-by-tokens", "loss-by-seconds"]
    assert document.variants[0] == ["variant", "change", "verdict"]  # nobody predicted anything
    assert dict(document.setting)["training"].startswith("60 seconds of 16 windows")
    assert 'the row "full"' in document.reading[1]


def test_key_figures_sort_variants_by_verdict(document):
    assert document.summary == [
        ("better", "silu"),
        ("worse", "nope, half_vocabulary"),
        ("unstable (2 of 3 runs diverged)", "qk_norm"),
        ("diverged", "no_rmsnorm"),
        ("inconclusive (3 runs)", "post_norm"),
        ("failed", "muon"),
        ("qk_norm, seed by seed", "+0.2404 (seed 0), diverged (seed 1), diverged (seed 2)"),
        ("post_norm, seed by seed", "+0.0048 (seed 0), +0.0000 (seed 1), +0.0048 (seed 2)"),
    ]


def test_a_report_opens_with_its_result_in_a_sentence(document, tmp_path):
    assert document.headline == (
        "nope differs most from baseline, by +0.4809 [+0.4689, +0.4929] bits per byte. Of 7 variants: 1 better, 2 "
        "worse, 1 unstable, 1 diverged, 1 inconclusive and 1 failed."
    )
    make_run(tmp_path / "silu", [7.6, 2.0])
    assert headline(read_experiment(tmp_path)) == "There is no finished run of baseline to compare 1 variant with."
    make_run(tmp_path / "baseline", [7.6, 1.0])
    assert headline(read_experiment(tmp_path)) == "None of 1 variant is known to be better or worse than baseline."


def test_a_part_of_an_experiment_is_marked(tmp_path):
    make_ablations(tmp_path)
    (tmp_path / "silu-seed-1" / "summary.json").unlink()
    document = compose(read_experiment(tmp_path, WORDING), tmp_path)
    assert document.missing == [
        ("not finished", "silu-seed-1"),
        ("failed", "muon"),
        ("fewer than 3 runs", "silu, muon"),
    ]
    assert "This report covers only a part of the experiment." in markdown(document)


@pytest.mark.parametrize("baseline", ["baseline", "full"])
def test_failures_alone_make_a_report_too(tmp_path, quick, baseline):
    make_failure(tmp_path / baseline, "RuntimeError: no")
    paths = write_report(read_experiment(tmp_path, Wording(baseline=baseline)), tmp_path)
    assert [path.name for path in paths] == ["report.md", "report.html", "runs.csv"]
    assert "failed: RuntimeError: no" in paths[0].read_text("utf-8")
    assert f"no finished run: {baseline}" in paths[0].read_text("utf-8")


def test_terminal_table_is_aligned(directory):
    rows = brief_table(read_experiment(directory, WORDING))
    lines = aligned(rows).splitlines()
    words = lines[0].index("verdict")
    assert all(
        line[words:].startswith(row[1]) and line[words - 1] == " " for line, row in zip(lines, rows, strict=True)
    )
    numbers = lines[0].index("validation loss") + len("validation loss")
    assert all(line[:numbers].endswith(row[3]) for line, row in zip(lines, rows, strict=True))


def test_setting_is_that_of_the_records(document):
    facts = dict(document.setting)
    assert facts["device"] == "a CPU (cpu)"
    assert facts["threads"] == "2"
    assert facts["data type"] == "bfloat16"
    assert facts["torch"] == "2.13.0"
    assert facts["commit"] == "0123456789ab with uncommitted changes"
    assert facts["started"] == "2026-11-21"
    assert facts["command"] == "python -m app ablations --seeds 3"
    assert facts["seeds"] == "0; 1; 2"


def test_the_runs_are_a_csv_file_too(directory):
    rows = list(csv.DictReader(runs_csv(read_experiment(directory)).splitlines()))
    assert [row["final_valid_loss"] for row in rows if row["group"] == "silu"] == ["1.5", "1.53", "1.53"]
    assert [row["final_valid_loss"] for row in rows if row["group"] == "qk_norm"] == ["2.5", "", ""]
    assert {row["seed"] for row in rows if row["group"] == "nope"} == {"0", "1", "2"}


def test_markdown_links_its_pictures_and_has_whole_tables(directory):
    files = {path.name for path in directory.iterdir() if path.is_file()}
    names = ["differences", "loss-by-steps", "loss-by-seconds"]
    assert files == {"experiment.json", "report.md", "report.html", "runs.csv", *(f"{name}.png" for name in names)}
    text = (directory / "report.md").read_text("utf-8")
    for name in names:
        assert f"]({name}.png)" in text
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") - line.count(r"\|") for line in table.splitlines()}) == 1
    places = re.findall(r'<a id="([\w-]+)"></a>', text)
    assert re.findall(r"^\| \[\w+\]\(#([\w-]+)\)", text, re.MULTILINE) == places
    assert len(places) == len(VERDICTS)
    assert "> Once upon a time\n> there was" in text


def test_pictures_are_reproducible(document):
    drawing = document.pictures[0].drawing
    assert rendered(drawing, LIGHT, "svg") == rendered(drawing, LIGHT, "svg")


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


def test_what_a_model_wrote_is_text(tmp_path, quick):
    make_run(tmp_path / "baseline", [7.0, 3.0], story=HOSTILE)
    make_run(tmp_path / "<b>$x_1$ | {{ 1 }}", [7.0, 3.5], story="# no heading\n- no list\n1. nor here\n\n> end")
    make_header(tmp_path, title="A <i>title</i>", notes=["</p><script>"])
    document = compose(read_experiment(tmp_path), tmp_path)
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


def test_the_page_needs_nothing_else_and_shows_what_markdown_shows(directory, document):
    page = Tags((directory / "report.html").read_text("utf-8"))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(picture["alt"] and picture["src"].startswith("data:image/svg+xml") for picture in pictures)
    links = [value for _, each in page.tags for name, value in each.items() if name in ("href", "src", "srcset")]
    places = {"#" + attributes["id"] for _, attributes in page.tags if "id" in attributes}
    runs = {f"{path.parent.name}/" for path in directory.glob("*/summary.json")}
    # Numbers of a variant lead to the rows of its runs, and these to their directories.
    within = {link for link in links if link.startswith("#")}
    assert within <= places
    assert "#results" in within
    assert len(within - {"#results"}) == len(VERDICTS)
    assert {link for link in links if not link.startswith(("data:", "#"))} == runs
    assert len([link for link in links if link == "#runs-1"]) > 10
    assert "script" not in {tag for tag, _ in page.tags}
    text = "".join(page.words)
    rows = [*document.results, *document.variants, *document.costs, *document.runs]
    for shown in [*(cell for row in rows for cell in row), *document.reading, *document.notes]:
        assert shown in text
    classes = {attributes.get("class", "") for tag, attributes in page.tags if tag == "td"}
    assert {"words verdict better", "words verdict worse", "words verdict inconclusive"} <= classes


def make_rates(directory, finals):
    """A sweep: {rate: final losses}, None where a run diverged."""
    make_header(directory, kind="lr-sweep", title="Rates")
    for rate, losses in finals.items():
        for seed, final in enumerate(losses):
            folder = directory / (f"rate-{rate:g}" + (f"-seed-{seed}" if seed else ""))
            at = 17 if final is None else None
            make_run(folder, [7.6, 4.0, final], at=at, learning_rate=rate, seed=seed)
    return read_experiment(directory)


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        (
            {0.001: [3.0], 0.01: [2.0], 0.04: [2.5], 0.08: [None]},
            {
                "lowest validation loss": "2.0000 nats per token at 0.01",
                "edge of stability": "between 0.04 and 0.08",
                "best rate below the edge": "by a factor of 4 to 8",
            },
        ),
        (
            {0.01: [2.5], 0.02: [2.0]},
            {
                "lowest validation loss": "2.0000 nats per token at 0.02 (the highest rate tried)",
                "edge of stability": "above 0.02, the highest rate tried",
            },
        ),
        (
            {0.01: [2.0], 0.02: [None], 0.04: [2.4]},
            {
                "lowest validation loss": "2.0000 nats per token at 0.01 (the lowest rate tried)",
                "edge of stability": "between 0.01 and 0.02",
                "best rate below the edge": "by a factor of 1 to 2",
                "stable rates above the edge": "0.04",
            },
        ),
        ({0.1: [None], 0.2: [None]}, {"edge of stability": "below 0.1"}),
    ],
)
def test_key_figures_of_rates(tmp_path, finals, expected):
    assert dict(key_figures(make_rates(tmp_path, finals))) == expected


def test_report_of_rates_compares_with_the_best(tmp_path, quick):
    experiment = make_rates(tmp_path, {0.01: [2.0, 2.02], 0.02: [3.0, 3.03], 0.04: [None, 2.0]})
    rows = by_name(compose(experiment, tmp_path).results)
    assert {rate: row["verdict"] for rate, row in rows.items()} == {
        "0.01": "lowest loss",
        "0.02": "worse",
        "0.04": "unstable (1 of 2 runs diverged)",
    }
    names = [path.name for path in write_report(experiment, tmp_path)]
    assert names == ["report.md", "report.html", "runs.csv", "rates.png", "loss-by-steps.png", "loss-by-seconds.png"]


@pytest.fixture
def batches(tmp_path):
    make_header(tmp_path, kind="batch-sweep", title="Batches", target_loss=3.0)
    for size, rate, losses in (
        (4, 0.01, [7.0, 3.0, 2.0]),
        (16, 0.01, [7.0, 5.0, 2.8]),
        (16, 0.02, [7.0, 4.0, 2.5]),
        (16, 0.04, [7.0, 4.0, 2.6]),
        (64, 0.02, [7.0, 6.0, 5.0]),
    ):
        make_run(tmp_path / f"batch-{size}-rate-{rate:g}", losses, batch_size=size, learning_rate=rate)
    make_failure(tmp_path / "batch-256-rate-0.02", "OutOfMemoryError: CUDA out of memory.")
    return tmp_path


def test_report_of_batches(batches, quick):
    experiment = read_experiment(batches)
    document = compose(experiment, batches)
    assert dict(document.summary) == {
        "lowest validation loss": "2.0000 nats per token with a batch of 4",
        "fewest tokens to a loss of 3": "5.12 k with a batch of 4",
        "least training time to a loss of 3": "10.0 s with a batch of 4",
        "highest throughput": "8,192 tokens/s with a batch of 64",
        "out of memory": "at a batch of 256",
    }
    assert document.missing == []  # a batch that does not fit is a result
    rows = {row[0]: row for row in document.results}
    assert rows["64"].count("not reached") == 2
    assert rows["256"][1] == "out of memory"
    assert rows["4"][1] == "0.01 (only tried)"
    names = [path.name for path in write_report(experiment, batches)]
    assert names == [
        "report.md", "report.html", "runs.csv", "batch-losses.png", "batch-rates.png", "batch-tokens.png",
        "batch-seconds.png", "batch-speeds.png", "loss-by-tokens.png", "loss-by-seconds.png",
    ]  # fmt: skip


def test_batches_without_a_target_have_no_prices(batches, quick):
    make_header(batches, kind="batch-sweep")
    experiment = read_experiment(batches)
    assert not any("to a loss" in name for name, _ in key_figures(experiment))
    assert not any("tokens to" in heading for heading in brief_table(experiment)[0])
