"""The command line: its output, and one line with exit code 2 for every error."""

import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import CORPUS, WORDS, run_python

import bpe
from bpe.__main__ import main
from bpe.cli import commands


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


def test_encode_to_other_formats(folder, capsys):
    tokenizer = bpe.train("text.txt", 300)
    tokenizer.save_pretrained("tokenizer")
    arguments = ["encode", "text.txt", "-t", "tokenizer"]
    assert main([*arguments, "llm.bin"]) == 0
    assert main([*arguments, "megatron.idx", "--no-documents"]) == 0
    assert main([*arguments, "also.bin", "--format", "megatron"]) == 0
    assert main([*arguments, "tokens.npy", "--documents"]) == 0
    ids = np.array(tokenizer.encode(CORPUS), dtype=np.uint16).tobytes()
    assert [(folder / name).read_bytes()[-len(ids) :] for name in ("llm.bin", "megatron.bin", "also.bin")] == [ids] * 3
    assert (folder / "megatron.idx").read_bytes() == (folder / "also.idx").read_bytes()
    indexes = ["also.documents.npy", "llm.documents.npy", "tokens.documents.npy"]
    assert sorted(path.name for path in folder.glob("*.documents.npy")) == indexes
    assert main([*arguments, "tokens.npy", "--format", "llm.c"]) == 2
    assert "expected a name that ends in .bin for the format llm.c" in capsys.readouterr().err


def test_decode_to_standard_output(folder, capfdbinary):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("tokens.npy", np.array([104, 105, 10], dtype=np.uint16))
    assert main(["decode", "tokens.npy", "--tokenizer", "tokenizer"]) == 0
    assert capfdbinary.readouterr().out == b"hi\n"


def run_shell(line):
    """Run a line of bash, in which $BPE is the command; return its exit status, output and errors."""
    environment = {**os.environ, "BPE": f"{sys.executable} -m bpe", "PYTHONPATH": str(Path(bpe.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, env=environment)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="the system has no /dev/stdin")
def test_standard_input_and_output(folder):
    """A15."""
    expected = bpe.train("text.txt", 300)
    assert run_shell("cat text.txt | $BPE train - --vocab-size 300 -o tokenizer")[:2] == (
        0,
        b"300 tokens (43 merges) written to tokenizer\n",
    )
    assert bpe.Tokenizer.from_pretrained("tokenizer") == expected
    code, output, errors = run_shell("$BPE train - --vocab-size 300 -o - < text.txt")
    (folder / "made.json").write_bytes(output)
    assert (code, errors) == (0, "300 tokens (43 merges) written to standard output\n")
    assert bpe.Tokenizer.from_huggingface("made.json") == expected
    code, output, errors = run_shell("cat text.txt | $BPE encode - - -t tokenizer")
    (folder / "tokens.npy").write_bytes(output)
    assert (code, np.load("tokens.npy").tolist()) == (0, expected.encode(CORPUS))
    assert "tokens of" in errors
    for line in ("cat tokens.npy | $BPE decode - -t tokenizer", "$BPE decode - -t tokenizer -o - < tokens.npy"):
        assert run_shell(line) == (0, CORPUS.encode(), "")
    code, output, errors = run_shell("cat text.txt | $BPE count - --top 1 -o -")
    (folder / "counts").write_bytes(output)
    assert (code, bpe.PretokenCounts.load("counts")) == (0, bpe.count_pretokens("text.txt"))
    assert errors.endswith("written to standard output\n")
    assert run_shell("cat counts | $BPE train --from-counts - --vocab-size 300 -o again")[0] == 0
    assert bpe.Tokenizer.from_pretrained("again") == expected
    assert not (folder / "-").exists()


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="the system has no /dev/stdin")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$BPE train - --vocab-size 300 -o made < /dev/null", "file '/dev/stdin' is empty, expected text"),
        ("$BPE train - --vocab-size 300 -o made <&-", "no file '/dev/stdin'"),
        ("gzip < text.txt | $BPE train - --vocab-size 300 -o made", "'/dev/stdin' is compressed with gzip, expected"),
        ("$BPE decode - -t tokenizer < text.txt", "file '/dev/stdin' is not a NumPy array"),
        ("head -c 99 large.npy | $BPE decode - -t tokenizer", "file '/dev/stdin' is not a NumPy array"),
        ("$BPE encode absent.txt - -t tokenizer", "no file 'absent.txt'"),
    ],
)
def test_errors_of_standard_streams_leave_the_output_empty(folder, line, message):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("large.npy", np.arange(99))
    code, output, errors = run_shell(line)
    assert (code, output) == (2, b"")
    assert message in errors
    assert errors.count("\n") == 1


