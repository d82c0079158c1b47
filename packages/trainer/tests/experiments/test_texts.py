"""Texts of an experiment: which files a choice leads to, and what the tokenizer's functions are called with."""

import json
import random
import shutil
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest

from trainer.experiments import texts
from trainer.experiments.hub import Download, HubDataset
from trainer.experiments.texts import Corpus, DataFlags, TokenFiles, find_text, tokenizer_of, tokenizer_of_weights

BOOKS = HubDataset("books", "somebody/books", "train.txt.gz", "valid.txt")
NAMES = ("Mia", "Tom", "Ada", "Jon", "Eve")


class Tokenizers:
    """Records its calls, and returns paths that no file has."""

    def __init__(self):
        self.calls = []

    def divide(self, train, valid, directory, **others):
        self.calls.append(("divide", train, valid, directory, others["valid_bytes"], others["digests"]))
        self.column = others["column"]
        return Path("divided-train"), Path("divided-valid")

    def first_documents(self, path, directory, *, max_bytes):
        self.calls.append(("first_documents", path, directory, max_bytes))
        return Path("first-documents")

    def prepare(self, train, valid, *, vocab_size, directory, notify, digests):
        self.calls.append(("prepare", train, valid, vocab_size, directory, digests))
        return SimpleNamespace(tokenizer_directory=Path("tok"), train_tokens=Path("t.npy"), valid_tokens=Path("v.npy"))


def compose(rng: random.Random) -> str:
    return " ".join(NAMES[int(rng.random() * len(NAMES))] for _ in range(12))


@pytest.fixture
def corpus():
    return Corpus(BOOKS, "sample-names", compose, Tokenizers(), sample_train_bytes=20_000, sample_valid_bytes=2_000)


@pytest.fixture
def downloads(monkeypatch):
    """Stands in for downloads; returns the requests."""
    asked = []

    def download(dataset, directory, notify):
        asked.append((dataset, directory))
        return Download(Path("hub-train"), "1" * 64), Download(Path("hub-valid"), "2" * 64)

    monkeypatch.setattr(texts, "download", download)
    return asked


def test_a_sample_is_composed_once(corpus, tmp_path):
    lines = []
    found = corpus.resolve("sample", None, None, tmp_path, lines.append)
    assert found.train.parent.name.startswith("sample-names-")
    assert found.train.stat().st_size >= 20_000
    assert 2_000 <= found.valid.stat().st_size < 3_000
    assert found.digests == {}
    assert len(lines) == 2
    assert corpus.resolve("sample", None, 2_000, tmp_path, lines.append) == found
    assert len(lines) == 2
    assert corpus.tokenizers.calls == []


def test_paths_on_another_drive_of_windows_are_recorded_with_slashes(monkeypatch):
    """R36: so that the run can be read on another system."""

    def fail(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(texts.os.path, "relpath", fail)
    seen = texts._path_from(PureWindowsPath("C:/runs/a"), PureWindowsPath("D:/data/valid.npy"))
    assert seen == "D:/data/valid.npy"


def test_a_samples_validation_text_can_be_shorter(corpus, tmp_path):
    whole = corpus.resolve("sample", None, None, tmp_path, print)
    short = corpus.resolve("sample", None, 1_999, tmp_path, print)
    assert short == (whole.train, Path("first-documents"), {})
    assert corpus.tokenizers.calls == [("first_documents", whole.valid, tmp_path, 1_999)]


def test_checksums_of_the_hub_are_passed_on(corpus, downloads, tmp_path):
    found = corpus.resolve("books", None, 5_000, tmp_path, print)
    digests = {Path("hub-train"): "1" * 64, Path("hub-valid"): "2" * 64}
    assert found == (Path("divided-train"), Path("divided-valid"), digests)
    assert downloads == [(BOOKS, tmp_path)]
    corpus.prepare(found, 300, tmp_path, print)
    assert corpus.tokenizers.calls == [
        ("divide", Path("hub-train"), Path("hub-valid"), tmp_path, 5_000, digests),
        ("prepare", Path("divided-train"), Path("divided-valid"), 300, tmp_path, digests),
    ]


@pytest.mark.parametrize("valid", [None, Path("other.txt")])
def test_files_of_the_user(corpus, downloads, tmp_path, valid):
    corpus.resolve("mine.txt", valid, None, tmp_path, print)
    assert corpus.tokenizers.calls == [("divide", Path("mine.txt"), valid, tmp_path, None, {})]
    assert downloads == []


@pytest.mark.parametrize("dataset", ["sample", "books"])
def test_a_second_validation_text_or_a_column_is_refused(corpus, downloads, dataset, tmp_path):
    message = f"--valid-dataset other.txt: {dataset} has its own; give --dataset PATH too"
    with pytest.raises(ValueError, match=message):
        corpus.resolve(dataset, Path("other.txt"), None, tmp_path, print)
    with pytest.raises(ValueError, match=f"--column text: {dataset} has no columns; give --dataset PATH too"):
        corpus.resolve(dataset, None, None, tmp_path, print, column="text")
    assert downloads == []
    assert not list(tmp_path.iterdir())


def test_flags_choose_a_text(corpus, tmp_path):
    class Flags(DataFlags):
        pass

    Flags.corpus = corpus
    flags = Flags(dataset="some/where.txt.gz", data_dir=tmp_path)
    assert flags.name == "where"
    assert flags.prepare(300) == TokenFiles(Path("tok"), Path("t.npy"), Path("v.npy"))
    assert [call[4] for call in corpus.tokenizers.calls if call[0] == "divide"] == [None], "0 bytes mean all of them"
    assert corpus.tokenizers.column is None
    Flags(dataset="mine.jsonl", valid_bytes=7, data_dir=tmp_path, column="text").prepare(300)
    assert corpus.tokenizers.calls[-2][4] == 7
    assert corpus.tokenizers.column == "text"


@pytest.fixture
def files(tmp_path):
    """A tokenizer of two files, and token files that it wrote."""
    (tmp_path / "data" / "tok").mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "data" / "tok" / name).write_text(name)
    for name in ("train", "valid"):
        np.save(tmp_path / "data" / f"{name}.npy", np.zeros(9, dtype=np.uint16))
        described = {"format": "scratchlm-tokens", "tokens": 9, "tokenizer_sha256": "5ha"}
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(described))
    return TokenFiles(*(tmp_path / "data" / name for name in ("tok", "train.npy", "valid.npy")))


