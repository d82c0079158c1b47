"""Experiments read back: what belongs together, what failed, what is not finished."""

import json

import pytest
from synthetic import WORDING, bits_per_byte, make_failure, make_group, make_header, make_run

from trainer.experiments.results import Curve, read_experiment, read_result
from trainer.experiments.running.processes import KILLED_FOR_MEMORY


def names(experiment):
    return [group.name for group in experiment.groups]


def test_variants_come_in_the_order_of_the_experiment_with_their_seeds(tmp_path):
    for name in ("something_else", "silu", "baseline", "no_rmsnorm"):
        make_group(tmp_path, name, [2.0, 2.1, 2.2])
    experiment = read_experiment(tmp_path, WORDING)
    assert experiment.kind == "ablations"
    assert experiment.title == f"Runs in {tmp_path.name}"
    assert names(experiment) == ["baseline", "no_rmsnorm", "silu", "something_else"]
    assert [run.recipe["seed"] for run in experiment.groups[0].runs] == [0, 1, 2]
    assert experiment.baseline is experiment.groups[0]


def test_rates_are_numbers_and_not_words(tmp_path):
    make_header(tmp_path, kind="lr-sweep")
    for rate in ("0.12", "0.012", "1e-05"):
        make_run(tmp_path / f"rate-{rate}", [7.0, 3.0], learning_rate=float(rate))
    make_run(tmp_path / "rate-0.012-seed-1", [7.0, 3.0], learning_rate=0.012, seed=1)
    make_failure(tmp_path / "rate-0.9", "RuntimeError: no")
    experiment = read_experiment(tmp_path)
    assert [group.rate for group in experiment.groups] == [1e-5, 0.012, 0.12, 0.9]
    assert [len(group.runs) for group in experiment.groups] == [1, 2, 1, 0]


def test_batches_are_ordered_by_size_and_rate_and_know_what_memory_refused(tmp_path):
    make_header(tmp_path, kind="batch-sweep", target_loss=2.5)
    for size, rate in ((16, 0.01), (4, 0.02), (4, 0.01)):
        make_run(tmp_path / f"batch-{size}-rate-{rate:g}", [7.0, 3.0], learning_rate=rate, batch_size=size)
    make_failure(tmp_path / "batch-64-rate-0.01", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    experiment = read_experiment(tmp_path)
    assert [(group.batch_size, group.rate) for group in experiment.groups] == [
        (4, 0.01), (4, 0.02), (16, 0.01), (64, 0.01),
    ]  # fmt: skip
    assert experiment.target_loss == 2.5
    assert experiment.failures[0].out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", True),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied", False),
        ("AcceleratorError: CUDA error: an illegal memory access was encountered", False),
        ("the process failed (ended by SIGSEGV)", False),
        (f"the process failed (ended by SIGKILL{KILLED_FOR_MEMORY})", True),
    ],
)
def test_errors_of_memory(tmp_path, error, expected):
    make_failure(tmp_path / "baseline", error)
    assert read_experiment(tmp_path).failures[0].out_of_memory is expected


def test_a_run_in_the_middle_is_named_and_a_failure_that_was_mended_is_none(tmp_path):
    make_run(tmp_path / "baseline", [7.0, 3.0])
    (tmp_path / "baseline" / "failure.json").write_text('{"error": "before"}')
    (make_run(tmp_path / "nope", [7.0, 3.0]) / "summary.json").unlink()
    make_failure(tmp_path / "silu", "RuntimeError: no")
    experiment = read_experiment(tmp_path)
    assert experiment.unfinished == ("nope",)
    assert [failure.name for failure in experiment.failures] == ["silu"]
    assert names(experiment) == ["baseline", "silu"]


def test_curves_have_steps_tokens_and_seconds_of_training(tmp_path):
    result = read_result(make_run(tmp_path / "baseline", [7.0, 3.0, None], at=17))
    tokens = 10 * result.recipe["batch_size"] * result.recipe["context_length"]
    assert result.valid == Curve(
        [0, 10, 20],
        [0, tokens, 2 * tokens],
        [0.0, 10.0, 20.0],
        [7.0, 3.0, None],
        [bits_per_byte(7.0), bits_per_byte(3.0), None],
    )
    assert result.divergence == "not finite at step 17"