def test_version(capsys):
    """A16."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"bpe {bpe.__version__}\n"


def test_limits_of_training(folder, capsys):
    """R18 and R19."""
    limits = ["--min-frequency", "4", "--max-token-length", "3"]
    assert main(["train", "text.txt", "--vocab-size", "900", "-o", "tokenizer", *limits]) == 0
    tokenizer = bpe.train("text.txt", 900, min_frequency=4, max_token_length=3)
    assert bpe.Tokenizer.from_pretrained("tokenizer") == tokenizer
    captured = capsys.readouterr()
    assert captured.out == f"{tokenizer.vocab_size} tokens ({len(tokenizer.merges)} merges) written to tokenizer\n"
    assert captured.err == (
        f"bpe: warning: vocab_size is 900, but the vocabulary has only {tokenizer.vocab_size} tokens, because no pair "
        "of tokens is left to merge within min_frequency 4 and max_token_length 3; train on more text, or set "
        f"vocab_size to {tokenizer.vocab_size}\n"
    )
    bpe.count_pretokens("text.txt").save("counts")
    assert main(["train", "--from-counts", "counts", "--vocab-size", "900", "-o", "again", *limits]) == 0
    assert bpe.Tokenizer.from_pretrained("again") == tokenizer


def test_a_tokenizer_is_extended(folder, capsys):
    """R17."""
    first = bpe.train("text.txt", 300, ["<a>"])
    first.save_pretrained("first")
    (folder / "more.txt").write_text(WORDS, "utf-8")
    limits = ["--min-frequency", "2", "--vocab-size", "320"]
    assert main(["train", "more.txt", "--extend", "first", "-o", "second", *limits]) == 0
    expected = first.extend("more.txt", 320, min_frequency=2)
    assert bpe.Tokenizer.from_pretrained("second") == expected
    assert capsys.readouterr().out == "320 tokens (63 merges) written to second\n"
    bpe.count_pretokens("more.txt", ["<a>"]).save("counts")
    assert main(["train", "--from-counts", "counts", "--extend", "first", "-o", "first", *limits]) == 0
    assert bpe.Tokenizer.from_pretrained("first") == expected


def test_columns_of_tables(folder, capsys):
    """R39."""
    (folder / "rows.jsonl").write_text(json.dumps({"body": CORPUS}) + "\n" + json.dumps({"body": WORDS}), "utf-8")
    assert main(["train", "rows.jsonl", "--column", "body", "--vocab-size", "320", "-o", "tokenizer"]) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer") == bpe.train_from_iterator([CORPUS, WORDS], 320)
    assert main(["count", ".", "--column", "body", "-o", "counts"]) == 0
    assert bpe.PretokenCounts.load("counts") == bpe.count_pretokens("rows.jsonl", column="body")


def test_count(folder, capsys):
    assert main(["count", "text.txt", "--top", "2", "-o", "a.counts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = bpe.PretokenCounts.load("a.counts")
    assert lines[0] == f"{len(counts)} distinct pre-tokens, {counts.total} in all, {len(CORPUS.encode())} bytes"
    assert len(lines) == 4
    assert lines[-1] == "written to a.counts"


def test_training_on_counts_of_several_shards_is_training_on_all(folder, capsys):
    for shard, text in enumerate((CORPUS, WORDS, CORPUS[::-1])):
        (folder / f"{shard}.txt").write_text(text, encoding="utf-8", newline="")
        assert main(["count", f"{shard}.txt", "-o", f"{shard}.counts"]) == 0
    counts = ["0.counts", "1.counts", "2.counts"]
    assert main(["train", "--from-counts", *counts, "--vocab-size", "320", "-o", "tokenizer"]) == 0
    expected = bpe.train(["0.txt", "1.txt", "2.txt"], 320)
    assert bpe.Tokenizer.from_pretrained("tokenizer") == expected
    assert main(["count", "0.txt", "--pattern", r"\w+", "-o", "words.counts"]) == 0
    assert main(["train", "--from-counts", "words.counts", "--vocab-size", "300", "-o", "words"]) == 0
    assert bpe.Tokenizer.from_pretrained("words").pattern == r"\w+"


def test_training_on_counts_takes_their_special_tokens(folder, capsys):
    assert main(["count", "text.txt", "--special-token", "<a>", "-o", "a.counts"]) == 0
    arguments = ["train", "--from-counts", "a.counts", "--vocab-size", "300", "-o", "tokenizer"]
    assert main(arguments) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer") == bpe.train("text.txt", 300, ["<a>"])
    assert main([*arguments, "--special-token", "<b>"]) == 0
    warning = "bpe: warning: special_tokens is ['<b>'], but the counts were made with ['<a>']; if the text has any"
    assert warning in capsys.readouterr().err


def test_a_folder_of_texts_may_hold_tokenizers(folder, capsys):
    texts = folder / "texts"
    texts.mkdir()
    (texts / "one.txt").write_text(CORPUS, encoding="utf-8")
    (texts / "merges.txt").write_text("a text of this name", encoding="utf-8")
    arguments = ["train", "texts", "--vocab-size", "300", "--output"]
    assert main([*arguments, "texts/tokenizer"]) == 0
    assert (texts / "tokenizer" / "merges.txt").exists()
    assert main([*arguments, "again"]) == 0
    assert bpe.Tokenizer.from_pretrained("again") == bpe.Tokenizer.from_pretrained("texts/tokenizer")
    assert bpe.count_pretokens("texts")[b" name"] == 1


def test_special_tokens_and_pattern(folder, capsys):
    arguments = ["train", "text.txt", "--vocab-size", "300", "--output", "tokenizer"]
    assert main([*arguments, "--special-token", "<a>", "--special-token", "cat", "--pattern", r"\w+"]) == 0
    tokenizer = bpe.Tokenizer.from_pretrained("tokenizer")
    assert sorted(tokenizer.special_tokens) == ["<a>", "cat"]
    assert tokenizer.pattern == r"\w+"
    assert main([*arguments, "--pattern", r"\d", "--pattern", r"\w+"]) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer") == bpe.train("text.txt", 300, pattern=(r"\d", r"\w+"))
    assert main([*arguments, "--no-special-tokens"]) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer").special_tokens == []
    assert main([*arguments, "--no-special-tokens", "--special-token", "x"]) == 2
    assert "contradict" in capsys.readouterr().err


def test_a_token_file_is_decoded_only_by_its_tokenizer(folder, capsys):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    bpe.train("text.txt", 301).save_pretrained("other")
    assert main(["encode", "text.txt", "tokens.npy", "-t", "tokenizer"]) == 0
    assert main(["decode", "tokens.npy", "-t", "other"]) == 2
    assert "'tokens.npy' was encoded by another tokenizer than 'other'" in capsys.readouterr().err
    assert main(["decode", "tokens.npy", "-t", "tokenizer", "-o", "again.txt"]) == 0
    assert (folder / "again.txt").read_bytes() == (folder / "text.txt").read_bytes()
    (folder / "tokens.json").unlink()
    assert main(["decode", "tokens.npy", "-t", "other", "-o", "again.txt"]) == 0


def test_inspect(folder, capsys):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    assert main(["inspect", "tokenizer"]) == 0
    output = capsys.readouterr().out
    assert "vocabulary      300\nmerges          43\nspecial tokens  <|endoftext|>\n" in output
    assert "longest tokens" in output
    assert main(["inspect", "tokenizer", "--text", "zq", "--color", "never"]) == 0
    assert capsys.readouterr().out == (
        "z|q\n\n2 tokens of 2 bytes (1.00 bytes per token)\n     122  'z'\n     113  'q'\n"
    )
    assert main(["inspect", "tokenizer", "--text", "zq", "--color", "always"]) == 0
    assert "\x1b[30;48;5;" in capsys.readouterr().out
    assert main(["inspect", "tokenizer", "--file", "text.txt"]) == 0
    assert "1 documents; bytes per token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train absent.txt --vocab-size 300 --output t", "no file 'absent.txt'"),
        ("train text.txt --vocab-size 12 --output t", "vocab_size is 12, expected a whole number of at least 257"),
        ("train empty.txt --vocab-size 300 --output t", "file 'empty.txt' is empty"),
        ("train text.txt --vocab-size 300 --output t --threads 0", "threads is 0"),
        ("inspect tokenizer --text a --threads 0", "threads is 0"),
        ("inspect tokenizer --file text.txt --threads 0", "threads is 0"),
        ("train text.txt --vocab-size 300 --output t --min-frequency -1", "min_frequency is -1"),
        ("train text.txt --vocab-size 300 --output t --max-token-length 0", "max_token_length is 0"),
        ("train rows.jsonl --vocab-size 300 --output t", "file 'rows.jsonl' has rows, expected text; name the column"),
        (
            "train rows.jsonl --column b --vocab-size 300 --output t",
            "line 1 of 'rows.jsonl' has no column 'b', but 'a'",
        ),
        ("train text.txt --extend absent --vocab-size 300 --output t", "no tokenizer.json in 'absent'"),
        ("train --extend tokenizer --vocab-size 300 --output t", "there is no text to train on"),
        ("train text.txt --extend tokenizer --vocab-size 299 --output t", "at least 300, the present size"),
        ("train text.txt --extend tokenizer --special-token a --vocab-size 300 --output t", "omit --special-token"),
        (
            "train text.txt --extend tokenizer --no-special-tokens --vocab-size 300 --output t",
            "omit --no-special-tokens",
        ),
        ("train text.txt --extend tokenizer --pattern x --vocab-size 300 --output t", "omit --pattern"),
        ("train --from-counts x --column x --vocab-size 300 --output t", "omit --column"),
        (
            "train text.txt --vocab-size 300 --output t --special-token §",
            "special token '§' is how",
        ),
        ("train text.txt --vocab-size 300 --output text.txt", "'text.txt' is not a folder, so nothing"),
        ("encode text.txt tokens.npy --tokenizer absent", "no tokenizer.json in 'absent'"),
        ("decode absent.npy --tokenizer tokenizer", "no file 'absent.npy'"),
        ("decode text.txt --tokenizer tokenizer", "is not a NumPy array; name a .npy file of encode"),
        ("train text.txt --vocab-size 300 --output ''", "output is an empty string; is a variable unset?"),
        ("train text.txt --vocab-size 400 --output t --extend ''", "extend is an empty string"),
        ("train '' --vocab-size 300 --output t", "paths is an empty string"),
        ("train --from-counts '' --vocab-size 300 --output t", "from_counts is an empty string"),
        ("inspect ''", "tokenizer is an empty string"),
        ("decode '' --tokenizer tokenizer", "tokens is an empty string"),
        ("decode floats.npy --tokenizer tokenizer", "expected one row of token ids"),
        ("decode large.npy --tokenizer tokenizer", "token id 999 is not in the vocabulary"),
        ("decode cut.npy --tokenizer tokenizer", "is not a NumPy array"),
        ("count absent", "no file 'absent'"),
        ("train --vocab-size 300 --output t", "there is no text to train on"),
        ("train text.txt --from-counts x --vocab-size 300 --output t", "both given"),
        ("train --from-counts x --pattern x --vocab-size 300 --output t", "both given"),
        ("train --from-counts absent --vocab-size 300 --output t", "no file 'absent'"),
        ("train --from-counts text.txt --vocab-size 300 --output t", "has no pre-token counts, or is damaged"),
        ("train --from-counts one words --vocab-size 300 --output t", "cannot be added to counts by"),
        ("inspect tokenizer --file empty.txt", "is empty"),
        ("inspect tokenizer --file text.txt --documents 0", "--documents is 0, expected at least 1"),
        ("inspect absent", "no tokenizer.json"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(folder, capsys, arguments, message):
    (folder / "empty.txt").write_bytes(b"")
    (folder / "rows.jsonl").write_text('{"a": "b"}')
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("floats.npy", np.zeros(3))
    np.save("large.npy", np.array([999]))
    (folder / "cut.npy").write_bytes((folder / "large.npy").read_bytes()[:-3])
    bpe.PretokenCounts({b"a": 1}).save("one")
    bpe.PretokenCounts({b"a": 1}, pattern=r"\w+").save("words")
    before = sorted(folder.rglob("*"))
    assert main(shlex.split(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bpe: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train text.txt --vocab-size 300 -o text.txt", "'text.txt' is not a folder, so nothing can be written to"),
        ("train text.txt --vocab-size 300 -o text.txt/a/b", "'text.txt' is not a folder, so nothing can be written to"),
        (
            "train --from-counts one --vocab-size 300 -o text.txt",
            "'text.txt' is not a folder, so nothing can be written",
        ),
        (r"train text.txt --vocab-size 300 -o t --pattern \X", r"has '\\X', which Oniguruma does not know"),
        ("train --from-counts words --vocab-size 300 -o t", r"has '\\X', which Oniguruma does not know"),
        ("train text.txt --vocab-size 300 -o other", "folder 'other' has vocab.json but no tokenizer.json"),
        ("count text.txt -o .", "'.' is a folder, expected the name of a file"),
        ("count text.txt -o absent/counts", "no folder 'absent' to write 'counts' into; make it first"),
    ],
)
def test_output_that_cannot_be_written_is_refused_before_the_work(folder, capsys, monkeypatch, arguments, message):
    bpe.PretokenCounts({b"a": 1}).save("one")
    bpe.PretokenCounts({b"a": 1}, pattern=r"\X").save("words")
    (folder / "other").mkdir()
    (folder / "other" / "vocab.json").write_text("mine")

    def work(*_, **__):
        raise AssertionError("the work began")

    for name in ("train_on_files", "train_from_counts", "count_pretokens"):
        monkeypatch.setattr(commands, name, work)
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may write everywhere")
@pytest.mark.parametrize("arguments", ["train text.txt --vocab-size 300 -o shut/a", "count text.txt -o shut/counts"])
def test_a_folder_that_others_own_is_refused_before_the_work(folder, capsys, arguments):
    (folder / "shut").mkdir(mode=0o555)
    assert main(arguments.split()) == 2
    assert "this user may not write to 'shut'" in capsys.readouterr().err


def test_malformed_utf8_is_reported_in_one_line(folder, capsys):
    (folder / "bad.txt").write_bytes(b"ab\xff")
    assert main(["count", "bad.txt"]) == 0
    assert capsys.readouterr().err == ("bpe: warning: 1 malformed UTF-8 sequence in 'bad.txt' replaced by U+FFFD\n")


def test_wrong_options_exit_with_2():
    with pytest.raises(SystemExit) as caught:
        main(["train"])
    assert caught.value.code == 2


INTERRUPTED = """
import os, signal, sys
import bpe.__main__ as main
import bpe.progress
class Interrupting(bpe.progress.Progress):
    def update(self, done):
        if self.label == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
    def __init__(self, label, *arguments, **options):
        self.label = label
        super().__init__(label, *arguments, **options)
