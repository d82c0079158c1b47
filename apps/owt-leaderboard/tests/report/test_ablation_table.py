"""The table of an ablation."""

from owt_leaderboard.report import table


def summary(loss, **others):
    return {
        "final_valid_loss": loss,
        "bits_per_byte": loss and loss / 3,
        "tokens": 2_000_000,
        "diverged": False,
        **others,
    }


def test_means_deviations_and_differences():
    results = {"full": [summary(3.0), summary(3.01)], "adamw": [summary(3.5), summary(3.51)]}
    text = table(results, {"adamw": ("optimizer=adamw",)}, 2, "title", "5m of wall clock")
    assert "| full |  | 2 of 2 | 3.0050 ± 0.0071 |  |" in text
    # Two and two runs with deviations of 0.00707: 4.303 · sqrt(2 · 0.00005 / 2) on both sides.
    assert "| adamw | optimizer=adamw | 2 of 2 | 3.5050 ± 0.0071 | +0.5000 [+0.4696, +0.5304] |" in text


def test_diverged_runs_are_counted_and_not_averaged():
    results = {"full": [summary(3.0), summary(3.1)], "adamw": [summary(3.2), summary(None, diverged=True)]}
    assert "| 1 of 2, 1 diverged | 3.2000 | +0.1500 |" in table(results, {}, 2, "title", "1m")