def test_texts_are_found_wherever_the_run_or_the_project_goes(files, tmp_path):
    """R36."""
    run = tmp_path / "runs" / "a"
    recorded = files.recorded(run)
    assert recorded == {
        "tokenizer_sha256": "5ha",
        "train_tokens": "../../data/train.npy",
        "valid_tokens": "../../data/valid.npy",
        "texts": str(tmp_path / "data"),
    }
    elsewhere = tmp_path / "elsewhere"
    assert find_text(elsewhere / "b", recorded, "valid_tokens") == tmp_path / "data" / "valid.npy"
    shutil.move(tmp_path / "data", elsewhere / "data")
    (elsewhere / "runs" / "a").mkdir(parents=True)
    assert find_text(elsewhere / "runs" / "a", recorded, "train_tokens").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"is neither at .* nor .*: move run and data together"):
        find_text(elsewhere / "b", recorded, "valid_tokens")


def test_a_run_gets_its_own_tokenizer(files, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="run lacks its tokenizer: expected the folder 'tokenizer' in it"):
        tokenizer_of(run)
    run.mkdir()
    for content in ("first", "second"):  # of a run that has not begun it is replaced
        (files.tokenizer / "merges.txt").write_text(content)
        files.copy_tokenizer(run)
        assert (tokenizer_of(run) / "merges.txt").read_text() == content
    (run / "checkpoints" / "step_0000001").mkdir(parents=True)
    (files.tokenizer / "merges.txt").write_text("third")
    files.copy_tokenizer(run)
    assert (tokenizer_of(run) / "merges.txt").read_text() == "second"
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "tokenizer"]


@pytest.mark.parametrize(("recorded", "restored"), [("5ha", True), ("other", False)])
def test_a_run_that_has_lost_its_tokenizer_gets_it_again(files, tmp_path, recorded, restored):
    """R36: only if the run was trained with this one."""
    run = tmp_path / "run"
    (run / "checkpoints" / "step_0000001").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"recorded": {"tokenizer_sha256": recorded}}))
    files.copy_tokenizer(run)
    assert (run / "tokenizer").exists() is restored


def test_the_tokenizer_of_weights_is_found(files, tmp_path):
    run, export = tmp_path / "run", tmp_path / "export"
    for folder in (run, export):
        folder.mkdir()
        assert tokenizer_of_weights(folder) is None
    (export / "tokenizer.json").touch()
    files.copy_tokenizer(run)
    (run / "checkpoints" / "step_0000001").mkdir(parents=True)
    assert tokenizer_of_weights(run) == tokenizer_of_weights(run / "checkpoints" / "step_0000001") == run / "tokenizer"
    assert tokenizer_of_weights(export) == export


def test_a_data_directory_that_cannot_be_made_is_named(corpus, tmp_path):
    """A17, A19: whichever function needs it first."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "text.txt").write_text("text")

    class Flags(DataFlags):
        pass

    Flags.corpus = corpus
    corpus.tokenizers.divide = lambda *_, **__: (tmp_path / "link").mkdir(exist_ok=True)
    for dataset in ("sample", str(tmp_path / "text.txt")):
        with pytest.raises(OSError, match=r"link is a link to nowhere, which does not exist; choose another one"):
            Flags(dataset=dataset, data_dir=tmp_path / "link").prepare(300)


def test_a_run_directory_that_cannot_be_made_is_named(tmp_path):
    """A17."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    files = TokenFiles(tmp_path / "tokenizer", tmp_path / "train.npy", tmp_path / "valid.npy")
    with pytest.raises(OSError, match=r"link is a link to nowhere, which does not exist"):
        files.copy_tokenizer(tmp_path / "link")
