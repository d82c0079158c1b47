"""Files that are complete or absent."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from trainer import write_atomically
from trainer.support import files
from trainer.support.files import creating, make_directory


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch, number):
    """But one whose flushing fails is."""

    def fail(descriptor, fsync=os.fsync):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            write_atomically(tmp_path / "x", b"new")
    else:
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_atomic_writing(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, b"old")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"newest")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


class Busy:
    """A file that other programs have open for the next few tries to rename it, as on Windows."""

    def __init__(self, monkeypatch, tries):
        self.tries, self.waited = tries, []
        monkeypatch.setattr(files, "IS_WINDOWS", True)
        monkeypatch.setattr(files.time, "sleep", self.waited.append)
        monkeypatch.setattr(
            Path, "replace", lambda source, target, replace=Path.replace: self.rename(replace, source, target)
        )

    def rename(self, replace, source, target):
        if len(self.waited) < self.tries:
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(target))
        return replace(source, target)


def test_windows_gets_time_to_close_a_file(tmp_path, monkeypatch):
    """Virus scanners open new files, and Windows renames none that is open."""
    busy = Busy(monkeypatch, tries=5)
    write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert busy.waited == sorted(busy.waited)
    assert 1.0 < sum(busy.waited) < 3.0


def test_a_file_that_stays_open_on_windows_is_left_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"old")
    Busy(monkeypatch, tries=1000)
    with pytest.raises(PermissionError, match="cannot access the file"):
        write_atomically(tmp_path / "x", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_threads_may_write_the_same_file(tmp_path):
    path, failures = tmp_path / "x", []

    def write(content):
        try:
            for _ in range(50):
                write_atomically(path, content)
        except OSError as error:
            failures.append(error)

    contents = [bytes([65 + number]) * 1000 for number in range(4)]
    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_what_is_in_the_way_of_a_directory_is_named(tmp_path):
    """A17, A19: a bare "File exists" and "No such file or directory" named neither."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "link", "link is a link to nowhere, which does not exist"),
        (tmp_path / "link" / "run", "link is a link to nowhere, which does not exist"),
        (tmp_path / "file", "file is a file, not a directory"),
        (tmp_path / "file" / "a" / "run", "file is a file, not a directory"),
    ):
        with pytest.raises(OSError, match=rf"cannot create the directory {path}: .*{reason}; choose another one$"):
            make_directory(path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "there").mkdir()
    make_directory(tmp_path / "link" / "a" / "run")
    assert (tmp_path / "there" / "a" / "run").is_dir()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux")
def test_a_place_without_new_directories(tmp_path):
    """A19."""
    with pytest.raises(OSError, match=r"cannot create the directory /proc/data: .* in /proc; choose another one"):
        make_directory(Path("/proc/data"))


def test_other_errors_keep_their_words(tmp_path):
    for path, named in ((tmp_path / "data", tmp_path / "text.txt"), (tmp_path, tmp_path / "text.txt")):
        with pytest.raises(FileNotFoundError, match="No such file"), creating(path):
            named.read_text()
