"""The number of threads, and ordered work on them."""

import os

import pytest
from helpers import CORPUS, run_python

import bpe
from bpe import threads as threads_module
from bpe.threads import check_threads, map_in_order


def test_results_are_in_order_and_few_items_are_pending():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for done, result in enumerate(map_in_order(lambda number: number * number, items(), 3)):
        assert result == done * done
        assert len(taken) <= done + 1 + 2 * 3


def test_errors_in_threads_are_raised():
    def fail(number):
        if number == 5:
            raise ValueError("five")
        return number

    for threads in (1, 2):
        with pytest.raises(ValueError, match="five"):
            list(map_in_order(fail, range(100), threads))


@pytest.fixture
def cores(monkeypatch):
    """Eight cores without a quota."""
    monkeypatch.delenv("BPE_THREADS", raising=False)
    monkeypatch.setattr(threads_module, "_cpu_quota", lambda: None)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)


def test_the_environment_gives_the_default(cores, monkeypatch):
    assert check_threads(None) == 8
    for value, expected in (("3", 3), (" 12 ", 12), ("", 8)):
        monkeypatch.setenv("BPE_THREADS", value)
        assert check_threads(None) == expected
        assert check_threads(5) == 5


@pytest.mark.parametrize("value", ["0", "-1", "all", "2.5", "1e3", "4 cores"])
def test_a_wrong_environment_is_an_error(small, with_kernels, tmp_path, monkeypatch, value):
    monkeypatch.setenv("BPE_THREADS", value)
    monkeypatch.setattr("bpe.kernels.SMALL_TEXT_BYTES", 100)
    (tmp_path / "text.txt").write_text(CORPUS, "utf-8")
    for call in (
        lambda: check_threads(None),
        lambda: bpe.train(tmp_path / "text.txt", 300),
        lambda: with_kernels.encode(CORPUS),
        lambda: small.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy"),
        lambda: small.encode_batch([CORPUS]),
    ):
        with pytest.raises(ValueError, match=f"BPE_THREADS is '{value}', expected a whole number of at least 1; unset"):
            call()
    assert with_kernels.encode(CORPUS, threads=1) == small.encode(CORPUS, threads=2)


def test_the_number_of_threads_is_respected(with_kernels, monkeypatch):
    used = []
    monkeypatch.setattr(
        "bpe.encoding.encoder.map_in_order",
        lambda function, items, threads: (used.append(threads), map(function, items))[1],
    )
    monkeypatch.setattr("bpe.kernels.SMALL_TEXT_BYTES", 100)
    monkeypatch.setenv("BPE_THREADS", "5")
    for encode in (
        with_kernels.encode,
        with_kernels.encode_ordinary,
        with_kernels.encode_to_numpy,
        with_kernels.encode_with_offsets,
        lambda text, **threads: with_kernels.encode_batch([text], **threads),
        lambda text, **threads: with_kernels.encode(text, disallowed_special=["<|no|>"], **threads),
    ):
        for arguments, expected in (({}, 5), ({"threads": None}, 5), ({"threads": 3}, 3)):
            used.clear()
            encode(CORPUS, **arguments)
            assert set(used) == {expected}
        for wrong in (0, -1, 1.5, True, "2"):
            with pytest.raises(ValueError, match=r"threads is .*, expected a whole number of at least 1"):
                encode("short", threads=wrong)
            with pytest.raises(ValueError, match="threads is"):
                with_kernels.encode_iterable(["short"], threads=wrong)
    assert list(with_kernels.encode_iterable(["short"], threads=3)) == with_kernels.encode("short")


CGROUPS = {
    "none": ({"proc/self/cgroup": "0::/\n"}, None),
    "not Linux": ({}, None),
    "2, max": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
    "2, container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    "2, less than one core": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "10000 100000\n"}, 1),
    "2, whole cores": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
    "2, parents": (
        {
            "proc/self/cgroup": "0::/kube:pods/a b/c\n",
            "sys/fs/cgroup/kube:pods/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/kube:pods/a b/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/kube:pods/a b/c/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kube:pods/a b/c/d/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
        },
        3,
    ),
    "1": (
        {
            "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "410000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/m/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/memory/m/cpu.cfs_period_us": "100000\n",
        },
        5,
    ),
    "1, container": (
        {
            "proc/self/cgroup": "2:cpu:/docker/0123\n0::/docker/0123\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
        },
        2,
    ),
    "both": (
        {
            "proc/self/cgroup": "2:cpu:/a\n0::/b\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "600000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/b/cpu.max": "400000 100000\n",
        },
        4,
    ),
}


@pytest.mark.parametrize(("files", "expected"), CGROUPS.values(), ids=CGROUPS)
def test_quotas_of_cgroups(tmp_path, monkeypatch, files, expected):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    quota = threads_module._cpu_quota(tmp_path)
    assert quota == expected
    monkeypatch.delenv("BPE_THREADS", raising=False)
    monkeypatch.setattr(threads_module, "_cpu_quota", lambda: quota)
    for cores in (1, 2, 64):
        monkeypatch.setattr(os, "process_cpu_count", lambda cores=cores: cores, raising=False)
        assert check_threads(None) == min(cores, expected or cores)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_the_affinity_limits_the_threads():
    code = (
        "import os, bpe.threads as t; t._cpu_quota = lambda: None; "
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(t.check_threads(None))"
    )
    assert run_python("-c", code, environment={"BPE_THREADS": ""}).stdout == "1\n"


EXITING = """
import atexit, sys, threading, bpe
bpe.kernels.ENCODING_BYTES = 0
tokenizer = bpe.Tokenizer({byte: bytes([byte]) for byte in range(256)}, [])
ended = threading.Event()
def work():
    if sys.argv[1] != "handler":
        threading.main_thread().join()
    text = "a b" * 25_000
    arrays = tokenizer.encode_to_numpy(text, 3), tokenizer.encode_batch([text])[0]
    print([tokenizer.encode(text), *map(list, arrays)] == [[*text.encode()]] * 3, flush=True)
    ended.set()
if sys.argv[1] == "handler":
    atexit.register(work)
else:
    if sys.argv[1] == "daemon":
        atexit.register(ended.wait, 60)
    threading.Thread(target=work, daemon=sys.argv[1] == "daemon").start()
"""


@pytest.mark.parametrize("kind", ["handler", "thread", "daemon"])
def test_texts_are_encoded_while_the_interpreter_exits(kind):
    result = run_python("-c", EXITING, kind)
    assert (result.stdout, result.stderr) == ("True\n", "")


FIRST_USE = """
import atexit, threading, sys
def work():
    import bpe
    bpe.kernels.ENCODING_BYTES = bpe.training.counting.COUNTING_BYTES = bpe.kernels.LEARNING_BYTES = 0
    trained = bpe.train_from_iterator(["ab ab abc "] * 9, 259)
    counts = bpe.PretokenCounts({b"abab": 2})
    assert (counts + counts)[b"abab"] == 4
    assert trained.extend_from_counts(counts + counts, 260).merges == [*trained.merges, (b"ab", b"ab")]
    print(trained.decode(trained.encode("ab abc" * 20_000, threads=2)) == "ab abc" * 20_000, flush=True)
if sys.argv[1] == "handler":
    atexit.register(work)
else:
    threading.Thread(target=lambda: (threading.main_thread().join(), work())).start()
"""


@pytest.mark.parametrize("kind", ["handler", "thread"])
def test_the_package_is_first_used_while_the_interpreter_exits(kind):
    result = run_python("-c", FIRST_USE, kind)
    assert (result.stdout, result.stderr) == ("True\n", "")
