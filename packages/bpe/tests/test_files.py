"""Files that appear whole or not at all, behind links too, and what is no file."""

import os
import threading
from pathlib import Path

import pytest

from bpe.files import check_file, check_folder, whole_file, write_text


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


def test_what_this_user_may_not_write_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="may not be written to by this user; name another, or change its mode"):
        check_folder(tmp_path / "a" / "b")
    with pytest.raises(PermissionError, match="may not be written to by this user; name another, or change its mode"):
        check_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
