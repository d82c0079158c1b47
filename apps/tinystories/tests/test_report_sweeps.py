"""Reports of learning rates and batch sizes: best, edge of stability, cost of a target loss, memory limit."""

import pytest
from synthetic import make_failure, make_header, make_run

from tinystories.reporting.document import compose
from tinystories.reporting.pictures.curves import comparable, mean_line, window
from tinystories.reporting.write import summary_table, write_report
from tinystories.results.batches import Cost, cost_of, study_batches
from tinystories.results.rates import study_rates
from tinystories.results.records import Curve, read_experiment


def make_rates(directory, finals):
    """A sweep: {rate: final losses}, None where a run diverged."""
    make_header(directory, kind="lr-sweep", title="Rates")
    for rate, losses in finals.items():
        for seed, final in enumerate(losses):
            folder = directory / (f"rate-{rate:g}" + (f"-seed-{seed}" if seed else ""))
            at = 17 if final is None else None
            make_run(folder, [7.6, 4.0, final], at=at, learning_rate=rate, seed=seed)
    return read_experiment(directory)


def test_best_rate_and_edge_of_stability(tmp_path):
    experiment = make_rates(
        tmp_path,
        {
            0.001: [3.0, 3.1],
            0.01: [2.0, 2.02],
            0.02: [2.03, 2.01],
            0.04: [2.5, 2.52],
            0.08: [2.4, None],
            0.16: [None, None],
        },
    )
    findings = study_rates(experiment.groups)
    assert findings.best.rate == 0.01
    assert [group.rate for group in findings.alike] == [0.02]
    assert (findings.stable.rate, findings.divergent.rate) == (0.04, 0.08)
    text = " ".join(compose(experiment).summary)
    assert "came at a learning rate of 0.01." in text
    assert "The difference to 0.02 is within the noise" in text
    assert "The edge of stability lies between 0.04 and 0.08" in text
    assert "1 of 2 runs: not finite at step 17" in text
    assert "a factor of 4 to 8 below the edge; at the highest stable rate, 0.04, the loss is higher" in text
    rows = {row[0]: row for row in summary_table(experiment)}
    assert rows["0.01"][1] == "lowest loss"
    assert rows["0.08"][1:3] == ["diverged: not finite at step 17", "2, 1 diverged"]


def test_single_runs_do_not_rank_neighbours(tmp_path):
    text = " ".join(compose(make_rates(tmp_path, {0.01: [2.0], 0.02: [2.5], 0.04: [None]})).summary)
    assert "which of the neighbouring rates is the best cannot be told" in text
    assert "It is the lowest rate that was tried: a lower one may be better." in text
    assert "a factor of 2 to 4 below the edge." in text


def test_a_sweep_without_an_edge_says_where_it_must_be(tmp_path):
    text = " ".join(compose(make_rates(tmp_path, {0.01: [2.5], 0.02: [2.0]})).summary)
    assert "No run diverged up to the highest rate that was tried, 0.02" in text
    assert "It is the highest rate that was tried" in text


def test_a_rate_that_is_stable_beyond_the_edge(tmp_path):
    text = " ".join(compose(make_rates(tmp_path, {0.01: [2.0], 0.02: [None], 0.04: [2.4]})).summary)
    assert "Above it no run diverged at 0.04: the edge is not sharp" in text


def test_a_sweep_in_which_all_diverged(tmp_path):
    experiment = make_rates(tmp_path, {0.1: [None], 0.2: [None]})
    text = " ".join(compose(experiment).summary)
    assert "none is the best" in text
    assert "Already at the lowest rates there is no stable training" in text
    assert {path.name for path in write_report(experiment, tmp_path)} >= {"rates.png", "loss-by-steps.png"}


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 3.0, 2.0], Cost(1500.0, 15.0)),
        ([4.0, 2.5, 2.0], Cost(1000.0, 10.0)),
        ([2.0, 1.0, 0.5], Cost(0.0, 0.0)),
        ([4.0, None, 2.0], Cost(2000.0, 20.0)),  # nothing to interpolate from
        ([4.0, 3.0, 2.6], None),
        ([4.0, 2.0, 3.0], Cost(750.0, 7.5)),
    ],
)
def test_cost_of_a_target_is_interpolated(losses, expected):
    assert cost_of(Curve([0, 10, 20], [0, 1000, 2000], [0.0, 10.0, 20.0], losses, [None] * 3), 2.5) == expected


