"""Preparation of a data set: made once, resumed after an interruption, found again."""

import hashlib

import numpy as np
import pytest
from helpers import CORPUS, EOT

import bpe


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "train.txt").write_text(f"{CORPUS}{EOT}" * 3, encoding="utf-8")
    (tmp_path / "valid.txt").write_text(f"another cat{EOT}", encoding="utf-8")
    return tmp_path / "train.txt", tmp_path / "valid.txt"


def prepare(texts, tmp_path, **changes):
    lines = []
    settings = {"vocab_size": 300, "directory": tmp_path / "data", "notify": lines.append} | changes
    return bpe.prepare(*texts, **settings), lines


def test_a_preparation_has_a_tokenizer_and_two_token_files(texts, tmp_path, capsys):
    made, lines = prepare(texts, tmp_path)
    assert made.tokenizer == bpe.train(texts[0], 300) == bpe.Tokenizer.from_pretrained(made.tokenizer_directory)
    for path, tokens, report in zip(texts, (made.train_tokens, made.valid_tokens), made.reports, strict=True):
        text = path.read_bytes().decode()
        assert np.load(tokens).tolist() == made.tokenizer.encode(text)
        assert (report.path, report.bytes) == (tokens, path.stat().st_size)
    assert not made.reused
    assert len(lines) == 3
    assert all("\n" not in line for line in lines)
    assert capsys.readouterr() == ("", "")


def test_files_of_a_known_digest_are_not_read_for_the_key(texts, tmp_path, monkeypatch):
    first, _ = prepare(texts, tmp_path)
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in texts}
    monkeypatch.setattr("hashlib.file_digest", None)
    second, _ = prepare(texts, tmp_path, digests=digests)
    assert second.reused
    assert second.train_tokens == first.train_tokens


def test_nothing_is_made_twice(texts, tmp_path):
    first, _ = prepare(texts, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    second, lines = prepare(texts, tmp_path)
    assert second.reused
    assert lines == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == times
    assert [report.tokens for report in second.reports] == [report.tokens for report in first.reports]
    assert second.reports[0].seconds == 0
    texts[1].write_text("changed")
    assert not prepare(texts, tmp_path)[0].reused
    assert not prepare(texts, tmp_path, vocab_size=301)[0].reused
    assert not prepare(texts, tmp_path, special_tokens=[])[0].reused


def test_another_validation_text_needs_no_other_tokenizer(texts, tmp_path):
    first, _ = prepare(texts, tmp_path)
    before = first.valid_tokens.read_bytes()
    (tmp_path / "other.txt").write_text(f"one more cat{EOT}", encoding="utf-8")
    second, lines = prepare((texts[0], tmp_path / "other.txt"), tmp_path)
    assert (second.tokenizer_directory, second.train_tokens) == (first.tokenizer_directory, first.train_tokens)
    assert len(lines) == 1
    assert np.load(second.valid_tokens).tolist() == first.tokenizer.encode(f"one more cat{EOT}")
    assert first.valid_tokens.read_bytes() == before


def test_an_interrupted_preparation_is_resumed(texts, tmp_path, monkeypatch):
    whole, _ = prepare(texts, tmp_path)
    encode_file = bpe.Tokenizer.encode_file

    def killed(self, path, *rest, **options):
        if path == texts[1]:
            raise KeyboardInterrupt
        return encode_file(self, path, *rest, **options)

    monkeypatch.setattr(bpe.Tokenizer, "encode_file", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(texts, tmp_path, directory=tmp_path / "other")
    monkeypatch.undo()
    again, lines = prepare(texts, tmp_path, directory=tmp_path / "other")
    assert len(lines) == 1
    assert again.valid_tokens.read_bytes() == whole.valid_tokens.read_bytes()


def test_a_tokenizer_that_cannot_be_saved_leaves_nothing(texts, tmp_path):
    with pytest.raises(ValueError, match="both written"):
        prepare(texts, tmp_path, special_tokens=["Ġ"])
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("content", "changes", "error", "message"),
    [
        (None, {}, FileNotFoundError, "no file"),
        ("", {}, ValueError, "is empty"),
        ("text", {"vocab_size": 256}, ValueError, "vocab_size is 256, expected a whole number of at least 257"),
        ("text", {"threads": 0}, ValueError, "threads is 0"),
    ],
)
def test_wrong_arguments(texts, tmp_path, content, changes, error, message):
    texts[1].unlink()
    if content is not None:
        texts[1].write_text(content)
    with pytest.raises(error, match=message):
        prepare(texts, tmp_path, **changes)
    assert not (tmp_path / "data").exists()


def test_texts_are_encoded_with_a_given_tokenizer(texts, tmp_path):
    (tmp_path / "other.txt").write_text(f"a dog in the fog{EOT}" * 9, encoding="utf-8")
    other = bpe.train(tmp_path / "other.txt", 265)
    other.save_pretrained(tmp_path / "other")
    plain, _ = prepare(texts, tmp_path, vocab_size=265)
    made, lines = prepare(texts, tmp_path, vocab_size=265, tokenizer=tmp_path / "other")
    assert made.tokenizer.sha256 == other.sha256 != plain.tokenizer.sha256
    assert made.tokenizer_directory.parent != plain.tokenizer_directory.parent
    assert np.load(made.valid_tokens).tolist() == other.encode(texts[1].read_text("utf-8"))
    assert len(lines) == 2
    assert prepare(texts, tmp_path, vocab_size=265, tokenizer=tmp_path / "other")[0].reused
    with pytest.raises(ValueError, match=r"vocab_size is 300, but the tokenizer in .* has 265 tokens"):
        prepare(texts, tmp_path, tokenizer=tmp_path / "other")
