"""Files and folders that appear complete or not at all, behind links too; devices and pipes."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import run_python

from bpe.files import check_file, check_folder, whole_directory, whole_file, write_text


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


KILLED = """
import os, signal, sys
from pathlib import Path
from bpe.files import whole_directory, whole_file
with whole_file(Path(sys.argv[1])) as file, whole_directory(Path(sys.argv[2])) as building:
    file.write(b"half")
    file.flush()
    (building / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="the system has no locks of this kind")
def test_what_killed_processes_left_is_deleted_by_the_next_attempt(tmp_path):
    run_python("-c", KILLED, str(tmp_path / "made.txt"), str(tmp_path / "folder"))
    (tmp_path / ".made.txt.mine.partial").touch()
    (tmp_path / ".other.txt.0123abcd.partial").touch()
    assert len(list(tmp_path.iterdir())) == 4
    write_text(tmp_path / "made.txt", "text")
    with whole_directory(tmp_path / "folder") as building:
        (building / "file").write_text("text")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".made.txt.mine.partial",
        ".other.txt.0123abcd.partial",
        "file",
        "folder",
        "made.txt",
    ]


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