bpe.progress.Progress = Interrupting
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("label", "arguments"),
    [
        ("counting", "train large.txt --vocab-size 9000 -o made"),
        ("counting", "count large.txt -o made"),
        ("merging", "train --from-counts a.counts --vocab-size 60000 -o made"),
        ("encoding", "encode large.txt made.npy -t tokenizer"),
    ],
)
def test_control_c_leaves_nothing_half_written(folder, label, arguments):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    generator = random.Random(4)
    words = [generator.randbytes(6).hex() for _ in range(30_000)]
    (folder / "large.txt").write_text(" ".join(words * 4))
    bpe.PretokenCounts(dict.fromkeys((word.encode() for word in words), 2)).save("a.counts")
    before = {path.name for path in folder.iterdir()}
    result = run_python("-c", INTERRUPTED, label, *arguments.split())
    assert (result.returncode, result.stderr) == (130, "bpe: interrupted\n")
    assert {path.name for path in folder.iterdir()} == before


IMPORTING = """
import sys
import bpe.__main__ as main
from bpe.cli import commands
def train(options):
    import interrupted
    print(interrupted.is_complete)
    while True:
        pass
commands.train = train
sys.exit(main.main(sys.argv[1:]))
"""


def test_control_c_waits_for_the_end_of_an_import(folder):
    """Within an import it could be lost, or leave a lock held for which other threads wait."""
    (folder / "interrupted.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nis_complete = True\n"
    )
    result = run_python("-c", IMPORTING, *"train text.txt --vocab-size 300 -o made".split())
    assert (result.returncode, result.stdout, result.stderr) == (130, "True\n", "bpe: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are UTF-16 there")
