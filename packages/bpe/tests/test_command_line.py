"""The command line: what it prints, and one line with exit code 2 for what goes wrong."""

import numpy as np
import pytest
from conftest import CORPUS, run_python

import bpe
from bpe.__main__ import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(CORPUS, encoding="utf-8", newline="")
    return tmp_path


def test_train_encode_decode(folder, capsys):
    assert main(["train", "text.txt", "--vocab-size", "300", "--output", "tokenizer"]) == 0
    assert capsys.readouterr().out == "300 tokens (43 merges) written to tokenizer\n"
    assert bpe.Tokenizer.from_pretrained("tokenizer") == bpe.train("text.txt", 300)
    assert main(["encode", "text.txt", "tokens.npy", "--tokenizer", "tokenizer", "--threads", "2"]) == 0
    assert "tokens.npy as uint16" in capsys.readouterr().out
    assert np.load("tokens.npy").tolist() == bpe.train("text.txt", 300).encode(CORPUS)
    assert main(["decode", "tokens.npy", "--tokenizer", "tokenizer", "--output", "again.txt"]) == 0
    assert (folder / "again.txt").read_bytes() == CORPUS.encode()


def test_decode_to_standard_output(folder, capfdbinary):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("tokens.npy", np.array([104, 105, 10], dtype=np.uint16))
    assert main(["decode", "tokens.npy", "--tokenizer", "tokenizer"]) == 0
    assert capfdbinary.readouterr().out == b"hi\n"


def test_count(folder, capsys):
    assert main(["count", "text.txt", "--top", "2", "--output", "counts.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = bpe.PretokenCounts.load("counts.npz")
    assert lines[0] == f"{len(counts)} distinct pre-tokens, {counts.total} in all, {len(CORPUS.encode())} bytes"
    assert len(lines) == 3


def test_special_tokens_and_pattern(folder, capsys):
    arguments = ["train", "text.txt", "--vocab-size", "300", "--output", "tokenizer"]
    assert main([*arguments, "--special-token", "<a>", "--special-token", "cat", "--pattern", r"\w+"]) == 0
    tokenizer = bpe.Tokenizer.from_pretrained("tokenizer")
    assert sorted(tokenizer.special_tokens) == ["<a>", "cat"]
    assert tokenizer.pattern == r"\w+"
    assert main([*arguments, "--no-special-tokens"]) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer").special_tokens == []
    assert main([*arguments, "--no-special-tokens", "--special-token", "x"]) == 2
    assert "contradict" in capsys.readouterr().err


def test_inspect(folder, capsys):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    assert main(["inspect", "tokenizer"]) == 0
    output = capsys.readouterr().out
    assert "vocabulary      300\nmerges          43\nspecial tokens  <|endoftext|>\n" in output
    assert main(["inspect", "tokenizer", "--text", "zq"]) == 0
    assert capsys.readouterr().out == "     122  b'z'\n     113  b'q'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train absent.txt --vocab-size 300 --output t", "no file 'absent.txt'"),
        ("train text.txt --vocab-size 12 --output t", "vocab_size is 12, expected a whole number of at least 257"),
        ("train empty.txt --vocab-size 300 --output t", "file 'empty.txt' is empty"),
        ("train text.txt --vocab-size 300 --output t --threads 0", "threads is 0"),
        ("train text.txt --vocab-size 300 --output text.txt", "File exists"),
        ("encode text.txt tokens.npy --tokenizer absent", "no tokenizer.json in 'absent'"),
        ("decode absent.npy --tokenizer tokenizer", "no file 'absent.npy'"),
        ("decode text.txt --tokenizer tokenizer", "is not a NumPy array"),
        ("decode floats.npy --tokenizer tokenizer", "expected one row of token ids"),
        ("decode large.npy --tokenizer tokenizer", "token id 999 is not in the vocabulary"),
        ("count absent", "no file 'absent'"),
        ("inspect absent", "no tokenizer.json"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(folder, capsys, arguments, message):
    (folder / "empty.txt").write_bytes(b"")
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("floats.npy", np.zeros(3))
    np.save("large.npy", np.array([999]))
    before = sorted(folder.rglob("*"))
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bpe: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before


def test_malformed_utf8_is_noticed_in_one_line(folder, capsys):
    (folder / "bad.txt").write_bytes(b"ab\xff")
    assert main(["count", "bad.txt"]) == 0
    assert capsys.readouterr().err == (
        "bpe: warning: 1 places of malformed UTF-8 in 'bad.txt' were replaced by U+FFFD\n"
    )


def test_wrong_options_exit_with_2():
    with pytest.raises(SystemExit) as caught:
        main(["train"])
    assert caught.value.code == 2


def test_import_and_help_load_no_heavy_library():
    heavy = "{'numba', 'numpy', 'regex', 'torch'} & set(sys.modules)"
    result = run_python("-c", f"import sys, bpe; dir(bpe); print({heavy})")
    assert (result.stdout, result.stderr) == ("set()\n", "")
    code = f"import sys, bpe.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: print({heavy})"
    result = run_python("-c", code)
    assert result.stdout.endswith("set()\n")


def test_little_text_is_handled_without_numba(folder):
    code = "import sys, bpe; t = bpe.train('text.txt', 500); t.encode('the cat'); print('numba' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


def test_public_names():
    assert set(bpe.__all__) <= set(dir(bpe))
    for name in bpe.__all__:
        assert getattr(bpe, name) is not None
    with pytest.raises(AttributeError, match="module 'bpe' has no attribute 'tokenise'"):
        bpe.tokenise  # noqa: B018
