"""OpenWebText from the hub, with a stub in place of downloads: compressed files, and failures in one line."""

import gzip
import hashlib

import pytest

from owt_leaderboard.__main__ import main
from owt_leaderboard.commands.shared import DataFlags
from owt_leaderboard.texts import prepare, resolve
from owt_leaderboard.texts.datasets import OWT
from trainer.experiments.hub import Download, DownloadError

TEXT = "".join(f"Number {i} had {i * i} red balls.\n<|endoftext|>\n" for i in range(400)).encode()


def test_the_compressed_files_of_the_hub_become_token_files(tmp_path, monkeypatch):
    def download(dataset, directory, notify):
        assert dataset == OWT
        paths = [tmp_path / name for name in (dataset.train, dataset.valid)]
        for path in paths:
            path.write_bytes(gzip.compress(TEXT, mtime=0))
        return tuple(Download(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)

    monkeypatch.setattr("trainer.experiments.texts.download", download)
    texts = resolve("owt", None, 3000, tmp_path / "data", print)
    assert TEXT.startswith(texts.valid.read_bytes())
    assert 2900 < texts.valid.stat().st_size <= 3000
    files = prepare(texts, 300, tmp_path / "data", print)
    assert files.tokenizer.is_dir()
    assert files.train.stat().st_size > files.valid.stat().st_size > 0


def test_the_command_says_in_one_line_what_went_wrong(tmp_path, monkeypatch, capsys):
    def download(*_):
        raise DownloadError("the answer was 404")

    monkeypatch.setattr("trainer.experiments.texts.download", download)
    short = ["--time-limit", "2m", "--device", "cpu"]
    assert main(["--dataset", "owt", *short]) == 2
    assert capsys.readouterr().err == "error: the answer was 404\n"
    assert main(["--dataset", "owt", "--valid-dataset", "mine.txt", *short]) == 2
    assert "owt has its own" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_column_of_a_table_is_passed_on_to_other_processes():
    words = DataFlags(dataset="rows.jsonl", column="body").arguments()
    assert words[words.index("--column") + 1] == "body"
    assert "--column" not in DataFlags(dataset="text.txt").arguments()


def test_messages_name_flags_that_exist(capsys):
    flags = [word for word in OWT.advice.split() if word.startswith("--")]
    assert flags == ["--dataset", "--valid-dataset", "--dataset"]
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in flags)
