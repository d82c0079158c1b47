"""The real texts: `trainer.experiments.hub` downloads them, here a stub does."""

import gzip
import hashlib

import pytest

from owt_leaderboard.__main__ import main
from owt_leaderboard.texts import datasets, prepare, resolve
from owt_leaderboard.texts.datasets import OWT
from trainer.experiments.hub import Download, DownloadError

TEXT = "".join(f"Number {i} had {i * i} red balls.\n<|endoftext|>\n" for i in range(400)).encode()


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """Has each file that the data set names; returns what was asked for."""
    asked = []

    def download(dataset, directory, notify):
        asked.append((dataset, directory))
        found = []
        for name in (dataset.train, dataset.valid):
            contents = gzip.compress(TEXT, mtime=0) if name.endswith(".gz") else TEXT
            (tmp_path / name).write_bytes(contents)
            found.append(Download(tmp_path / name, hashlib.sha256(contents).hexdigest()))
        return tuple(found)

    monkeypatch.setattr("owt_leaderboard.texts.datasets.download", download)
    return asked


def test_the_files_of_the_hub_are_read_once(downloads, tmp_path, monkeypatch):
    lines = []

    def prepared():
        texts = resolve("owt", None, 3000, tmp_path / "data", lambda line: None)
        assert TEXT.startswith(texts.valid.read_bytes())
        assert 2900 < texts.valid.stat().st_size <= 3000
        return prepare(texts, 300, tmp_path / "data", lines.append)

    first = prepared()
    assert downloads == [(OWT, tmp_path / "data")]
    read = []

    def file_digest(file, name, original=hashlib.file_digest):
        read.append(file.name)
        return original(file, name)

    monkeypatch.setattr("hashlib.file_digest", file_digest)
    assert prepared() == first
    assert [str(path).rpartition("/")[2] for path in read] == ["text.txt"]  # the first documents for validation


def test_the_samples_validation_text_can_be_shorter_too(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SAMPLE_TRAIN_BYTES", 200_000)
    whole = resolve("sample", None, None, tmp_path, lambda line: None)
    short = resolve("sample", None, 5000, tmp_path, lambda line: None)
    assert short.train == whole.train
    assert 3000 < short.valid.stat().st_size <= 5000
    assert whole.valid.read_bytes().startswith(short.valid.read_bytes())
    assert resolve("sample", None, 100_000, tmp_path, lambda line: None) == whole


def test_the_command_says_in_one_line_what_went_wrong(tmp_path, monkeypatch, capsys):
    def download(*_):
        raise DownloadError("the answer was 404")

    monkeypatch.setattr("owt_leaderboard.texts.datasets.download", download)
    assert main(["--dataset", "owt"]) == 2
    assert capsys.readouterr().err == "error: the answer was 404\n"
    assert main([*["--dataset", "owt"], "--valid-dataset", "mine.txt"]) == 2
    assert "owt has its own" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_messages_name_flags_that_exist(capsys):
    flags = [word for word in OWT.advice.split() if word.startswith("--")]
    assert flags == ["--dataset", "--valid-dataset", "--dataset"]
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in flags)
