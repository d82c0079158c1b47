"""Any runs compared: which belong together, how they differ, and which do not compare."""

import pytest
from synthetic import RECIPE, make_run

from trainer.experiments.reporting import write_report
from trainer.experiments.results import compare, read_runs

SEEDS = {"": (2.0, 2.02, 2.04), "wide": (1.5, 1.51, 1.52)}


def test_runs_that_differ_only_in_the_seed_are_a_group(tmp_path):
    paths = [
        make_run(tmp_path / f"{name or 'plain'}-seed-{seed}", [7.0, loss], seed=seed, evaluations=seed + 1, **changes)
        for name, changes in (("", {}), ("wide", {"d_model": 256, "num_heads": 8}))
        for seed, loss in enumerate(SEEDS[name])
    ]
    experiment = read_runs([paths[4], paths[0], *paths])  # twice is once
    assert experiment.title == "Comparison of 6 runs"
    assert [(group.name, [run.recipe["seed"] for run in group.runs]) for group in experiment.groups] == [
        ("wide", [0, 1, 2]),
        ("plain", [0, 1, 2]),
    ]
    assert [comparison.verdict for comparison in compare(experiment)] == ["baseline", "worse"]
    assert experiment.wording.variants["plain"].change == "d_model=128 num_heads=4"


def test_the_page_is_that_of_an_experiment(tmp_path, quick):
    paths = [make_run(tmp_path / name, [7.0, 3.0 + len(name)], norm=name) for name in ("pre", "none")]
    written = write_report(read_runs(paths), tmp_path / "page")
    page = written[0].read_text("utf-8")
    assert written[1].name == "report.html"
    assert "| none | norm=none | inconclusive (1 run) |" in page
    assert f'| <a id="runs-2"></a>[{paths[1]}](../none/) | 0 | 7.0000 |' in page
    assert "- command: python -m somewhere.run ablations --seeds 3\n" in page


def test_runs_of_another_app_have_their_settings_in_rooms(tmp_path):
    """As the recipes of owt_leaderboard, whose limit stands beside them."""
    model = {name: RECIPE[name] for name in ("num_layers", "d_model", "num_heads", "context_length", "vocab_size")}

    def config(kind):
        recipe = {"model": model, "optimizer": {"kind": kind, "learning_rate": 0.01}, "schedule": {"kind": "cosine"}}
        recorded = {"time_limit_seconds": 60.0, "recipe": {**recipe, "batches": {"batch_size": 16}, "seed": 3}}
        return {"recorded": recorded, "model": {"class": "SpeedrunLM"}, "train": {"steps": 40}}

    plain = make_run(tmp_path / "a" / "run", [7.0, 3.0], config={"model": {"class": "TransformerLM"}})
    other, adamw = (
        make_run(tmp_path / name / "run", [7.0, 2.0], config=config(kind))
        for name, kind in (("b", "muon"), ("c", "adamw"))
    )
    experiment = read_runs([plain, other, adamw])
    assert [group.name for group in experiment.groups] == [str(plain), str(other), str(adamw)]
    recipe = experiment.groups[1].runs[0].recipe
    assert (recipe["d_model"], recipe["seed"], recipe["time_limit_seconds"]) == (128, 3, 60.0)
    assert experiment.wording.variants[str(other)].change == "SpeedrunLM time_limit_seconds=60.0 learning_rate=0.01"
    assert read_runs([other, adamw]).wording.variants[str(adamw)].change == "optimizer.kind=adamw"


def config_of(tokenizer, checksum, tokens=9001):
    return {
        "recorded": {"recipe": RECIPE, "tokenizer_sha256": tokenizer},
        "data": {"valid": {"tokens": tokens, "sha256_of_samples": checksum}},
    }


def test_losses_on_different_texts_are_not_compared(tmp_path):
    one = make_run(tmp_path / "one", [7.0, 3.0], config=config_of("a", "x"))
    other = make_run(tmp_path / "other", [7.0, 3.0], config=config_of("a", "y"))
    with pytest.raises(ValueError, match=r"other and .*one were evaluated on different texts"):
        read_runs([one, other])
    longer = make_run(tmp_path / "longer", [7.0, 3.0], config=config_of("b", "z", tokens=9002))
    with pytest.raises(ValueError, match=r"longer and .*one were evaluated on different texts"):
        read_runs([one, longer])


def test_losses_per_token_of_different_tokenizers_are_not_compared(tmp_path):
    """Although their vocabularies have the same size."""
    one = make_run(tmp_path / "one", [7.0, 3.0], config=config_of("a", "x"))
    other = make_run(tmp_path / "other", [7.0, 3.0], config=config_of("b", "y", 13501), bytes_per_token=2.0)
    experiment = read_runs([one, other])
    comparison = compare(experiment)[1]
    assert comparison.loss_difference is None
    assert comparison.bits_difference.value > 0
    assert experiment.notes == ()  # both texts have 27,000 bytes
    unknown = make_run(tmp_path / "unknown", [7.0, 3.0], config=config_of("b", "y", None))
    assert "different tokenizers" in read_runs([one, unknown]).notes[0]


def test_too_few_runs(tmp_path):
    path = make_run(tmp_path / "one", [7.0, 3.0])
    with pytest.raises(ValueError, match="different runs were given, expected two or more"):
        read_runs([path, path])
    with pytest.raises(FileNotFoundError, match="is not a finished run"):
        read_runs([path, tmp_path / "nothing"])
