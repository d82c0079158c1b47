"""Pictures: the window of learning curves, their means, and marks of what lies outside."""

import math
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from synthetic import BYTES_PER_TOKEN, make_failure, make_header, make_run

from trainer.experiments.comparison import Difference
from trainer.experiments.reporting.document import compose
from trainer.experiments.reporting.pictures import LIGHT, differences, learning_curves
from trainer.experiments.reporting.pictures.curves import comparable, mean_line, window
from trainer.experiments.results import compare, read_experiment


def test_the_window_is_that_in_which_runs_differ(tmp_path):
    make_header(tmp_path, kind="lr-sweep")
    for rate, losses in ((0.001, [7.6, 4.0, 3.0]), (0.01, [7.6, 4.0, 2.0]), (0.2, [7.6, 9.0, 8.0])):
        make_run(tmp_path / f"rate-{rate:g}", losses, diverged=losses[-1] > 7, learning_rate=rate)
    low, high = window(read_experiment(tmp_path).groups, "losses")
    assert low < 2.0
    assert 4.0 < high < 7.6  # the diverged run at 8 must not flatten the others


def test_curves_of_other_vocabularies_are_in_bits_per_byte(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 2.0])
    make_run(tmp_path / "nope", [7.6, 2.1])
    assert comparable(read_experiment(tmp_path).groups) == "losses"
    make_run(tmp_path / "half_vocabulary", [7.6, 1.5, None], vocab_size=1024, bytes_per_token=2.0, at=17)
    assert comparable(read_experiment(tmp_path).groups) == "bits"


def test_the_line_is_the_mean_and_the_band_from_the_lowest_to_the_highest(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 4.0, 2.0])
    make_run(tmp_path / "baseline-seed-1", [7.6, 4.0, 2.4], seed=1)
    (group,) = read_experiment(tmp_path).groups
    line = mean_line(group.stable, "steps", "losses")
    assert line.places == [0, 10, 20]
    assert line.means == pytest.approx([7.6, 4.0, 2.2])
    assert line.lows[-1] == 2.0
    assert line.highs[-1] == 2.4


def test_an_interval_that_continues_outside_the_picture_has_an_arrowhead():
    def comparison(name, value, low, high):
        group = SimpleNamespace(name=name)
        return SimpleNamespace(
            group=group, verdict="worse", word="worse", bits_difference=Difference(value, low, high), by_seed=()
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


def test_many_curves_have_a_panel_each_beside_the_reference(tmp_path):
    names = ["nope", "no_rmsnorm", "silu", "muon", "qk_norm", "post_norm"]
    make_run(tmp_path / "baseline", [7.6, 4.0, 2.0])
    for number, name in enumerate(names):
        make_run(tmp_path / name, [7.6, 4.0, 2.1 + 0.1 * number])
    make_run(tmp_path / "silu-seed-1", [7.6, None, None], at=5, seed=1)
    figure = Figure()
    learning_curves(read_experiment(tmp_path).groups, "steps")(figure, LIGHT)
    titles = {axes.get_title(): [line.get_ydata()[-1] for line in axes.lines] for axes in figure.axes if axes.lines}
    assert {title.removesuffix(" ✗") for title in titles} == set(names)
    assert "silu ✗" in titles
    assert all(ends[0] == 2.0 for ends in titles.values())
    assert titles["muon"][1] not in (2.0, titles["nope"][1])
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    learning_curves(read_experiment(tmp_path).groups[:5], "steps")(few := Figure(), LIGHT)
    assert len(few.axes) == 1


def test_a_tick_for_each_seed(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 2.0])
    make_run(tmp_path / "baseline-seed-1", [7.6, 2.2], seed=1)
    make_run(tmp_path / "silu", [7.6, 2.1])
    make_run(tmp_path / "silu-seed-1", [7.6, 2.1], seed=1)
    comparisons = compare(read_experiment(tmp_path))
    figure = Figure()
    differences(comparisons)(figure, LIGHT)
    assert figure.get_figheight() == pytest.approx(1.84)  # of at most 4.4 inches
    ticks = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "|"]
    bits = 1 / math.log(2) / BYTES_PER_TOKEN
    assert ticks == pytest.approx([0.1 * bits, -0.1 * bits])


def test_the_end_of_a_curve_above_the_window_is_short(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 4.0, 2.0])
    make_run(tmp_path / "no_rmsnorm", [7.6, 10_364_872_044.59, None], at=17)
    figure = Figure()
    learning_curves(read_experiment(tmp_path).groups, "steps")(figure, LIGHT)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1e+10", "baseline", "no_rmsnorm ✗"]


@pytest.mark.parametrize("kind", ["lr-sweep", "batch-sweep"])
def test_pictures_of_sweeps_show_every_run(kind, tmp_path):
    make_header(tmp_path, kind=kind, target_loss=3.0)
    name = {"lr-sweep": "rate-{1:g}", "batch-sweep": "batch-{0}-rate-{1:g}"}[kind]
    for size, rate, final in ((8, 0.01, 2.5), (8, 0.02, 2.2), (8, 0.04, None), (16, 0.03, 2.3)):
        at = 17 if final is None else None
        make_run(tmp_path / name.format(size, rate), [7.6, 4.0, final], at=at, batch_size=size, learning_rate=rate)
    make_failure(tmp_path / name.format(64, 0.05), "OutOfMemoryError: CUDA out of memory.")
    pictures = {picture.name: picture for picture in compose(read_experiment(tmp_path), tmp_path).pictures}
    shown = {}
    for title, picture in pictures.items():
        figure = Figure()
        picture.drawing(figure, LIGHT)
        (axes,) = figure.axes
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        dots = [line for line in axes.lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
        shown[title] = {(x, y) for line in dots for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    if kind == "lr-sweep":
        assert {(0.01, 2.5), (0.02, 2.2), (0.03, 2.3)} <= shown["rates"]
    else:
        assert {(8, 2.2), (16, 2.3)} <= shown["batch-losses"]
        assert list(pictures) == [
            "batch-losses", "batch-rates", "batch-tokens", "batch-seconds", "batch-speeds",
            "loss-by-tokens", "loss-by-seconds",
        ]  # fmt: skip
