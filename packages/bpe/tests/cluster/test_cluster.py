"""Counting and encoding in parts: the results of one process, whatever is lost on the way."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from helpers import CORPUS, EOT, WORDS, run_python
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe.__main__ import main
from bpe.kernels.tables.pretokens import PretokenTable
from bpe.text import split_pretokens

pytest.importorskip("datatrove")

from bpe.cluster import CountPretokens, EncodeShards, add_up, load_counts, make_executor
from bpe.cluster.shards import list_shards, local_copy, open_folder, stem, written_to

# datatrove forks while threads of other tests run, of which newer versions of Python warn.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ROWS = ["a row\nof two lines", "", f"another {EOT} row", "naïve 日本語 " * 5]
TEXTS = {
    "a.txt": CORPUS,
    "b.txt.gz": EOT.join([WORDS, CORPUS[::-1], "the end"]),
    "sub/c.txt": f"{WORDS}\n{EOT}",
    "d.txt": "d",
}


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder `texts` of four texts, a shard of rows and an empty text; the folder above becomes the present one."""
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        write(tmp_path / "texts", name, text)
    write(tmp_path / "texts", "e.jsonl.gz", "".join(json.dumps({"id": 1, "text": row}) + "\n" for row in ROWS))
    write(tmp_path / "texts", "empty.txt", "")
    return tmp_path


def expected_counts():
    counts = Counter()
    for text in [*TEXTS.values(), *ROWS]:
        for part in text.split(EOT):
            counts.update(pretoken.encode() for pretoken in split_pretokens(bpe.GPT2_PATTERN, part))
    return bpe.PretokenCounts(counts, special_tokens=[EOT])


@pytest.fixture
def tokenizer(corpus):
    made = bpe.train_from_counts(expected_counts(), 320)
    made.save_pretrained("expected")
    return made


@pytest.mark.parametrize("tasks", ["1", "3", "9"])
def test_counts_and_merges_are_those_of_one_process(corpus, capsys, tasks):
    assert main(["cluster", "count", "texts", "counts", "--tasks", tasks, "--workers", "1"]) == 0
    assert f"6 shards in {tasks} tasks complete; output in counts" in capsys.readouterr().out
    expected = expected_counts()
    counts = load_counts("counts")
    assert counts == expected
    assert counts.special_tokens == (EOT,)
    assert main(["cluster", "train", "counts", "--vocab-size", "320", "-o", "new/tokenizer"]) == 0
    assert f"{len(expected)} distinct pre-tokens, {expected.total:,} in all" in capsys.readouterr().out
    assert bpe.Tokenizer.from_pretrained("new/tokenizer") == bpe.train_from_counts(expected, 320)


def test_several_patterns(corpus, capsys):
    arguments = ["cluster", "count", "texts", "counts", "--workers", "1", "--pattern", r"\d", "--pattern", r"\w+"]
    assert main(arguments) == main(arguments) == 0
    assert load_counts("counts").pattern == (r"\d", r"\w+")
    assert main([*arguments, "--pattern", "x"]) == 2
    assert "belongs to a run with another value of 'pattern'" in capsys.readouterr().err


