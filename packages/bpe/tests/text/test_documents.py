"""Splitting a text at document boundaries: nothing lost, nothing in both parts, the same files found again."""

import gzip
import hashlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpe.text import documents

MARK = "<|endoftext|>"


def write(path, texts, end="\n"):
    path.write_text("".join(f"{text}\n{MARK}{end}" for text in texts), "utf-8")
    return path


def split(path):
    return [part.strip("\n") for part in path.read_text("utf-8").split(MARK) if part.strip()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(
        st.text("ab<|>é\n", min_size=1).filter(lambda text: text.strip() and MARK not in text), min_size=2, max_size=12
    ),
    chunk=st.integers(1, 40),
    end=st.sampled_from(["\n", "", "\n\n", "\r\n", "\r\n\r\n"]),
)
def test_held_out_documents_are_the_last_ones_whatever_the_chunk_size(tmp_path_factory, monkeypatch, texts, chunk, end):
    directory = tmp_path_factory.mktemp("text")
    path = write(directory / "text.txt", texts, end)
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    train, valid = documents.hold_out_documents(path, directory, fraction=0.3)
    assert train.read_bytes() + valid.read_bytes() == path.read_bytes()
    assert split(train) + split(valid) == [text.strip("\n") for text in texts]
    assert split(train)
    assert split(valid)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.lists(st.sampled_from(["a", "bc", "ä", "語", MARK, "\n", "\r\n", " ", "<|", "\t\n"]), max_size=10),
    chunk=st.integers(1, 20),
    fraction=st.sampled_from([0.05, 0.5, 0.95]),
)
def test_both_parts_have_text_or_there_is_a_single_character(tmp_path_factory, monkeypatch, parts, chunk, fraction):
    directory = tmp_path_factory.mktemp("text")
    path = directory / "text.txt"
    text = "".join(parts)
    path.write_bytes(text.encode())
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    whole = [part for part in text.split(MARK) if part.strip()]
    lines = [line for line in text.replace(MARK, "").split("\n") if line.strip()]
    words = text.replace(MARK, "").strip().split(" ")
    if len(whole) < 2 and len(text.replace(MARK, "").strip()) < 2:
        with pytest.raises(ValueError, match="has a single character," if whole else "has no text,"):
            documents.hold_out_documents(path, directory, fraction=fraction)
    elif len(whole) < 2:
        held = [part.read_bytes() for part in documents.hold_out_documents(path, directory, fraction=fraction)]
        assert b"".join(held) == path.read_bytes()
        if len(lines) > 1 or len(words) > 1:
            assert held[0].endswith(b"\n" if len(lines) > 1 else b" ")
        assert all(part.decode().replace(MARK, "").strip() for part in held)
    else:
        held = documents.hold_out_documents(path, directory, fraction=fraction)
        assert b"".join(part.read_bytes() for part in held) == path.read_bytes()
        texts = [part.read_bytes().decode() for part in held]
        assert all(part.replace(MARK, "").strip() for part in texts)
        assert texts[0].endswith((MARK, f"{MARK}\n", f"{MARK}\r\n"))
    if whole:
        first = documents.first_documents(path, directory, max_bytes=1).read_bytes().decode()
        kept = [part for part in first.split(MARK) if part.strip()]
        assert text.startswith(first)
        if len(whole) > 1:
            assert kept == whole[:1]
        elif len(lines) == len(words) == 1:
            assert kept[0].strip() == whole[0].strip()[:1]
        elif len(lines) == 1:
            assert kept == [whole[0].replace(whole[0].lstrip(), "") + words[0] + " "]
        else:
            assert kept == [whole[0].replace(whole[0].lstrip(), "") + whole[0].lstrip().partition("\n")[0] + "\n"]


@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
def test_a_single_document_is_cut_at_the_end_of_a_line(tmp_path, monkeypatch, chunk):
    """A book or a play without separators (R35): the cut is the last one before the share."""
    lines = [f"line {number} of a play\n" for number in range(100)]
    (tmp_path / "play.txt").write_text("".join(lines))
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    train, valid = documents.hold_out_documents(tmp_path / "play.txt", tmp_path, fraction=0.1)
    size = 0.9 * sum(map(len, lines))
    assert size - 20 < train.stat().st_size <= size
    assert train.read_text() + valid.read_text() == "".join(lines)
    (tmp_path / "long.txt").write_text("x" * 500 + "\n" + "y" * 10)
    assert documents.hold_out_documents(tmp_path / "long.txt", tmp_path, fraction=0.5)[1].read_text() == "y" * 10


