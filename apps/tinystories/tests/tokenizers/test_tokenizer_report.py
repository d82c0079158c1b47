"""`tokenizer-report`: numbers against independent computations, reuse of trained tokenizers, and refusals."""

import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
from itertools import pairwise

import pytest
from small_runs import refused

import bpe
from tinystories.run import main
from tinystories.tokenizers import report
from tinystories.tokenizers.corpora import Corpus, default_vocab_size, parse_corpora, resolve_corpus
from tinystories.tokenizers.measurements import Ratio, draw_documents, measure_speed, ratio_over_documents
from tinystories.tokenizers.training import find_or_train
from trainer.experiments.reporting import duration

SEPARATOR = "<|endoftext|>"


def write_documents(path, words, number, seed):
    """A text of so many documents of these words, and the documents as they stand between separators."""
    chance = random.Random(seed)
    stories = [" ".join(chance.choices(words, k=chance.randint(20, 60))) + ".\n" for _ in range(number)]
    path.write_text(f"{SEPARATOR}\n".join(stories) + SEPARATOR + "\n", "utf-8")
    return [stories[0], *("\n" + story for story in stories[1:])]


FOREST = "tree trees forest leaf leaves wolf wolves walked walking under oak".split()
SEA = "ship ships näutical wave waves harbour sail sailed sailing über Ωcean".split()  # characters of several bytes


def write_texts(folder):
    """A training and a validation text of two kinds: their files, and the documents of the validation texts."""
    texts = {}
    for number, (name, words) in enumerate((("forest", FOREST), ("sea", SEA))):
        write_documents(folder / f"{name}.txt", words, 50, 2 * number + 1)
        texts[name] = folder / f"{name}.txt", write_documents(folder / f"{name}_valid.txt", words, 40, 2 * number + 2)
    return texts


@pytest.fixture
def forest(tmp_path):
    return write_texts(tmp_path)["forest"]


@pytest.fixture
def sea(tmp_path, forest):
    return tmp_path / "sea.txt"


def arguments_in(folder, *given):
    """The command with directories of its own, few repeats and a small vocabulary."""
    usual = {"--vocab-sizes": 300, "--repeats": 2, "--out": folder / "out", "--data-dir": folder / "data"}
    rest = [str(part) for flag in usual if flag not in given for part in (flag, usual[flag])]
    return ["tokenizer-report", *map(str, given), *rest]


@pytest.fixture
def command(tmp_path):
    return lambda *given: arguments_in(tmp_path, *given)


