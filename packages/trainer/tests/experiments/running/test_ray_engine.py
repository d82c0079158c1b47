"""Runs as tasks of Ray. Tests that need Ray itself are skipped without it; `nox -s cluster` installs it."""

import gc
import importlib.util
import os
import signal
import threading
import warnings
from pathlib import Path

import pytest
from patient import PATIENT
from waiting import wait_until

from trainer.experiments.running import ray_engine
from trainer.experiments.running.processes import DONE, WRONG_INPUT, run_side_by_side
from trainer.experiments.running.ray_engine import RayEngine, Share, blind_spot, check_engine, run_here, share_of
from trainer.records import RunDirectory, RunLockedError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes and signals of POSIX")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; `nox -s cluster` installs it"
)

PREEMPTED = "import sys; print('saved', file=sys.stderr); sys.exit(130)"
LOSING_ITS_WORKER = """
import os, pathlib, signal, sys, time
from trainer.experiments.running.processes import follow_parent
attempts = pathlib.Path("attempts")
follow_parent()
with attempts.open("a") as file:
    file.write(f"{os.getpid()}\\n")
if len(attempts.read_text().splitlines()) == 1:
    os.kill(os.getppid(), signal.SIGKILL)
    while True:
        time.sleep(0.05)
pathlib.Path("result").touch()
"""


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("machines", "options", "expected"),
    [
        ([(8, 0)], {}, Share(8, 0, 1)),
        ([(8, 0), (4, 0)], {"jobs": 2}, Share(2, 0, 6)),
        ([(8, 0), (4, 0)], {"threads": 3}, Share(3, 0, 3)),
        ([(2, 0)], {"jobs": 5}, Share(1, 0, 2)),
        ([(64, 8), (32, 2), (16, 0)], {}, Share(8, 1, 10)),
        ([(64, 8), (32, 2)], {"device": "cpu"}, Share(32, 0, 3)),
        ([(2, 4)], {}, Share(0, 1, 4)),
        ([(4, 4)], {"threads": 2}, Share(2, 1, 2)),
        ([(0, 0), (4, 0)], {}, Share(4, 0, 1)),
    ],
)
def test_the_share_of_a_run(machines, options, expected):
    assert share_of(machines, **{"device": "auto", "jobs": 1, **options}) == expected


def test_resources_that_a_cluster_lacks():
    with pytest.raises(ValueError, match="no machine of the Ray cluster has 5 CPUs"):
        share_of([(4, 0)], device="auto", jobs=1, threads=5)
    with pytest.raises(ValueError, match="--device cuda:1 with --engine ray"):
        share_of([(4, 4)], device="cuda:1", jobs=1)


def test_a_missing_ray_is_named(monkeypatch):
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    check_engine("local")
    with pytest.raises(ModuleNotFoundError, match=r"needs Ray, which is not installed here: pip install ray"):
        check_engine("ray")


def test_a_machine_that_does_not_see_a_path_starts_nothing(tmp_path):
    marker = tmp_path / "runs" / ".shared-abc"
    outcome = run_here("run-0", ["-c", ""], "", 1, tmp_path, [tmp_path, marker], tmp_path / "result")
    assert outcome.code == WRONG_INPUT
    assert f"does not see {marker.parent} as this one does" in outcome.stderr
    assert blind_spot([tmp_path]) is None
    assert f"does not see {tmp_path / 'train.npy'} as" in blind_spot([tmp_path, tmp_path / "train.npy"])


def test_a_run_gets_its_threads_and_waits_for_the_lock_of_its_directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.acquire()
    with pytest.raises(RunLockedError, match="in use"):
        ray_engine.wait_until_unlocked(directory.path, seconds=0.1)
    outcomes = []
    code = "import os, sys; open('result', 'w').write(os.environ['OMP_NUM_THREADS'] + sys.stdin.read())"
    call = ("run-0", ["-c", code], " threads", 3, tmp_path, [tmp_path], directory.path / "summary.json")
    before = Path.cwd()
    run = threading.Thread(target=lambda: outcomes.append(run_here(*call)))
    try:
        run.start()
        run.join(0.3)
        assert not (tmp_path / "result").exists()
        directory.release()
        run.join()
    finally:
        os.chdir(before)
    assert outcomes[0].code == DONE
    assert (tmp_path / "result").read_text() == "3 threads"