def test_a_text_on_the_command_line_is_utf8_in_every_locale(folder):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run_python("-m", "bpe", "inspect", "tokenizer", "--text", "é", environment=ascii_only)
    assert result.returncode == 0
    assert "\\ufffd" not in result.stdout
    assert "2 tokens" in result.stdout


FULL_DISK = """
import resource, signal, sys
import bpe.__main__ as main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "arguments",
    ["encode text.txt made.npy -t tokenizer", "count text.txt -o made", "train text.txt --vocab-size 400 -o made"],
)
def test_a_full_disk_is_one_line_and_leaves_no_half_files(folder, arguments):
    bpe.train("text.txt", 260).save_pretrained("tokenizer")
    (folder / "text.txt").write_text(" ".join(f"{number:x}" for number in range(3000)))
    result = run_python("-c", FULL_DISK, *arguments.split())
    assert (result.returncode, result.stderr) == (2, "bpe: error: [Errno 27] File too large\n")
    assert not any(path.name.startswith(".") or path.suffix == ".npy" for path in folder.rglob("*"))
    assert not (folder / "made").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    ("command", "redirection", "code", "message"),
    [
        ("count text.txt", ">/dev/full", 2, "bpe: error: [Errno 28] No space left on device\n"),
        ("decode tokens.npy -t tokenizer", "| true", 0, ""),
        ("inspect tokenizer", ">&-", 0, ""),
    ],
)
def test_standard_output_that_takes_nothing(folder, command, redirection, code, message):
    bpe.train("text.txt", 300).save_pretrained("tokenizer")
    np.save("tokens.npy", np.full(100_000, 104, dtype=np.uint16))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = f'set -o pipefail; "{sys.executable}" -m bpe {command} {redirection}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (code, message)


@pytest.mark.skipif(os.name != "posix", reason="the shell is missing")
@pytest.mark.parametrize(
    ("command", "code"),
    [("count bad.txt -o made", 0), ("count bad.txt -o made --progress", 0), ("count absent.txt -o made", 2)],
)
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_standard_error_that_takes_nothing(folder, command, code, redirection):
    (folder / "bad.txt").write_bytes(b"ab\xff")
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m bpe {command} {redirection}'], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.endswith("written to made\n" if code == 0 else "")
    assert "bpe:" not in done.stdout
    assert (folder / "made").exists() == (code == 0)


@pytest.mark.parametrize("options", [[], ["--progress"]])
def test_standard_error_without_a_reader(folder, options):
    (folder / "bad.txt").write_bytes(b"ab\xff")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "bpe", "count", "bad.txt", "-o", "made", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    assert done.returncode == 0
    assert done.stdout.endswith("written to made\n")
    assert (folder / "made").exists()


def test_characters_that_the_terminal_cannot_show_are_escaped(folder):
    bpe.train("text.txt", 257).save_pretrained("tokenizer")
    command = [sys.executable, "-m", "bpe", "count", "text.txt"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout or "\\u" in done.stdout