def test_the_model_to_try(tmp_path):
    make_header(tmp_path, kind="lr-sweep")
    make_run(tmp_path / "rate-0.1", [7.0, 3.0], learning_rate=0.1)
    make_run(tmp_path / "rate-0.2", [7.0, 2.0], learning_rate=0.2)
    make_run(tmp_path / "rate-0.4", [7.0, None], learning_rate=0.4, at=3)
    assert read_experiment(tmp_path).best_run.name == "rate-0.2"


def test_nothing_to_report(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        read_result(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        read_experiment(tmp_path)


@pytest.mark.parametrize("content", [{"kind": "seeds"}, ["ablations"]])
def test_a_header_that_is_not_understood(tmp_path, content):
    make_run(tmp_path / "baseline", [7.0, 3.0])
    (tmp_path / "experiment.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected an object whose kind is one of ablations, lr-sweep, batch-sweep"):
        read_experiment(tmp_path)


def test_line_separators_in_a_story_are_part_of_it(tmp_path):
    """JSON leaves them as they are, and str.splitlines() divides there."""
    story = "Once\u2028upon\x85a\u2029time"
    run = make_run(tmp_path / "baseline", [7.0, 3.0])
    lines = [json.dumps({"step": step, "text": text}, ensure_ascii=False) for step, text in ((1, "x"), (2, story))]
    (run / "samples.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    assert read_result(run).sample == story


def test_a_run_of_something_else(tmp_path):
    run = make_run(tmp_path / "baseline", [7.0, 3.0])
    (run / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ValueError, match=r"config.json has no recipe of this version"):
        read_result(run)


def test_a_damaged_header(tmp_path):
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(ValueError, match=r"experiment.json is damaged .*: delete it"):
        read_experiment(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "config.json", "environment.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_damaged_run_does_not_take_the_others_with_it(tmp_path, name, content):
    """It is named, and the report is made of the rest."""
    make_run(tmp_path / "baseline", [7.0, 3.0])
    (make_run(tmp_path / "silu", [7.0, 3.0]) / name).write_text(content)
    if name == "metrics.jsonl":  # lines that are no records are left out
        (tmp_path / "silu" / name).write_text(f"{content}\n")
        with pytest.warns(RuntimeWarning, match=r"metrics.jsonl: 1 of 1 lines are damaged"):
            assert read_experiment(tmp_path).failures == []
        return
    experiment = read_experiment(tmp_path)
    assert [run.name for run in experiment.runs] == ["baseline"]
    (failure,) = experiment.failures
    assert failure.name == "silu"
    assert name in failure.error


def test_a_damaged_failure_is_one(tmp_path):
    make_run(tmp_path / "baseline", [7.0, 3.0])
    make_failure(tmp_path / "silu", "")
    (tmp_path / "silu" / "failure.json").write_text("{")
    (failure,) = read_experiment(tmp_path).failures
    assert "failure.json is damaged" in failure.error


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("summary.json", {"final_valid_loss": "low"}),
        ("summary.json", {"bits_per_byte": [1.0], "steps": None}),
        ("environment.json", {"device_name": None}),
        ("config.json", {"recorded": {"recipe": {}}}),
        ("config.json", {"recorded": {"recipe": 3}}),
    ],
)
def test_values_of_another_type_are_damage(tmp_path, name, changes):
    make_run(tmp_path / "baseline", [7.0, 3.0])
    path = make_run(tmp_path / "silu", [7.0, 3.0]) / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    experiment = read_experiment(tmp_path)
    assert [run.name for run in experiment.runs] == ["baseline"]
    assert name in experiment.failures[0].error


def test_records_of_another_type_are_damage(tmp_path):
    run = make_run(tmp_path / "silu", [7.0, 3.0])
    (run / "samples.jsonl").write_text('{"step": 3, "text": 5}\n')
    assert read_result(run).sample is None
    record = {"event": "eval", "step": 3, "tokens": "x", "seconds_training": 1.0, "loss": 2.0}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged: expected numbers"):
        read_result(run)


@pytest.mark.parametrize("wrong", [{"notes": 3}, {"title": 3}, {"target_loss": "low"}, {"shared": 3}, {"shared": {}}])
def test_a_header_of_another_type_is_damage(tmp_path, wrong):
    make_run(tmp_path / "baseline", [7.0, 3.0])
    (tmp_path / "experiment.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=rf"experiment.json is damaged: {next(iter(wrong))} is not .*; delete it"):
        read_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text(json.dumps(dict.fromkeys(wrong)))
    assert read_experiment(tmp_path).notes == ()
