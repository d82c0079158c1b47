"""Files and folders that appear complete or not at all, behind links too; devices and pipes."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bpe import files
from bpe.files import check_file, check_folder, whole_directory, whole_file, whole_files, write_text

needs_locks = pytest.mark.skipif(os.name != "posix", reason="the system has no such locks")

WRITER = """
import sys
from pathlib import Path
from bpe.files import whole_directory, whole_file

with whole_file(Path("made")) as file, whole_directory(Path("folder")) as folder:
    file.write(b"half")
    (folder / "file").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    for text in ("new", "again"):
        write_text(link, text)
        assert link.is_symlink()
        assert real.read_text() == text
    assert [path.name for path in real.parent.iterdir()] == ["real.txt"]


def test_a_link_into_no_folder_is_refused(tmp_path):
    (tmp_path / "link.txt").symlink_to(tmp_path / "absent" / "real.txt")
    with pytest.raises(FileNotFoundError, match=r"no folder '.*absent' to write 'link.txt' into; make it first"):
        write_text(tmp_path / "link.txt", "text")


@pytest.mark.skipif(os.name != "posix", reason="the system has no such files")
def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()


@pytest.mark.skipif(os.name != "posix", reason="the system has no such files")
def test_a_device_is_written_to_and_stays(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    with whole_file(link) as file:
        file.write(b"text")
    assert link.is_symlink()
    assert Path(os.devnull).is_char_device()
    assert list(tmp_path.iterdir()) == [link]


def test_paths_without_permission_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(
        PermissionError, match=r"this user may not write to .*; name another file or folder, or change its mode"
    ):
        check_folder(tmp_path / "a" / "b")
    with pytest.raises(
        PermissionError, match=r"this user may not write to .*; name another file or folder, or change its mode"
    ):
        check_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="the system has no such modes")
def test_new_files_follow_the_mask_of_the_process_at_all_times(tmp_path, monkeypatch):
    """Another thread that creates a file meanwhile must not see a changed mask."""
    monkeypatch.setattr(os, "umask", None)
    write_text(tmp_path / "made", "text")
    monkeypatch.undo()
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="the system cannot flush folders")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_name_is_on_the_disk_after_the_content(tmp_path, monkeypatch, kind):
    flushed, fsync = [], os.fsync

    def record(handle):
        flushed.append((os.fstat(handle).st_ino, (tmp_path / "made").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    if kind == "file":
        write_text(tmp_path / "made", "text")
        assert flushed[0] == ((tmp_path / "made").stat().st_ino, False)
    else:
        with whole_directory(tmp_path / "made") as building:
            (building / "file").write_text("text")
    assert flushed[-1] == (tmp_path.stat().st_ino, True)


def test_an_attempt_leaves_others_of_the_same_target_alone(tmp_path):
    with whole_file(tmp_path / "made") as first, whole_directory(tmp_path / "folder") as building:
        first.write(b"first")
        write_text(tmp_path / "made", "second")
        with whole_directory(tmp_path / "folder") as other:
            (other / "file").write_text("other")
        (building / "file").write_text("first")
    assert (tmp_path / "made").read_text() == "first"
    assert (tmp_path / "folder" / "file").read_text() == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "made"]


def test_many_threads_may_write_one_file_and_one_folder(tmp_path):
    def write(number):
        write_text(tmp_path / "made", "text")
        with whole_directory(tmp_path / f"folder-{number % 3}") as building:
            (building / "file").write_text("text")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(120)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder-0", "folder-1", "folder-2", "made"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_neither_file_nor_folder(tmp_path, error):
    for make in (whole_file, whole_directory):
        with pytest.raises(error), make(tmp_path / "made"):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_files_take_their_names_together(tmp_path):
    paths = [tmp_path / name for name in ("first", "second")]
    with pytest.raises(ZeroDivisionError), whole_files(paths) as opened:
        opened[0].write(bytes(1 // 0))
    assert list(tmp_path.iterdir()) == []
    with whole_files(paths) as opened:
        for file, content in zip(opened, (b"one", b"two"), strict=True):
            file.write(content)
        assert not any(path.exists() for path in paths)
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert sorted(tmp_path.iterdir()) == paths


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@needs_locks
def test_leftovers_of_a_killed_process_are_removed_by_the_next_one(tmp_path):
    """Bug 8: files that a killed process left behind used to stay."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])},
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        living = hidden(tmp_path)
        assert len(living) == 2
        for name in ("made", "other"):
            write_text(tmp_path / name, "whole")
        with whole_directory(tmp_path / "folder"):
            pass
        assert hidden(tmp_path) == living
        process.kill()
    write_text(tmp_path / "other", "whole")
    assert hidden(tmp_path) == living
    write_text(tmp_path / "made", "again")
    (tmp_path / "folder").rmdir()
    with whole_directory(tmp_path / "folder"):
        pass
    assert hidden(tmp_path) == []
    assert (tmp_path / "made").read_text() == "again"


@needs_locks
def test_files_of_other_machines_names_and_threads_stay(tmp_path, monkeypatch):
    with whole_file(tmp_path / "made") as file, whole_file(tmp_path / "made") as other:
        other.write(b"other")
        file.write(b"made")
    assert (tmp_path / "made").read_text() == "made"
    (tmp_path / ".made.12345678.partial").touch()  # an earlier version held no lock
    (tmp_path / f".made.more.{files._machine()}.12345678.partial").touch()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "_machine", lambda: "abcdef")
        files._create_file(files._temporary_name(tmp_path / "made"))
    before = hidden(tmp_path)
    assert len(before) == 3
    write_text(tmp_path / "made", "again")
    assert hidden(tmp_path) == before


@needs_locks
def test_a_new_file_that_is_taken_for_a_leftover_is_created_again(tmp_path, monkeypatch):
    created = []

    def create(path):
        path.touch(exist_ok=False)
        created.append(path)
        if len(created) == 1:  # another process comes between creation and lock
            files._remove_leftover(path)

    monkeypatch.setattr(files, "_create_file", create)
    write_text(tmp_path / "made", "text")
    assert len(created) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    leftover = files._temporary_name(tmp_path / "made")
    leftover.touch()
    monkeypatch.setattr(files, "_lock", lambda path, *, wait: None)
    write_text(tmp_path / "made", "text")
    assert hidden(tmp_path) == [leftover.name]
