"""Ablations: which runs are made, and that they are made once."""

import json
import signal
import subprocess
import threading

import pytest
from synthetic import make_run
from waiting import DEADLINE_SECONDS

from owt_leaderboard.commands import ablate
from trainer.experiments.results import read_result
from trainer.experiments.running.processes import RunProcess
from trainer.experiments.running.ray_engine import Share


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of a report, and have tests of their own."""
    for module in ("reporting.html", "reporting.pictures"):  # html first, or it would import the fake
        monkeypatch.setattr(f"trainer.experiments.{module}.rendered", lambda drawing, theme, form: b"")


@pytest.fixture
def processes_call(monkeypatch):
    """Lets a function stand in for programs: it gets command and environment, and returns exit code and last words."""

    def install(function):
        class Process:
            returncode = None

            def __init__(self, command, env, **_):
                self._given = command, env

            def communicate(self, text):
                self.returncode, words = function(*self._given)
                return None, words

            def poll(self):
                return self.returncode

            wait = poll

            def send_signal(self, number):
                assert number == signal.SIGINT

        monkeypatch.setattr(subprocess, "Popen", Process)

    return install


@pytest.fixture
def runs(processes_call):
    """The command lines that would be run; each leaves the records of a run, with a loss by its directory's name."""
    made = []

    def run(command, _):
        made.append(command)
        out = ablate.Path(command[command.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        seed = int(out.name[-1])
        loss = 3.0 + 0.01 * seed + (0.5 + 0.01 * seed if "adamw" in out.name else 0)
        if "cosine" in out.name:
            return -9, "killed"
        make_run(out, [7.0, *[4.0] * ("adamw" in out.name), loss], seed=int(out.name[-1]))
        return 0, ""

    processes_call(run)
    return made


def test_every_seed_of_every_variant_is_run_once(tmp_path, runs, capsys):
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--variants", "adamw", "--seeds", "2", "--time-limit", "30s", "--device", "cpu"]
    assert ablate.main(arguments) == 0
    assert [ablate.Path(command[-1]).name for command in runs] == [
        "full-seed-0",
        "adamw-seed-0",
        "full-seed-1",
        "adamw-seed-1",
    ]
    assert all(command[1:3] == ["-m", "owt_leaderboard"] for command in runs)
    assert all(command[command.index("--rates") + 1] == "recipe" for command in runs)
    assert runs[1][runs[1].index("--time-limit") + 1] == "30s"
    assert {"sized_by_budget=False", "optimizer=adamw", "d_model=128"} < set(runs[1])
    assert "optimizer=adamw" not in runs[0]
    page = (out / "report.md").read_text("utf-8")
    assert "\n| [full](#runs-1) | baseline | 2 | 3.0050 ± 0.0071 | - | 1.4451 ± 0.0034 | - | 20.48 k |\n" in page
    # Pairs that differ by 0.50 and 0.51: 12.706 · 0.00707 / sqrt(2) on both sides, rounded outwards.
    assert "\n| [adamw](#runs-2) | worse | 2 | 3.5100 ± 0.0141 | +0.5050 [+0.4414, +0.5686] |" in page
    assert "| adamw | optimizer=adamw muon_learning_rate=0.003 | worse |" in page
    assert 'Verdicts compare with the row "full".' in page
    assert "- Every run has 30s of wall clock" in page
    assert ablate.main(arguments) == 0
    assert len(runs) == 4


def test_results_of_another_recipe_are_refused(tmp_path, runs, capsys):
    """By the same command, of a version whose defaults were others."""
    arguments = ["--out", str(tmp_path), "--variants", "adamw", "--seeds", "1", "--device", "cpu"]
    assert ablate.main(arguments) == 0
    file = tmp_path / "full-seed-0" / "command.json"
    recorded = json.loads(file.read_text("utf-8"))
    recorded["recipe"]["model"]["qk_norm"] = True
    file.write_text(json.dumps(recorded))
    assert ablate.main(arguments) == 2
    assert "full-seed-0 has another run: model.qk_norm was True, now False" in capsys.readouterr().err


def test_several_at_a_time_share_the_cores(tmp_path, processes_call, monkeypatch):
    together, environments = threading.Barrier(2, timeout=DEADLINE_SECONDS), []

    def run(command, env):
        together.wait()  # passes only if two run at the same time
        environments.append(env)
        out = ablate.Path(command[command.index("--out") + 1])
        make_run(out, [7.0, 3.0])
        return 0, ""

    processes_call(run)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    arguments = ["--out", str(tmp_path), "--variants", "adamw", "--seeds", "2", "--device", "cpu", "--jobs", "2"]
    assert ablate.main(arguments) == 0
    assert [env["OMP_NUM_THREADS"] for env in environments] == ["2"] * 4
    assert len({env["TORCHINDUCTOR_CACHE_DIR"] for env in environments}) == 4  # nobody finds another's compiled code


def test_after_an_interruption_no_other_run_begins(tmp_path, processes_call, capsys):
    made = []

    def run(command, _):
        made.append(command)
        return 130, ""

    processes_call(run)
    assert ablate.main(["--out", str(tmp_path), "--seeds", "2", "--device", "cpu"]) == 130
    assert len(made) == 1
    assert capsys.readouterr().err.startswith("interrupted: ")


@pytest.mark.parametrize(("flag", "value", "least"), [("--seeds", "0", 1), ("--jobs", "0", 1), ("--steps", "-1", 0)])
def test_counts_that_are_too_small_are_refused(tmp_path, flag, value, least, capsys):
    assert ablate.main(["--out", str(tmp_path), "--device", "cpu", flag, value]) == 2
    assert f"error: {flag} {value}: expected {least} or more" in capsys.readouterr().err


def test_equal_steps_instead_of_equal_time(tmp_path, runs):
    assert ablate.main(["--variants", "adamw", "--seeds", "1", "--steps", "700", "--device", "cpu"]) == 0
    assert [command[1:5] for command in runs] == [["-m", "owt_leaderboard.fixed_steps", "--steps", "700"]] * 2
    assert not any("--time-limit" in command for command in runs)
    page = (tmp_path / "runs" / "owt-ablations-sample-700-steps" / "report.md").read_text("utf-8")
    assert "Every run makes 700 optimizer steps" in page


@pytest.mark.parametrize("change", [["--set", "d_model=64"], ["--valid-bytes", "5000"], ["--time-limit", "1m"]])
def test_no_result_is_taken_for_that_of_another_command(tmp_path, runs, change, capsys):
    arguments = ["--out", str(tmp_path), "--variants", "adamw", "--seeds", "1", "--device", "cpu"]
    assert ablate.main(arguments) == 0
    assert ablate.main([*arguments, *change]) == 2
    assert "full-seed-0 has another run: command was 'owt_leaderboard --time-limit 5m" in capsys.readouterr().err
    assert len(runs) == 2
    (tmp_path / "full-seed-0" / "command.json").unlink()
    assert ablate.main(arguments) == 2
    assert "its command is not recorded" in capsys.readouterr().err


def test_jobs_that_would_share_a_gpu_are_refused(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.setattr("trainer.resolve_device", lambda device: torch.device("cuda"))
    assert ablate.main(["--out", str(tmp_path), "--jobs", "2"]) == 2
    assert "error: --jobs 2 on cuda" in capsys.readouterr().err


def test_a_cluster_gets_the_commands_of_the_runs(tmp_path, monkeypatch, capsys):
    """The processes of its tasks are those that would be started here."""
    started = []

    class Elsewhere:
        share = Share(1, 1, 2)

        def __init__(self, out, files, *, device, jobs):
            self.given = device, jobs

        def start(self, name, arguments, result):
            assert self.given == ("cpu", 3)
            started.append((name, *arguments))
            make_run(result.parent, [7.0, 3.0])
            return RunProcess(name, ["-c", ""], {})

    monkeypatch.setattr(ablate, "RayEngine", Elsewhere)
    arguments = ["--seeds", "1", "--variants", "swiglu", "--out", str(tmp_path), "--device", "cpu", "--jobs", "3"]
    monkeypatch.setattr("trainer.experiments.running.ray_engine.find_spec", lambda name: None)
    assert ablate.main([*arguments, "--engine", "ray"]) == 2
    assert "--engine ray needs Ray" in capsys.readouterr().err
    monkeypatch.setattr("trainer.experiments.running.ray_engine.find_spec", lambda name: name)
    assert ablate.main([*arguments, "--engine", "ray"]) == 0
    assert [words[:3] for words in started] == [
        ("full-seed-0", "-m", "owt_leaderboard"),
        ("swiglu-seed-0", "-m", "owt_leaderboard"),
    ]
    assert started[0][-2:] == ("--out", str(tmp_path / "full-seed-0"))


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path, runs, capsys):
    arguments = ["--out", str(tmp_path), "--variants", "cosine", "adamw", "--seeds", "1", "--device", "cpu"]
    assert ablate.main(arguments) == 1
    assert (
        "cosine-seed-0: the process failed (ended by SIGKILL, perhaps for lack of memory): killed"
        in capsys.readouterr().out
    )
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "\n| [cosine](#runs-3) | failed | 1, 1 failed | - |" in page
    assert "failed: the process failed (ended by SIGKILL, perhaps for lack of memory): killed |" in page
    assert "\n| [adamw](#runs-2) | inconclusive (1 run) | 1 | 3.5000 | +0.5000 |" in page


def test_a_failed_run_is_tried_again_by_the_same_command(tmp_path, processes_call):
    exits = [(1, "TypeError: no"), (0, "")]

    def run(command, _):
        code, words = exits.pop(0)
        if code == 0:
            make_run(ablate.Path(command[-1]), [7.0, 3.0])
        return code, words

    processes_call(run)
    arguments = ["--out", str(tmp_path), "--variants", "full", "--seeds", "1", "--device", "cpu"]
    assert [ablate.main(arguments), ablate.main(arguments)] == [1, 0]
    assert "failed" not in (tmp_path / "report.md").read_text("utf-8").partition("Verdicts")[0]


def test_there_is_a_page_after_each_run(tmp_path, processes_call):
    seen = []

    def run(command, _):
        seen.append((tmp_path / "report.html").exists())
        make_run(ablate.Path(command[-1]), [7.0, 3.0])
        return 0, ""

    processes_call(run)
    assert ablate.main(["--out", str(tmp_path), "--variants", "full", "--seeds", "3", "--device", "cpu"]) == 0
    assert seen == [False, True, True]


def test_a_run_is_read_with_its_settings_and_its_limit(finished):
    recipe = read_result(finished.directory).recipe
    assert (recipe["num_layers"], recipe["d_model"], recipe["vocab_size"]) == (2, 16, 300)
    assert (recipe["optimizer.kind"], recipe["time_limit_seconds"]) == ("adamw", 40.0)


def test_a_run_that_crashes_is_not_taken_for_one_that_diverged(tmp_path, processes_call, capsys):
    processes_call(lambda *_: (1, "Traceback\nTypeError: unsupported"))
    assert ablate.main(["--out", str(tmp_path), "--variants", "full", "--seeds", "1", "--device", "cpu"]) == 1
    assert "full-seed-0: the process failed (exit code 1): Traceback\nTypeError: unsupported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "magic"], "--variants magic: expected some of full, swiglu"),
        (["--seeds", "0"], "--seeds 0"),
        (["--time-limit", "soon"], "soon"),
        (["--set", "d_model=wide"], "expected"),
    ],
)
def test_wrong_input(arguments, message, tmp_path, capsys):
    assert ablate.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