def test_an_interruption_that_nobody_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ray_engine.PreemptedError, match=r"run-0 was interrupted on .*: saved"):
        run_here("run-0", ["-c", PREEMPTED], "", 1, tmp_path, [], tmp_path / "result")


def test_a_result_may_appear_late(tmp_path):
    assert not ray_engine.appears(tmp_path / "result", seconds=0.1)
    late = threading.Timer(0.1, (tmp_path / "result").touch)
    late.start()
    assert ray_engine.appears(tmp_path / "result", seconds=600)
    late.join()


@pytest.fixture(scope="module")
def local_ray():
    """A local Ray with room for two runs."""
    ray = pytest.importorskip("ray")
    options = {"log_to_driver": False, "include_dashboard": False, "object_store_memory": 100_000_000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, **options)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    with warnings.catch_warnings(action="ignore"):  # Ray leaves its daemons' processes to the garbage collector
        ray.shutdown()
        gc.collect()


@pytest.fixture
def engine(local_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = RayEngine(tmp_path / "out", [], device="cpu", jobs=1)
    yield engine
    engine.close()


@needs_ray
@pytest.mark.filterwarnings("ignore")
class TestRay:
    def test_a_run_whose_worker_is_lost_starts_again(self, engine, tmp_path):
        run = engine.start("run-0", ["-c", LOSING_ITS_WORKER], tmp_path / "result")
        assert run.failure() is None
        first, second = map(int, (tmp_path / "attempts").read_text().split())
        assert first != second
        wait_until(lambda: not is_running(first))

    def test_a_run_that_a_machine_interrupts_starts_again(self, engine, tmp_path):
        """Machines that are taken away send SIGTERM to all processes, on which a run saves and ends."""
        code = """
import pathlib, sys
attempts = pathlib.Path("attempts")
with attempts.open("a") as file:
    file.write("!")
if attempts.read_text() == "!":
    sys.exit(130)
pathlib.Path("result").touch()
"""
        run = engine.start("run-0", ["-c", code], tmp_path / "result")
        assert run.failure() is None
        assert (tmp_path / "attempts").read_text() == "!!"

    def test_failures(self, engine, tmp_path):
        run = engine.start("run-0", ["-c", "import sys; sys.exit('last words')"], tmp_path / "result")
        assert run.failure() == "the process failed (exit code 1): last words"
        run = engine.start("run-1", ["-c", "import sys; print('no text', file=sys.stderr); sys.exit(2)"], tmp_path)
        with pytest.raises(ValueError, match=r"^run-1: no text$"):
            run.failure()

    def test_one_that_ends_without_its_result(self, engine, tmp_path, monkeypatch):
        monkeypatch.setattr(ray_engine, "SEEN_SECONDS", 0.1)
        run = engine.start("run-0", ["-c", ""], tmp_path / "result")
        assert "has ended elsewhere" in run.failure()

    def test_ctrl_c_interrupts_those_that_run_and_cancels_those_that_wait(self, engine, tmp_path):
        def started():
            return sorted(path.read_text() for path in tmp_path.glob("signals-*"))

        def start(item, slot):
            return engine.start(f"run-{item}", ["-c", PATIENT, str(tmp_path / f"signals-{item}")], tmp_path / "result")

        def send():
            wait_until(lambda: started() == ["ready\n"] * 2)
            os.kill(os.getpid(), signal.SIGINT)

        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            run_side_by_side(range(3), 3, start, lambda *_: None)
        sender.join()
        assert started() == ["ready\nINT\n"] * 2

    def test_a_machine_without_the_files_is_refused_at_the_start(self, local_ray, tmp_path):
        with pytest.raises(ValueError, match=r"does not see .*train\.npy"):
            RayEngine(tmp_path / "out", [tmp_path / "train.npy"], device="cpu", jobs=1)

    def test_a_machine_that_joins_without_the_directory_trains_nothing(self, engine, tmp_path):
        engine.close()  # removes the file by which machines recognise the directory
        run = engine.start("run-0", ["-c", ""], tmp_path / "result")
        with pytest.raises(ValueError, match=f"does not see {tmp_path / 'out'} as this one does"):
            run.failure()
