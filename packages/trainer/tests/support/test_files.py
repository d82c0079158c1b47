"""Files that are complete or absent."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from trainer import write_atomically
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
