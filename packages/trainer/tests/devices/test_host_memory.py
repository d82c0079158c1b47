"""Memory that is freed and taken again, in processes of their own: the settings are those of a whole process."""

import os
import platform
import subprocess
import sys

import pytest

from trainer.devices import host_memory

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
PROGRAM = """
import resource
from trainer.devices.host_memory import keep_freed_memory, release_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def work(times):
    for _ in range(times):
        bytearray(b'x') * (33 << 20)  # malloc, as tensors, without the seconds that torch takes to import

kept = {kept}
work(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work(2)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = resident()
release_freed_memory()
print(kept, faults, held - resident())
"""


def run(kept, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{kept}", kept)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults, given_back = done.stdout.split()
    return kept == "True", int(faults), int(given_back)


@needs_glibc
def test_freed_memory_is_used_again_without_page_faults_and_can_be_given_back():
    kept, faults, given_back = run("keep_freed_memory()")
    assert kept
    assert faults < 100
    assert given_back > 30 << 20
    assert run("False")[1] > 10_000  # pages of 4 kB, unless the system's are larger


@needs_glibc
@pytest.mark.parametrize(
    "settings", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_settings_of_the_environment_are_left_alone(settings):
    kept, faults, _ = run("keep_freed_memory()", **settings)
    assert not kept
    assert faults > 10_000


def test_a_glibc_that_refuses_large_thresholds_gets_a_smaller_one(monkeypatch):
    class OldLibrary:
        gnu_get_libc_version = None

        def __init__(self):
            self.settings = {}

        def mallopt(self, parameter, value):
            if parameter == -3 and value > 32 << 20:
                return 0
            self.settings[parameter] = value
            return 1

    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    library = OldLibrary()
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: library)
    assert host_memory.keep_freed_memory()
    assert library.settings == {-3: 32 << 20, -1: -1}


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    assert not host_memory.keep_freed_memory()
    host_memory.release_freed_memory()


@pytest.mark.parametrize("keeps", [True, False])
def test_training_on_a_cpu_keeps_memory_and_then_releases_it(tmp_path, monkeypatch, keeps):
    """Memory that the environment's settings keep or return is left alone at the end, too."""
    from bigram_run import make_trainer

    calls = []
    monkeypatch.setattr("trainer.trainer.keep_freed_memory", lambda: calls.append("keep") or keeps)
    monkeypatch.setattr("trainer.trainer.release_freed_memory", lambda: calls.append("release"))
    trainer = make_trainer(tmp_path / "run")
    monkeypatch.setattr(trainer, "loss_fn", lambda *batch: calls.append("loss") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit()
    assert calls[0] == "keep"
    assert calls[1] == "loss"
    assert (calls[-1] == "release") == keeps