@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
def test_a_single_line_is_cut_between_words(tmp_path, monkeypatch, chunk):
    """Such as text8, 100 MB without a line break."""
    words = " ".join(f"word{number}" for number in range(100))
    (tmp_path / "text8").write_text(f"{words}\n")
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    lines = []
    train, valid = documents.divide(tmp_path / "text8", None, tmp_path, valid_bytes=20, notify=lines.append)
    held = documents.hold_out_documents(tmp_path / "text8", tmp_path)[1].read_text()
    assert train.read_text() + held == f"{words}\n"
    assert train.read_text().endswith(" ")
    assert 30 < len(held) < 50
    assert held.startswith(valid.read_text())
    assert 12 < len(valid.read_text()) <= 20
    assert f", cut between two words, because no {MARK} divides it into documents," in lines[0]


@pytest.mark.parametrize("character", ["a", "ä", "語", "🦊"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_single_word_is_cut_between_characters(tmp_path, monkeypatch, chunk, character):
    """Such as a sequence of DNA, or a line of Chinese."""
    path = tmp_path / "line.txt"
    path.write_text(character * 100, "utf-8")
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    lines = []
    train, valid = documents.divide(path, None, tmp_path, notify=lines.append)
    assert train.read_text("utf-8") == 95 * character
    assert valid.read_text("utf-8") == 5 * character
    assert f", cut between two characters, because no {MARK} divides it into documents," in lines[0]


@pytest.mark.parametrize("end", ["", f"\n{MARK}\n"])
def test_the_beginning_of_a_single_document_fits_into_the_limit(tmp_path, end):
    """All of a book was evaluated, whatever the limit was."""
    path = tmp_path / "play.txt"
    path.write_text("".join(f"line {number}\n" for number in range(10)) + end)
    assert documents.first_documents(path, tmp_path, max_bytes=20).read_text() == "line 0\nline 1\n"
    assert documents.first_documents(path, tmp_path, max_bytes=1).read_text() == "line 0\n"


def test_a_division_tells_how_the_validation_text_was_cut(tmp_path):
    lines = []
    play, stories = tmp_path / "play.txt", write(tmp_path / "stories.txt", ["one", "two"])
    play.write_text("a line\n" * 20)
    documents.divide(play, None, tmp_path / "data", notify=lines.append)
    documents.divide(play, None, tmp_path / "data", notify=lines.append)
    documents.divide(stories, None, tmp_path / "data", notify=lines.append)
    start = "validation text: the last"
    assert lines[0].startswith(
        f"{start} 7 bytes (5%) of {play}, cut at the end of a line, because no {MARK} divides it"
    )
    assert lines[1] == lines[0]
    assert lines[2].startswith(f"{start} 18 bytes (50%) of {stories}, whole documents, held out in ")


def test_a_line_end_of_windows_belongs_to_the_document_before(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(f"one\r\n{MARK}\r\ntwo\r\n{MARK}\r\n".encode())
    train, valid = documents.hold_out_documents(path, tmp_path)
    assert train.read_bytes() == f"one\r\n{MARK}\r\n".encode()
    assert valid.read_bytes() == f"two\r\n{MARK}\r\n".encode()


def test_another_separator_makes_other_files(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"one%two{MARK}three%four")
    by_mark = [part.read_text() for part in documents.hold_out_documents(path, tmp_path)]
    by_sign = [part.read_text() for part in documents.hold_out_documents(path, tmp_path, separator="%")]
    assert by_mark == [f"one%two{MARK}", "three%four"]
    assert by_sign == [f"one%two{MARK}three%", "four"]
    assert documents.first_documents(path, tmp_path, max_bytes=5).read_text() == by_mark[0]
    assert documents.first_documents(path, tmp_path, max_bytes=5, separator="%").read_text() == "one%"


def test_a_text_with_the_bytes_of_a_compressed_one_makes_other_files(tmp_path):
    packed = tmp_path / "text.gz"
    packed.write_bytes(gzip.compress(f"one{MARK}two".encode()))
    plain = tmp_path / "text"
    plain.write_bytes(packed.read_bytes())
    _, valid = documents.hold_out_documents(packed, tmp_path)
    assert valid.read_text() == "two"
    with pytest.raises(ValueError, match="is compressed with gzip, expected text"):
        documents.hold_out_documents(plain, tmp_path)


def test_plain_texts_are_kept_under_the_same_name_as_before(tmp_path):
    path = write(tmp_path / "text.txt", ["one", "two"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    train, _ = documents.hold_out_documents(path, tmp_path)
    assert train == tmp_path / f"held-out-0.05-{digest}" / "train.txt"
    assert documents.first_documents(path, tmp_path, max_bytes=20) == tmp_path / f"first-20-{digest}" / "text.txt"


def test_an_empty_separator_is_refused(tmp_path):
    path = write(tmp_path / "text.txt", ["one", "two"])
    for call in (
        lambda: documents.hold_out_documents(path, tmp_path, separator=""),
        lambda: documents.first_documents(path, tmp_path, max_bytes=1, separator=""),
        lambda: documents.divide(path, path, tmp_path, separator=""),
    ):
        with pytest.raises(ValueError, match="separator is '', expected the string between documents"):
            call()


def test_compressed_text_is_split_like_plain_text(tmp_path):
    plain = write(tmp_path / "plain.txt", ["one", "two", "three"])
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [path.read_bytes() for path in documents.hold_out_documents(plain, tmp_path)] == [
        path.read_bytes() for path in documents.hold_out_documents(packed, tmp_path)
    ]


def test_files_are_found_again(tmp_path):
    path = write(tmp_path / "text.txt", ["one", "two", "three"])
    train, _ = documents.hold_out_documents(path, tmp_path)
    before = train.stat().st_mtime_ns
    assert documents.hold_out_documents(path, tmp_path)[0].stat().st_mtime_ns == before


def test_two_processes_may_make_the_same_at_the_same_time(tmp_path, monkeypatch):
    path = write(tmp_path / "text.txt", ["one", "two", "three"])
    read, times, other = documents.open_text_file, iter(range(100)), []

    def meanwhile(*arguments):
        if next(times) == 1:  # after the search for documents, before the first copy
            other.extend(documents.hold_out_documents(path, tmp_path))  # another process finishes first
        return read(*arguments)

    monkeypatch.setattr(documents, "open_text_file", meanwhile)
    assert documents.hold_out_documents(path, tmp_path) == tuple(other)
    assert b"".join(part.read_bytes() for part in other) == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([path, other[0].parent])


@pytest.mark.skipif(os.name != "posix", reason="the system has no such modes")
def test_others_may_read_what_lies_in_a_directory_that_they_may_read(tmp_path):
    tmp_path.chmod(0o755)
    train, _ = documents.hold_out_documents(write(tmp_path / "text.txt", ["one", "two"]), tmp_path)
    assert train.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (18, 1), (35, 1), (36, 2), (53, 2)])
def test_first_documents_fit_into_the_limit_but_are_at_least_one(tmp_path, limit, kept):
    path = write(tmp_path / "text.txt", ["one", "two", "333"])  # 18 bytes each
    made = documents.first_documents(path, tmp_path, max_bytes=limit)
    assert split(made) == ["one", "two", "333"][:kept]


def test_first_documents_returns_the_text_itself_when_all_fits(tmp_path):
    path = write(tmp_path / "text.txt", ["one", "two"])
    assert documents.first_documents(path, tmp_path, max_bytes=36) == path


@pytest.mark.parametrize("texts", [[], ["語"]])
def test_a_text_that_cannot_be_split_is_refused_and_nothing_is_left(tmp_path, texts):
    path = write(tmp_path / "text.txt", texts)
    with pytest.raises(ValueError, match=r"expected a text of which some can be held out"):
        documents.hold_out_documents(path, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_paths_may_be_strings(tmp_path):
    path = write(tmp_path / "text.txt", ["a", "b", "c"])
    held_out = documents.hold_out_documents(str(path), str(tmp_path / "made"))
    assert documents.divide(str(path), None, str(tmp_path / "made")) == held_out
    first = documents.first_documents(str(path), str(tmp_path / "made"), max_bytes=20)
    assert documents.divide(str(path), str(path), str(tmp_path / "made"), valid_bytes=20) == (path, first)
    assert documents.first_documents(str(path), str(tmp_path / "made"), max_bytes=1000) == path


def test_divide_refuses_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.txt: there is no such file"):
        documents.divide(tmp_path / "absent.txt", None, tmp_path)


def test_divide_keeps_given_files_and_reports_what_it_made(tmp_path):
    train, valid = write(tmp_path / "train.txt", ["one"]), write(tmp_path / "valid.txt", ["two", "three"])
    lines = []
    assert documents.divide(train, valid, tmp_path, notify=lines.append) == (train, valid)
    assert lines == []
    _, shorter = documents.divide(train, valid, tmp_path, valid_bytes=18, notify=lines.append)
    assert split(shorter) == ["two"]
    assert len(lines) == 1


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_wrong_fraction(tmp_path, fraction):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        documents.hold_out_documents(tmp_path / "text.txt", tmp_path, fraction=fraction)


def test_wrong_limit(tmp_path):
    with pytest.raises(ValueError, match="max_bytes is 0, expected 1 or more"):
        documents.first_documents(tmp_path / "text.txt", tmp_path, max_bytes=0)
