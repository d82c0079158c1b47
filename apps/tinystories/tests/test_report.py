"""The table, the text and the picture of made-up results: every case that a run can end in."""

import json

import pytest

from tinystories.pictures import _window, draw_curves
from tinystories.report import aligned, markdown, norm_comparison, table
from tinystories.results import finished_runs, read_result

RECIPE = {
    "num_layers": 4, "d_model": 128, "num_heads": 4, "context_length": 128, "vocab_size": 2048,
    "steps": 100, "batch_size": 16, "learning_rate": 0.006, "seed": 0,
}  # fmt: skip

ENVIRONMENT = {
    "device_name": "a CPU", "threads": 2, "dtype": "float32", "torch": "2.13.0", "started": "2026-11-21T07:00:00+00:00",
}  # fmt: skip


def make_run(directory, losses, *, diverged=False, at=None):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"recorded": {"recipe": RECIPE}}))
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    records = [
        {"event": "eval", "step": 10 * i, "seconds_total": float(i), "loss": loss} for i, loss in enumerate(losses)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (directory / "samples.jsonl").write_text(json.dumps({"step": 100, "text": "Once upon a time\nthere was"}) + "\n")
    summary = {
        "status": "diverged" if at else "completed", "diverged": diverged, "diverged_at_step": at, "steps": 100,
        "final_valid_loss": losses[-1], "perplexity": None if losses[-1] is None else 2.718281828 ** losses[-1],
        "bits_per_byte": None if losses[-1] is None else losses[-1] / 3, "parameters": 1_000_000, "tokens": 204_800,
        "seconds_total": 12.3,
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory


@pytest.fixture
def results(tmp_path):
    make_run(tmp_path / "baseline", [7.6, 4.0, 3.0, 2.5, 2.25])
    make_run(tmp_path / "no_rmsnorm", [7.6, 9.0, None], diverged=True, at=17)
    make_run(tmp_path / "no_rmsnorm_low_lr", [7.6, 5.0, 4.0, 3.5, 3.25])
    make_run(tmp_path / "post_norm", [7.6, 9.0, 8.5, 8.2, 8.0], diverged=True)
    make_run(tmp_path / "something_else", [7.6, 4.1, 3.1, 2.6, 2.5])
    return [read_result(path) for path in finished_runs(tmp_path)]


def test_runs_come_in_the_order_of_the_experiment(results):
    assert [result.name for result in results] == [
        "baseline", "no_rmsnorm", "no_rmsnorm_low_lr", "post_norm", "something_else",
    ]  # fmt: skip


def test_table_gives_differences_and_says_how_runs_diverged(results):
    rows = {row[0]: dict(zip(table(results)[0], row, strict=True)) for row in table(results)}
    assert rows["baseline"]["to baseline"] == "-"
    assert rows["no_rmsnorm_low_lr"]["to baseline"] == "+1.000"
    assert rows["no_rmsnorm"]["validation loss"] == "not finite"
    assert rows["no_rmsnorm"]["diverged"] == "yes: not finite at step 17"
    assert rows["post_norm"]["diverged"] == "yes: ends above its start"
    assert rows["something_else"]["diverged"] == "no"
    assert rows["baseline"]["bits per byte"] == "0.7500"


def test_terminal_table_is_aligned(results):
    lines = aligned(table(results)).splitlines()
    assert len({line.index("perplexity") for line in lines[:1]}) == 1
    column = lines[0].index("parameters") + len("parameters")
    assert all(line[:column].endswith(("parameters", "1,000,000")) for line in lines)


def test_markdown_has_table_picture_hypotheses_and_stories(results):
    text = markdown(results, "Ablations on a test")
    assert "![" in text
    assert "](curves.png)" in text
    assert "n = 1, seed 0" in text
    assert "> Once upon a time\n> there was" in text
    assert "not finite at step 17" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_comparison_of_norms_follows_the_numbers(results, tmp_path):
    assert "diverged (not finite at step 17)" in norm_comparison(results)
    make_run(tmp_path / "other" / "baseline", [7.6, 2.0])
    make_run(tmp_path / "other" / "no_rmsnorm", [7.6, 2.5])
    other = [read_result(path) for path in finished_runs(tmp_path / "other")]
    assert "0.500 above the baseline" in norm_comparison(other)
    assert norm_comparison(other[:1]) is None


def test_picture_is_drawn_with_divergence_inside_and_outside_the_window(results, tmp_path):
    path = tmp_path / "curves.png"
    draw_curves(results, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    low, high = _window(results)
    assert low < 2.25
    assert 5.0 < high < 8.0  # the diverged run at 8 must not press the others together
    assert [file.name for file in tmp_path.glob("*.tmp")] == []


def test_unfinished_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        read_result(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        finished_runs(tmp_path)