def test_what_cannot_be_saved_is_refused_before_the_work(corpus, capsys):
    for arguments, message in [
        (
            ["count", "texts", "counts", "--special-token", "é"],
            "special token 'é' is how tokenizer.json writes another",
        ),
        (["count", "texts", "counts", "--pattern", "("], "pattern"),
        (["train", "counts", "--vocab-size", "300", "-o", "texts/a.txt/b"], "a.txt' is not a folder"),
    ]:
        assert main(["cluster", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not Path("counts").exists()


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_token_files_are_those_of_one_process(corpus, tokenizer, capsys, suffix):
    arguments = ["cluster", "encode", "texts", "tokens", "-t", "expected"]
    arguments += ["--format", "llm.c"] if suffix == ".bin" else ["--documents"]
    assert main([*arguments, "--tasks", "2", "--workers", "1"]) == 0
    for name in TEXTS:
        out = (corpus / "single" / stem(name)).with_suffix(suffix)
        out.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.encode_file(corpus / "texts" / name, out, documents=True)
        for ending in (suffix, ".documents.npy"):
            there = Path("tokens", stem(name)).with_suffix(ending)
            assert there.read_bytes() == out.with_suffix(ending).read_bytes()
        assert json.loads(Path("tokens", f"{stem(name)}.json").read_text())["source"] == name
    ids = np.fromfile(f"tokens/e{suffix}", dtype=np.uint16)
    expected = [id_ for row in ROWS for id_ in tokenizer.encode(row + EOT)]
    assert ids[-len(expected) :].tolist() == expected
    assert np.load("tokens/e.documents.npy")["row"].tolist() == [0, 1, 2, 3]
    assert not Path("tokens", f"empty{suffix}").exists()


def test_several_processes(corpus):
    """Processes that start anew get the step and its paths."""
    arguments = ["count", "texts", "counts", "--tasks", "3", "--workers", "2", "--threads", "2"]
    result = run_python("-m", "bpe", "cluster", *arguments)
    assert result.returncode == 0, result.stderr
    assert load_counts("counts") == expected_counts()


def test_a_second_start_repeats_only_what_is_not_complete(corpus, monkeypatch):
    count, counted = CountPretokens._count, []

    def interrupted(step, name):
        counted.append(name)
        if name == stop_at:
            raise KeyboardInterrupt
        return count(step, name)

    stop_at = "d.txt"
    monkeypatch.setattr(CountPretokens, "_count", interrupted)
    arguments = ["cluster", "count", "texts", "counts", "--tasks", "3", "--workers", "1"]
    assert main(arguments) == 130
    assert counted == ["a.txt", "e.jsonl.gz", "b.txt.gz", "empty.txt", "d.txt"]
    assert [path.name for path in sorted(Path("counts").glob("*.counts"))] == ["00000.counts", "00001.counts"]
    stop_at = None
    counted.clear()
    assert main(arguments) == 0
    assert counted == ["d.txt", "sub/c.txt"]
    assert load_counts("counts") == expected_counts()
    counted.clear()
    assert main(arguments) == 0
    assert counted == []


@pytest.mark.skipif(os.name != "posix", reason="process groups are killed on POSIX systems only")
def test_a_killed_run_is_started_again(corpus, tokenizer):
    for number in range(30):
        write(corpus / "many", f"{number}.txt", f"{CORPUS}{number}{EOT}")
    command = [sys.executable, "-m", "bpe", "cluster", "encode", "many", "tokens", "-t", "expected", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(bpe.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        completions = corpus / "tokens" / "logs" / "completions"
        while not completions.is_dir() or not any(completions.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    complete = {path.name: path.stat().st_mtime_ns for path in completions.iterdir()}
    assert main(command[3:]) == 0
    assert len(list(completions.iterdir())) == 30
    assert {name: (completions / name).stat().st_mtime_ns for name in complete} == complete
    for number in range(30):
        assert np.load(f"tokens/{number}.npy").tolist() == tokenizer.encode(f"{CORPUS}{number}{EOT}")
    assert not list((corpus / "tokens").glob(".*.partial"))


def test_remote_folders(tokenizer, monkeypatch):
    """fsspec's file system in memory stands for any that is not local."""
    texts = open_folder("memory://corpus/texts")
    for name in TEXTS:
        with written_to(texts, name) as path:
            write(path.parent, path.name, TEXTS[name])
    with written_to(texts, "e.jsonl") as path:
        path.write_text("\n".join(json.dumps({"content": row}) for row in ROWS))
    count = ["cluster", "count", "memory://corpus/texts", "memory://corpus/counts", "--column", "content"]
    train = ["cluster", "train", "memory://corpus/counts", "--vocab-size", "320", "-o", "memory://corpus/tokenizer"]
    encode = ["cluster", "encode", "memory://corpus/texts", "memory://corpus/tokens", "-t", "memory://corpus/tokenizer"]
    encode += ["--column", "content", "--format", "megatron"]
    assert main([*count, "--workers", "1", "--tasks", "2"]) == 0
    assert main(train) == 0
    assert main([*encode, "--workers", "1"]) == 0
    tokens = open_folder("memory://corpus/tokens")
    assert "sub/c.documents.npy" in tokens.list_files()
    with local_copy(tokens, "sub/c.bin") as path:
        assert np.fromfile(path, dtype=np.uint16).tolist() == tokenizer.encode(TEXTS["sub/c.txt"])
    assert "00001" in open_folder("memory://corpus/counts/logs/completions").list_files()


def test_results_of_other_settings_are_not_mixed(corpus, tokenizer, capsys):
    def error(*arguments):
        assert main(["cluster", *arguments, "--workers", "1"]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert main(["cluster", "count", "texts", "counts", "--workers", "1", "--tasks", "2"]) == 0
    assert "another value of 'tasks': 2, now 3; give another folder" in error(
        "count", "texts", "counts", "--tasks", "3"
    )
    other = error("count", "texts", "counts", "--tasks", "2", "--no-special-tokens")
    assert "another value of 'special_tokens': 1 items (<|endoftext|>), now 0 items" in other
    logs = error("encode", "texts", "tokens", "-t", "expected", "--logging-dir", "counts/logs")
    assert "logs' belongs to a run with another value of 'step': 'count pre-tokens', now 'encode shards'" in logs
    write(corpus / "texts", "new.txt", "a new shard")
    assert "another value of 'shards': 6 items" in error("count", "texts", "counts", "--tasks", "2")


def test_training_needs_all_counts(corpus, capsys):
    train = ["cluster", "train", "counts", "--vocab-size", "320", "-o", "tokenizer"]
    assert main(train) == 2
    assert "counts' has no counts; make them with `cluster count`" in capsys.readouterr().err
    assert main(["cluster", "count", "texts", "counts", "--workers", "1", "--tasks", "7"]) == 0
    Path("counts/00002.counts").unlink()
    assert main(train) == 2
    assert "1 of 6 counts in " in (message := capsys.readouterr().err)
    assert "are missing (00002.counts); wait for their tasks" in message


def test_a_bad_row_ends_the_task(corpus, capsys):
    write(corpus / "texts", "f.jsonl", '{"text": "a"}\n{"text": null}\n')
    assert main(["cluster", "count", "texts", "counts", "--workers", "1", "--tasks", "1"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "bpe: error: line 2 of " in last
    assert "f.jsonl' has no value in column 'text'" in last


def test_names_of_shards(tmp_path):
    names = ["a.TXT", "b.gz", "c.json.gz", "d.jsonl", "e.ndjson.zst", "f.parquet", "g/merges.txt"]
    others = [".h.txt", ".i/j.txt", "k.json", "l.npy", "m/merges.txt", "m/vocab.json", "n.counts"]
    for name in names + others:
        write(tmp_path, name, "")
    assert list_shards(open_folder(str(tmp_path))) == names
    assert [stem(name) for name in names] == ["a", "b", "c", "d", "e", "f", "g/merges"]
    with pytest.raises(ValueError, match=r"m' has no file ending in .txt, "):
        list_shards(open_folder(str(tmp_path / "m")))


def test_wrong_arguments(corpus, tokenizer):
    with pytest.raises(ValueError, match=r"shards 'a.txt' and 'a.txt.gz' would get the same token file"):
        EncodeShards("texts", "tokens", "expected", shards=["a.txt", "b.txt", "a.txt.gz"])
    with pytest.raises(ValueError, match="format is 'csv', expected one of npy"):
        EncodeShards("texts", "tokens", "expected", format="csv")
    step = CountPretokens("texts", "counts")
    for argument in ("tasks", "workers", "memory_per_cpu"):
        with pytest.raises(ValueError, match=f"{argument} is 0, expected at least 1"):
            make_executor("local", step, **{argument: 0})
    with pytest.raises(ValueError, match="there are no counts to add up"):
        add_up([])


@given(
    st.lists(st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"dd"]), st.integers(1, 9)), min_size=1, max_size=20)
)
def test_the_sum_of_counts(parts):
    total = add_up(bpe.PretokenCounts(part, special_tokens=[EOT]) for part in parts)
    assert total == reduce(add, map(Counter, parts), Counter())
    assert total.special_tokens == (EOT,)


def test_counts_are_added_one_by_one(monkeypatch):
    """Neither all parts nor partial sums are held, and no part is added twice."""
    steps = []

    def load():
        for number in range(3):
            steps.append(f"load {number}")
            yield bpe.PretokenCounts({b"%d" % number: 1})

    added = PretokenTable.add
    monkeypatch.setattr(PretokenTable, "add", lambda table, *arrays: steps.append("add") or added(table, *arrays))
    assert len(add_up(load())) == 3
    assert steps == ["load 0", "add", "load 1", "add", "load 2", "add"]


def test_counts_that_do_not_belong_together_are_not_added():
    one = bpe.PretokenCounts({b"a": 2**62})
    with pytest.raises(ValueError, match="by the pattern 'b' cannot be added"):
        add_up([one, bpe.PretokenCounts(pattern="b")])
    with pytest.raises(ValueError, match="cannot be added to counts without"):
        add_up([bpe.PretokenCounts(special_tokens=["x"]), one, bpe.PretokenCounts(special_tokens=[EOT])])
    with pytest.raises(ValueError, match="more than 9,223,372,036,854,775,807 pre-tokens"):
        add_up([one, one])


def test_rare_pretokens_may_be_left_out(corpus, capsys):
    assert main(["cluster", "count", "texts", "counts", "--tasks", "2", "--workers", "1"]) == 0
    frequent = {pretoken: count for pretoken, count in expected_counts().items() if count >= 3}
    assert load_counts("counts", 3) == frequent
    assert 0 < len(frequent) < len(expected_counts())
    train = ["cluster", "train", "counts", "--vocab-size", "300", "--min-count", "3", "-o", "tokenizer"]
    assert main(train) == 0
    assert bpe.Tokenizer.from_pretrained("tokenizer") == bpe.train_from_counts(frequent, 300)


def test_a_step_must_be_the_first(corpus):
    with pytest.raises(ValueError, match="the step 'count pre-tokens' follows another"):
        CountPretokens("texts", "counts").run(iter([]))
