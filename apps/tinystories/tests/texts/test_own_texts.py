"""Texts of users: one without separators, short ones, tables, and folders, from the file to the generated text."""

import json

import pytest
from small_runs import SMALL, refused, summary_of

from tinystories.run import main
from trainer import TokenDataset

pytestmark = pytest.mark.usefixtures("quick")


def train(dataset, *more):
    return ["train", "--out", "run", "--dataset", str(dataset), "--device", "cpu", *SMALL.split(), *more]


def tokens_of(name):
    """The token file that a run in this folder was prepared with."""
    (path,) = (path for path in (name.parent / "data").glob("*/*.npy") if path.stem.partition("-")[0] == name.name)
    return TokenDataset(path)


def test_a_play_without_separators_can_be_trained_evaluated_and_continued(tmp_path, capsys):
    play = tmp_path / "play.txt"
    play.write_text("".join(f"KING.\nThou hast {n} crowns, and {n + 1} foes.\n\n" for n in range(200)))
    assert main(train(play, "--valid-bytes", "100")) == 0
    printed = capsys.readouterr().out
    assert "(5%) of " in printed
    assert "cut at the end of a line, because no <|endoftext|> divides it into documents" in printed
    assert tokens_of(tmp_path / "valid").num_bytes <= 100
    assert summary_of(tmp_path / "run")["status"] == "completed"
    assert main(["evaluate", "run", str(play), "--device", "cpu"]) == 0
    assert main(["generate", "run", "--prompt", "KING.", "--max-new-tokens", "8", "--device", "cpu"]) == 0
    assert "KING." in capsys.readouterr().out


def test_a_validation_text_may_be_shorter_than_a_window(tmp_path, text, capsys):
    short = tmp_path / "short.txt"
    short.write_text("Mia had")
    assert main(train(text, "--valid-dataset", str(short), "--steps", "1")) == 0
    assert 2 <= tokens_of(tmp_path / "valid").num_tokens <= 7  # shorter than a window of 16
    recorded = summary_of(tmp_path / "run")["final_valid_loss"]
    capsys.readouterr()
    assert main(["evaluate", "run", str(short), "--device", "cpu"]) == 0
    assert f"loss {recorded:.4f} " in capsys.readouterr().out
    short.write_text("M")
    error = refused([*train(text, "--valid-dataset", str(short)), "--out", "other"], capsys)
    assert "the validation split has 1 tokens: expected at least 2" in error


def test_a_table_trains_the_model_of_its_texts(tmp_path, text, capsys):
    stories = text.read_text("utf-8").split("\n<|endoftext|>\n")[:-1]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"story": story}) + "\n" for story in stories))
    (tmp_path / "joined.txt").write_text("".join(f"{story}<|endoftext|>" for story in stories))
    assert main(train("joined.txt")) == 0
    assert main([*train("rows.jsonl", "--column", "story"), "--out", "table"]) == 0
    assert summary_of(tmp_path / "table")["final_valid_loss"] == summary_of(tmp_path / "run")["final_valid_loss"]
    capsys.readouterr()
    assert main(["evaluate", "run", "joined.txt", "--device", "cpu"]) == 0
    assert main(["evaluate", "run", "rows.jsonl", "--column", "story", "--device", "cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert "--column text" in refused(train("rows.jsonl"), capsys)
    assert "has no column 'text', but 'story'; name one of them" in refused(
        train("rows.jsonl", "--column", "text"), capsys
    )


def test_a_folder_of_texts_is_one_data_set(tmp_path, capsys):
    (tmp_path / "books").mkdir()
    for name in "abc":
        (tmp_path / "books" / f"{name}.txt").write_text(f"The book {name} tells of many things.\n" * 20)
    assert main(["prepare", "--dataset", "books", "--vocab-size", "270"]) == 0
    printed = capsys.readouterr().out
    assert "text: all documents of books, joined in data" in printed
    assert "(33%) of " in printed
    assert "whole documents" in printed
