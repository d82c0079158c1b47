"""TinyStories from the hub, with a stub in place of downloads, and shortened validation texts."""

import gzip
import hashlib
from dataclasses import replace

import pytest

from bpe import prepare
from tinystories.run import main
from tinystories.texts.datasets import CORPUS, TINYSTORIES, resolve
from trainer.experiments.hub import Download, DownloadError

TEXT = "".join(f"Number {i} had {i * i} red balls.\n<|endoftext|>\n" for i in range(400)).encode()


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """Stands in for downloads of the files of a data set; returns the requests."""
    asked = []

    def download(dataset, directory, notify):
        asked.append((dataset, directory))
        found = []
        for name in (dataset.train, dataset.valid):
            contents = gzip.compress(TEXT, mtime=0) if name.endswith(".gz") else TEXT
            (tmp_path / name).write_bytes(contents)
            found.append(Download(tmp_path / name, hashlib.sha256(contents).hexdigest()))
        return tuple(found)

    monkeypatch.setattr("trainer.experiments.texts.download", download)
    return asked


def test_the_files_of_the_hub_are_read_once(downloads, tmp_path, monkeypatch):
    def prepared():
        texts = resolve("tinystories", None, 3000, tmp_path / "data", lambda line: None)
        assert TEXT.startswith(texts.valid.read_bytes())
        assert 2900 < texts.valid.stat().st_size <= 3000
        return prepare(
            texts.train, texts.valid, vocab_size=300, directory=tmp_path / "data", digests=texts.digests, threads=1
        )

    first = prepared()
    assert downloads == [(TINYSTORIES, tmp_path / "data")]
    assert first.reports[0].bytes == len(TEXT)
    read = []

    def file_digest(file, name, original=hashlib.file_digest):
        read.append(file.name)
        return original(file, name)

    monkeypatch.setattr("hashlib.file_digest", file_digest)
    again = prepared()
    assert again.reused
    assert again.train_tokens == first.train_tokens
    assert [str(path).rpartition("/")[2] for path in read] == ["text.txt"]  # the first documents for validation


def test_the_samples_validation_text_can_be_shorter_too(tmp_path):
    corpus = replace(CORPUS, sample_train_bytes=200_000)
    whole = corpus.resolve("sample", None, None, tmp_path, print)
    short = corpus.resolve("sample", None, 5000, tmp_path, print)
    assert short.train == whole.train
    assert 3000 < short.valid.stat().st_size <= 5000
    assert whole.valid.read_bytes().startswith(short.valid.read_bytes())


def test_a_failed_download_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    def download(*_):
        raise DownloadError("the answer was 404")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.experiments.texts.download", download)
    assert main(["prepare", "--dataset", "tinystories"]) == 2
    assert capsys.readouterr().err == "error: the answer was 404\n"
    assert main([*["prepare", "--dataset", "tinystories"], "--valid-dataset", "mine.txt"]) == 2
    assert "tinystories has its own" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_messages_name_flags_that_exist(capsys):
    flags = [word for word in TINYSTORIES.advice.split() if word.startswith("--")]
    assert flags == ["--dataset", "--valid-dataset", "--dataset"]
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in flags)