@pytest.fixture
def batches(tmp_path):
    make_header(tmp_path, kind="batch-sweep", title="Batches", target_loss=3.0)
    for size, rate, losses, at in (
        (4, 0.01, [7.0, 3.0, 2.0], None),
        (4, 0.02, [7.0, None], 3),
        (16, 0.01, [7.0, 5.0, 2.8], None),
        (16, 0.02, [7.0, 4.0, 2.5], None),
        (16, 0.04, [7.0, 4.0, 2.6], None),
        (64, 0.02, [7.0, 6.0, 5.0], None),
    ):
        make_run(tmp_path / f"batch-{size}-rate-{rate:g}", losses, at=at, batch_size=size, learning_rate=rate)
    make_failure(tmp_path / "batch-256-rate-0.02", "OutOfMemoryError: CUDA out of memory.")
    return tmp_path


def test_batches(batches):
    experiment = read_experiment(batches)
    small, middle, large, full = study_batches(experiment)
    assert [found.best.rate for found in (small, middle, large)] == [0.01, 0.02, 0.02]
    assert [found.at_end for found in (small, middle, large)] == ["lowest", None, "only"]
    tokens = 10 * 4 * experiment.runs[0].recipe["context_length"]
    assert small.costs == (Cost(tokens, 10.0),)
    assert middle.costs == (Cost(pytest.approx(4 * tokens * (1 + 2 / 3)), pytest.approx(10 * (1 + 2 / 3))),)
    assert large.costs == (None,)
    assert full.out_of_memory
    assert full.best is None
    document = compose(experiment)
    text = " ".join(document.summary)
    assert "fewest tokens at batch size 4" in text
    assert "least time of training at batch size 4 (10.0 s)" in text
    assert "Not every run at batch size 64 reached a loss of 3." in text
    assert "a batch of 256 windows ran out of memory; 64 windows still fit" in text
    assert "from 0.01 to 0.02 (times 2); growing with the square root would have been times 4" in text
    assert document.incomplete == []  # that a batch does not fit is a result
    rows = {row[0]: row for row in document.results}
    assert rows["64"].count("not reached") == 2
    assert rows["256"][1] == "out of memory"
    assert rows["4"][1] == "0.01 (lowest tried)"


def test_report_of_batches_has_its_pictures(batches):
    names = [path.name for path in write_report(read_experiment(batches), batches)]
    assert names == [
        "report.md", "report.html", "runs.csv", "batch-losses.png", "batch-rates.png", "batch-tokens.png",
        "batch-seconds.png", "batch-speeds.png", "loss-by-tokens.png", "loss-by-seconds.png",
    ]  # fmt: skip


def test_batches_without_a_target(batches):
    make_header(batches, kind="batch-sweep")
    experiment = read_experiment(batches)
    assert "No target loss was set" in " ".join(compose(experiment).summary)
    assert not any("tokens to" in heading for heading in summary_table(experiment)[0])


def test_the_window_is_that_in_which_runs_differ(tmp_path):
    experiment = make_rates(tmp_path, {0.001: [3.0], 0.01: [2.0], 0.1: [None]})
    make_run(tmp_path / "rate-0.2", [7.6, 9.0, 8.0], diverged=True, learning_rate=0.2)
    low, high = window(read_experiment(tmp_path).groups, "losses")
    assert low < 2.0
    assert 4.0 < high < 7.6  # the diverged run at 8 must not press the others together
    assert experiment.groups[0].is_stable


def test_curves_of_other_vocabularies_are_in_bits_per_byte(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 2.0])
    make_run(tmp_path / "nope", [7.6, 2.1])
    assert comparable(read_experiment(tmp_path).groups) == "losses"
    make_run(tmp_path / "half_vocabulary", [7.6, 1.5, None], vocab_size=1024, bytes_per_token=2.0, at=17)
    assert comparable(read_experiment(tmp_path).groups) == "bits"


def test_the_line_is_the_mean_and_the_band_from_the_lowest_to_the_highest(tmp_path):
    experiment = make_rates(tmp_path, {0.01: [2.0, 2.4]})
    line = mean_line(experiment.groups[0].stable, "steps", "losses")
    assert line.places == [0, 10, 20]
    assert line.means == pytest.approx([7.6, 4.0, 2.2])
    assert line.lows[-1] == 2.0
    assert line.highs[-1] == 2.4