def corpus_of(path):
    """A corpus with its own validation text, as the command takes it."""
    return f"{path},{path.with_name(path.stem + '_valid.txt')}"


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A folder with a report on both texts, the texts, and the record of the report."""
    folder = tmp_path_factory.mktemp("reported")
    texts = write_texts(folder)
    corpora = [corpus_of(texts["forest"][0]), f"ocean={corpus_of(texts['sea'][0])}"]
    assert main(arguments_in(folder, "--corpora", *corpora, "--documents", "12", "--seed", "5")) == 0
    return folder, texts, json.loads((folder / "out" / "tokenizers.json").read_text("utf-8"))


@pytest.fixture
def both(reported):
    return reported[2]


def test_compression_is_what_encode_and_the_statistics_module_say(reported):
    _, texts, both = reported
    documents = {"forest": texts["forest"][1], "ocean": texts["sea"][1]}
    assert len(both["compression"]) == 4
    for found in both["compression"]:
        (facts,) = (facts for facts in both["tokenizers"] if facts["name"] == found["tokenizer"])
        tokenizer = bpe.Tokenizer.from_pretrained(facts["directory"])
        of_corpus = documents[found["corpus"]]
        drawn = found["documents_drawn"]
        assert len({document["index"] for document in drawn}) == 12
        ratios = []
        for document in drawn:
            text = of_corpus[document["index"]]
            assert document["bytes"] == len(text.encode())
            assert document["tokens"] == len(tokenizer.encode(text))
            ratios.append(document["bytes"] / document["tokens"])
        measured = found["bytes_per_token"]
        assert measured["documents_drawn"]["mean"] == pytest.approx(statistics.mean(ratios))
        assert measured["documents_drawn"]["standard_deviation"] == pytest.approx(statistics.stdev(ratios))
        ids = [tokenizer.encode(text) for text in of_corpus]
        size = sum(len(text.encode()) for text in of_corpus)
        assert measured["whole_validation_text"] == pytest.approx(size / sum(map(len, ids)))
        assert found["entries_used"] == len(set().union(*ids))
        own = next(
            other
            for other in both["compression"]
            if other["corpus"] == found["corpus"] and other["tokenizer"] == f"{found['corpus']}-300"
        )
        expected = measured["whole_validation_text"] / own["bytes_per_token"]["whole_validation_text"]
        assert found["to_own_tokenizer"]["ratio"] == pytest.approx(expected)


def test_every_tokenizer_gets_the_same_documents_and_another_seed_draws_others(both):
    drawn = {(found["corpus"], tuple(d["index"] for d in found["documents_drawn"])) for found in both["compression"]}
    assert drawn == {(name, tuple(draw_documents(12, 40, 5))) for name in ("forest", "ocean")}
    assert draw_documents(12, 40, 6) != draw_documents(12, 40, 5)


def test_a_tokenizer_is_that_of_bpe_and_its_longest_tokens_are_the_longest(reported):
    _, texts, both = reported
    facts, forest = both["tokenizers"][0], texts["forest"][0]
    expected = bpe.train(forest, 300)
    assert bpe.Tokenizer.from_pretrained(facts["directory"]) == expected
    assert facts["trained_on"] == "forest"
    assert facts["vocab_size"] == len(expected.vocab) == facts["training"]["vocab_size"]
    ordinary = sorted((len(token) for token in expected.vocab.values() if token != SEPARATOR.encode()), reverse=True)
    assert [token["bytes"] for token in facts["longest_tokens"]] == ordinary[:10]
    for token in facts["longest_tokens"]:
        assert expected.vocab[token["id"]] == bytes.fromhex(token["hex"])
    training = facts["training"]
    assert training["pretokens_distinct"] == len(bpe.count_pretokens(forest))
    assert training["seconds"] == pytest.approx(training["seconds_pretokenising"] + training["seconds_merging"])
    assert 0 < training["seconds_merging"] < training["seconds"]


def test_the_report_has_the_numbers_of_the_record(reported):
    folder, _, both = reported
    report = (folder / "out" / "tokenizers.md").read_text("utf-8")
    for found in both["compression"]:
        measured = found["bytes_per_token"]
        drawn = measured["documents_drawn"]
        cells = f"{drawn['mean']:.2f} ± {drawn['standard_deviation']:.2f} | {measured['whole_validation_text']:.3f}"
        assert cells in report
    for facts in both["tokenizers"]:
        assert f"### The 10 longest tokens of {facts['name']}" in report
        assert f"{facts['training']['seconds']:.2f}" in report
    for speed in both["throughput"]:
        assert f"{speed['encode_all_threads_bytes_per_second']['median'] / 1e6:.1f} MB/s" in report
    assert both["machine"]["processor"] in report
    foreign = both["compression"][1]
    ratio = foreign["to_own_tokenizer"]["ratio"]
    assert re.search(rf"\| ocean-300 \| ocean \| .* \| forest-300 \| {ratio:.3f} ± .* \| worse \|", report)
    assert re.search(r"\| forest-300 \| forest \| .* \| - \| - \| - \|", report)
    rows = [line for line in report.splitlines() if line.startswith("|")]
    for row, following in pairwise(rows):
        if following.startswith("| :---"):
            assert row.count("|") == following.count("|")


def test_throughput_is_bytes_by_seconds(reported):
    _, texts, both = reported
    for speed in both["throughput"]:
        for name in ("encode_one_thread", "encode_all_threads", "decode"):
            assert len(speed[name]) == 2
            rates = [speed["text_bytes"] / seconds for seconds in speed[name]]
            shown = speed[f"{name}_bytes_per_second"]
            assert shown["slowest"] == pytest.approx(min(rates))
            assert shown["fastest"] == pytest.approx(max(rates))
            assert min(rates) <= shown["median"] <= max(rates)
        assert speed["pile_seconds"] * speed["encode_all_threads_bytes_per_second"]["median"] == pytest.approx(825e9)
        assert speed["round_trip"]
    text = texts["forest"][0].read_text("utf-8")
    tokenizer = bpe.Tokenizer.from_pretrained(both["tokenizers"][0]["directory"])
    of_forest = next(s for s in both["throughput"] if (s["tokenizer"], s["corpus"]) == ("forest-300", "forest"))
    assert of_forest["text_bytes"] == len(text.encode())
    assert of_forest["tokens"] == len(tokenizer.encode(text))


class SlowTokenizer:
    """Takes 4 s for its first call and 1 s for others, 3 s with one thread, 2 s to decode; by a clock of its own."""

    now = 0.0

    def __init__(self):
        self.calls = 0

    def encode_to_numpy(self, text, threads=None):
        self.calls += 1
        SlowTokenizer.now += 4 if self.calls == 1 else 3 if threads == 1 else 1
        return [1, 2, 3]

    def decode(self, ids):
        SlowTokenizer.now += 2
        return "other"

    def __reduce__(self):
        return SlowTokenizer, ()


def test_the_first_call_is_of_a_fresh_tokenizer_and_counts_apart(monkeypatch):
    tokenizer = SlowTokenizer()
    tokenizer.encode_to_numpy("seen before")
    monkeypatch.setattr("tinystories.tokenizers.measurements.time.perf_counter", lambda: SlowTokenizer.now)
    speed = measure_speed("slow", tokenizer, "any", "ä" * 10, 3)
    assert (speed.text_bytes, speed.tokens, speed.first_call) == (20, 3, 4)
    assert (speed.encode_one_thread, speed.encode_all_threads, speed.decode) == ([3] * 3, [1] * 3, [2] * 3)
    assert not speed.round_trip
    assert speed.rate(speed.decode) == 10


def test_trainings_are_found_again_with_their_measurements(forest, tmp_path):
    path, notes = forest[0], []

    def trained(name, size=300, again=False):
        found = find_or_train(Corpus(name, path, path), size, tmp_path / "data", again, notes.append)
        return found, notes.count(f"training {name}-{size} on {path}")

    first, trainings = trained("forest")
    assert trainings == 1
    path = path.rename(tmp_path / "another_name.txt")
    second, trainings = trained("renamed")
    assert (second.training, second.tokenizer, trainings) == (first.training, first.tokenizer, 0)
    assert trained("renamed", size=304)[1] == 1
    third, trainings = trained("renamed", again=True)
    assert (third.tokenizer, trainings) == (first.tokenizer, 1)
    assert third.training.seconds != first.training.seconds
    assert find_or_train(Corpus("renamed", path, path), 300, tmp_path / "data", False, print).training == third.training
    path.write_text(path.read_text("utf-8") + f"one more tree\n{SEPARATOR}\n", "utf-8")
    assert trained("changed")[1] == 1
    assert not list((tmp_path / "data" / "tokenizers").glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")
def test_training_that_is_killed_leaves_nothing(forest, tmp_path, monkeypatch):
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr("tinystories.tokenizers.training._PROCESS", [sys.executable, "-c", program])
    corpus = Corpus("forest", forest[0], forest[0])
    with pytest.raises(ChildProcessError, match="ended with -9"):
        find_or_train(corpus, 300, tmp_path / "data", False, print)
    assert list((tmp_path / "data" / "tokenizers").iterdir()) == []


def test_peak_memory_is_that_of_the_process_that_trains_and_not_of_the_one_that_asks(forest, tmp_path):
    held = b"\x01" * 700_000_000
    training = find_or_train(Corpus("forest", forest[0], forest[0]), 300, tmp_path / "data", False, print).training
    assert len(held) > 0
    assert 5_000_000 < training.memory_before_bytes <= training.peak_memory_bytes < 500_000_000


def test_memory_that_is_given_back_counts():
    program = (
        "import time; from tinystories.tokenizers.training import MemoryWatch\n"
        "with MemoryWatch() as memory:\n"
        "    held = b'1' * 200_000_000\n"
        "    while memory.peak_bytes - memory.before_bytes < 199_000_000: time.sleep(0.01)\n"
        "    del held\n"
        "print(memory.peak_bytes - memory.before_bytes)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 199_000_000 < int(result.stdout) < 260_000_000


def test_the_interval_of_a_ratio_is_that_of_the_bootstrap():
    chance = random.Random(0)
    below = [chance.randint(50, 400) for _ in range(300)]
    above = [round(tokens * chance.gauss(1.1, 0.1)) for tokens in below]
    ratio = ratio_over_documents(above, below)
    drawn = []
    for _ in range(2000):
        indices = chance.choices(range(300), k=300)
        drawn.append(sum(above[i] for i in indices) / sum(below[i] for i in indices))
    assert ratio.value == pytest.approx(statistics.fmean(drawn), abs=1e-3)
    assert ratio.half_width == pytest.approx(1.96 * statistics.stdev(drawn), rel=0.1)
    assert ratio_over_documents(above[:29], below[:29]).half_width is None


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Ratio(1.118, 0.002), "better"),
        (Ratio(0.998, 0.0004), "worse"),
        (Ratio(1.01, 0.02), "inconclusive (40 documents)"),
        (Ratio(1.5, None), "inconclusive (40 documents)"),
    ],
)
def test_no_difference_is_claimed_within_its_spread(ratio, expected):
    assert report.verdict(ratio, 40) == expected


def test_existing_tokenizers_are_compared_with_the_own_one_of_nearest_size(command, forest, sea, tmp_path):
    before = tmp_path / "made_before"
    bpe.train(sea, 295).save_pretrained(before)
    tail = ["--vocab-sizes", "270", "300", "--tokenizers", before, f"again={before}"]
    assert main(command("--corpora", corpus_of(forest[0]), *tail)) == 0
    record = json.loads((tmp_path / "out" / "tokenizers.json").read_text("utf-8"))
    assert [facts["name"] for facts in record["tokenizers"]] == ["forest-270", "forest-300", "made_before", "again"]
    assert record["tokenizers"][2]["trained_on"] is record["tokenizers"][2]["training"] is None
    assert record["compression"][2]["to_own_tokenizer"]["own"] == "forest-300"
    written = (tmp_path / "out" / "tokenizers.md").read_text("utf-8")
    assert re.search(r"\| made_before \| elsewhere \| 295 \| forest \| .* \| forest-300 \| .* \| worse \|", written)
    assert re.search(r"\| forest-300 \| forest \| 300 \| forest \| .* \| forest-270 \| .* \| better \|", written)
    assert "| made_before | again | 295 | 100% |" in written


def test_ids_beyond_16_bits_are_uint32(command, forest, tmp_path):
    vocab = {byte: bytes([byte]) for byte in range(256)} | {70_000: b"tree"}
    merges = [(b"t", b"r"), (b"tr", b"e"), (b"tre", b"e")]
    vocab |= {256: b"tr", 257: b"tre"}
    bpe.Tokenizer(vocab, merges, [SEPARATOR]).save_pretrained(tmp_path / "large")
    assert main(command("--corpora", f"{forest[0]}", "--documents", "2", "--tokenizers", tmp_path / "large")) == 0
    written = (tmp_path / "out" / "tokenizers.md").read_text("utf-8")
    assert "| 70,001 | uint32 |" in written
    assert "| 299 | uint16 |" in written


def test_documents_are_held_out_where_no_validation_text_is_given(forest, tmp_path):
    (choice,) = parse_corpora([str(forest[0])])
    corpus = resolve_corpus(choice, tmp_path / "data", print)
    held = "".join(corpus.documents)
    assert held.strip()
    assert corpus.documents[-1].strip() not in corpus.train.read_text("utf-8")
    assert corpus.train.read_bytes() + corpus.valid.read_bytes() == forest[0].read_bytes()


def test_the_text_of_throughput_is_of_whole_documents(sea):
    corpus = Corpus("sea", sea, sea)
    whole = sea.read_text("utf-8")
    assert corpus.beginning(10**9) == whole
    assert corpus.beginning(len(whole.encode())) == whole
    part = corpus.beginning(2000)
    assert whole.startswith(part)
    assert part.endswith(SEPARATOR)
    assert 1000 < len(part.encode()) <= 2000
    cut = [corpus.beginning(size) for size in range(1, 60)]  # no document is so short, and some characters are cut
    assert all(whole.startswith(text) for text in cut)
    assert {len(text.encode()) for text in cut} < set(range(60))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sample", ("sample", "sample", None)),
        ("texts/owt_train.txt.gz", ("owt_train", "texts/owt_train.txt.gz", None)),
        ("a/train.txt,b/valid.txt", ("train", "a/train.txt", "b/valid.txt")),
        ("owt=a/train.txt,b/valid.txt", ("owt", "a/train.txt", "b/valid.txt")),
        ("stories=sample", ("stories", "sample", None)),
    ],
)
def test_how_corpora_are_named(given, expected):
    (choice,) = parse_corpora([given])
    assert (choice.name, choice.dataset, choice.valid and str(choice.valid)) == expected


def test_a_file_whose_name_has_signs_in_it_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b,c.txt").write_text("text", "utf-8")
    (choice,) = parse_corpora(["name=a=b,c.txt"])
    assert (choice.name, choice.dataset, choice.valid) == ("name", "a=b,c.txt", None)
    with pytest.raises(ValueError, match="choose one with NAME=PATH"):
        parse_corpora(["a=b,c.txt"])


@pytest.mark.parametrize("given", ["{table},{valid}", "{folder}"])
def test_tables_are_compared_beside_texts(given, forest, sea, tmp_path):
    """The documents of a table, and of a folder of tables, are those of the text with the same documents."""
    (tmp_path / "folder").mkdir()
    table, valid, alone = (tmp_path / name for name in ("rows.jsonl", "valid.jsonl", "folder/rows.jsonl"))
    for path, texts in ((table, [forest[0]]), (valid, [sea]), (alone, [forest[0], sea])):
        documents = "".join(text.read_text("utf-8") for text in texts).split(SEPARATOR)
        rows = [json.dumps({"text": text}) for text in documents if text.strip()]
        path.write_text("\n".join(rows) + "\n", "utf-8")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "sea.txt").write_bytes(sea.read_bytes())
    names = {"table": table, "valid": valid, "folder": tmp_path / "folder"}
    rows, *plain = parse_corpora([f"rows={given.format_map(names)}", str(sea), str(tmp_path / "texts")], "text")
    for choice in plain:
        assert choice.column is None
        resolve_corpus(choice, tmp_path / "data", print)
    corpus = resolve_corpus(rows, tmp_path / "data", print)
    documents = forest[0].read_text("utf-8").split(SEPARATOR)
    assert [text.strip() for text in corpus.train.read_text("utf-8").split(SEPARATOR)][:50] == [
        text.strip() for text in documents[:50]
    ]
    assert corpus.documents[-1].strip() == sea.read_text("utf-8").split(SEPARATOR)[-2].strip()


def test_default_sizes_follow_the_text(tmp_path):
    path = tmp_path / "train.txt"
    for size, expected in ((1, 2048), (100_000_000, 10_000), (5_000_000_000, 32_000)):
        with path.open("wb") as file:
            file.truncate(size)  # takes no room
        assert default_vocab_size(Corpus("any", path, path)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(59.94, "59.9 s"), (600, "10 min 00 s"), (36_000, "10 h 00 min"), (1e6, "11.6 days")],
)
def test_long_times_are_readable(seconds, expected):
    assert duration(seconds) == expected


def test_tokens_are_shown_on_one_line_and_as_code():
    assert report.quoted(b" accomplishment") == "`' accomplishment'`"
    assert report.quoted(b"\n\t\xff") == "`'\\n\\t\\xff'`"
    assert report.quoted(b"a`b") == "``'a`b'``"
    assert report.quoted(b"-" * 100) == f"`'{'-' * 80}'…`"
    assert report.table([["a", "b"], ["x|y", "1"]]).splitlines()[2] == "| x\\|y | 1 |"


def test_what_is_refused(command, forest, tmp_path, capsys):
    text = forest[0]
    absent = tmp_path / "absent.txt"
    (tmp_path / "web.jsonl").write_text('{"text": "A row."}\n', "utf-8")
    for given, message in [
        (["--corpora", absent], f"{absent}: there is no such file"),
        (["--corpora", f"{text},{absent}"], f"{absent}: there is no such file"),
        (["--corpora", f"{text},{text}"], "is both the training and the validation text of forest"),
        (["--corpora", f"{text},a,b"], "expected sample, tinystories, a path, TRAIN,VALID or NAME=TRAIN,VALID"),
        (["--corpora", "name="], "expected sample"),
        (["--corpora", f"={text}"], "expected sample"),
        (["--corpora", f"sample,{text}"], "has its own validation text"),
        (["--corpora", text, text], f"2 corpora called forest: name them, as in other={'forest'}"),
        (["--corpora", text, "--column", "text"], "--column text: none of --corpora is a table or a folder of tables"),
        (["--corpora", tmp_path / "web.jsonl"], "name the column of its texts"),
        (["--corpora", text, "--vocab-sizes", "256"], "--vocab-sizes 256: expected at least 257"),
        (["--corpora", text, "--vocab-sizes", "300", "300"], "300 more than once"),
        (["--corpora", text, "--documents", "1"], "--documents 1: expected at least 2"),
        (["--corpora", text, "--documents", "4000"], "has only "),
        (["--corpora", text, "--repeats", "1"], "--repeats 1: expected at least 2"),
        (["--corpora", text, "--throughput-bytes", "0"], "--throughput-bytes 0: expected 1 or more"),
        (["--corpora", text, "--tokenizers", tmp_path], "no tokenizer.json in"),
        (["--corpora", text, "--tokenizers", absent], "no tokenizer.json in"),
    ]:
        assert message in refused(command(*given), capsys)
    assert not list(tmp_path.glob("data/tokenizers/*"))  # refused before anything was trained


def test_two_tokenizers_of_one_name_are_refused(command, forest, tmp_path, capsys):
    bpe.train(forest[0], 260).save_pretrained(tmp_path / "forest-300")
    arguments = command("--corpora", forest[0], "--documents", "2", "--tokenizers", tmp_path / "forest-300")
    assert "two tokenizers are called forest-300" in refused(arguments, capsys)


def test_a_text_that_has_malformed_utf8_is_measured_with_a_notice(command, forest, tmp_path, capsys):
    valid = forest[0].with_name("forest_valid.txt")
    valid.write_bytes(valid.read_bytes() + b"\xff tree")
    forest[0].write_bytes(forest[0].read_bytes() + b"\xff tree")
    assert main(command("--corpora", f"{forest[0]},{valid}")) == 0
    error = capsys.readouterr().err
    assert f"malformed UTF-8 in {valid} is replaced by U+FFFD" in error
    assert f"1 malformed UTF-8 sequence in '{forest[0]}'" in error  # said by the process that trained


def test_an_output_that_is_a_file_is_refused_before_anything_is_done(command, forest, tmp_path, capsys):
    (tmp_path / "out").write_text("", "utf-8")
    refused(command("--corpora", forest[0]), capsys)
    assert not (tmp_path / "data").exists()


def test_numbers_in_the_record_are_finite(both):
    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert all(map(math.isfinite, numbers(both)))
