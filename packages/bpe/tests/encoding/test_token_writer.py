"""Token files of llm.c and Megatron, read as their own programs read them, and the index of documents."""

import gzip
import itertools
import json
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import CORPUS, EOT, using_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from bpe import InvalidUTF8Warning, Tokenizer, kernels
from bpe.encoding import described_tokenizer, token_files, token_writer
from bpe.text import TextFile

STORIES = ["One story.\n", "\nAnother, längere one.", "\n\n", CORPUS, "", "a last one without an end"]
TEXT = EOT.join(STORIES)


def read_llm_c(path):
    """Read a file as llm.c's dataloader does: 256 int32, of which the first three are set, and the tokens."""
    data = path.read_bytes()
    header = struct.unpack("<256i", data[:1024])
    dtype = {(20240520, 1): "<u2", (20240801, 7): "<u4"}[header[:2]]
    tokens = np.frombuffer(data, dtype, offset=1024)
    assert not any(header[3:])
    assert len(tokens) == header[2]
    return tokens


def read_megatron(path):
    """Read all documents of a pair of files as Megatron's IndexedDataset does."""
    index = path.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack("<QBQQ", index[9:34])
    dtype = np.dtype({4: np.int32, 8: np.uint16}[code])
    assert version == 1
    assert len(index) == 34 + 4 * sequences + 8 * sequences + 8 * documents
    lengths = np.frombuffer(index, np.int32, sequences, 34)
    pointers = np.frombuffer(index, np.int64, sequences, 34 + 4 * sequences)
    bounds = np.frombuffer(index, np.int64, documents, 34 + 12 * sequences)
    assert bounds.tolist() == list(range(sequences + 1))  # each document is one sequence
    data = path.with_suffix(".bin").read_bytes()
    assert len(data) == dtype.itemsize * lengths.sum()
    return [
        np.frombuffer(data, dtype, length, pointer).tolist() for length, pointer in zip(lengths, pointers, strict=True)
    ]


def check_documents(tokenizer, text, tokens, index):
    """Check that each document begins where the index says, in the tokens and in the text (bytes), and none is left."""
    if not len(tokens):
        assert not len(index)
        return
    assert index[0].tolist() == (0, 0)
    bounds = [*index.tolist(), (len(tokens), len(text))]
    for (token, byte), (next_token, next_byte) in itertools.pairwise(bounds):
        ids = tokens[token:next_token].tolist()
        assert tokenizer.eot_id not in ids[:-1]
        assert ids
        assert next_token == len(tokens) or ids[-1] == tokenizer.eot_id
        part = text[byte:next_byte].decode("utf-8", "replace")
        assert ids == tokenizer.encode(part)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    return tmp_path


def large(tokenizer):
    """Return a tokenizer with the same merges whose ids need 32 bits."""
    spec = {**tokenizer.vocab, 70_000: b"<|pad|>"}
    return Tokenizer(spec, tokenizer.merges, [EOT, "<|pad|>"])


def test_llm_c(small, with_kernels, folder):
    for tokenizer, dtype in ((small, np.uint16), (with_kernels, np.uint16), (large(small), np.uint32)):
        report = tokenizer.encode_file(folder / "text.txt", folder / "tokens.bin")
        tokens = read_llm_c(folder / "tokens.bin")
        assert tokens.dtype == dtype
        assert tokens.tolist() == tokenizer.encode(TEXT)
        assert (report.path, report.tokens) == (folder / "tokens.bin", len(tokens))
        check_documents(tokenizer, TEXT.encode(), tokens, np.load(folder / "tokens.documents.npy"))


def test_megatron(small, with_kernels, folder):
    for tokenizer in (small, with_kernels, large(small)):
        report = tokenizer.encode_file(folder / "text.txt", folder / "tokens.idx")
        documents = read_megatron(folder / "tokens.idx")
        assert documents == [tokenizer.encode(story + EOT) for story in STORIES[:-1]] + [tokenizer.encode(STORIES[-1])]
        assert report.path == folder / "tokens.bin"
        starts = np.load(folder / "tokens.documents.npy")["token"]
        assert np.diff(starts, append=report.tokens).tolist() == list(map(len, documents))


@pytest.mark.parametrize("wide", [False, True])
def test_megatrons_files_are_those_of_datatrove(small, folder, wide):
    module = pytest.importorskip("datatrove.pipeline.tokens.megatron_tokenizer")
    tokenizer = large(small) if wide else small
    tokenizer.encode_file(folder / "text.txt", folder / "ours.bin", format="megatron")
    file = module.MegatronTokenizedFile(str(folder), "theirs", token_size=4 if wide else 2)
    for story in STORIES[:-1]:
        file.write(tokenizer.encode(story + EOT))
    file.write(tokenizer.encode(STORIES[-1]))
    file.close()
    for suffix in (".bin", ".idx"):
        assert (folder / f"ours{suffix}").read_bytes() == (folder / f"theirs{suffix}").read_bytes()


def test_the_description(small, folder):
    small.encode_file(folder / "text.txt", folder / "tokens.bin", format="megatron")
    described = json.loads((folder / "tokens.json").read_text())
    assert described == {
        "format": "scratchlm-tokens",
        "version": 1,
        "tokens": len(small.encode(TEXT)),
        "bytes": len(TEXT.encode()),
        "special_bytes": TEXT.count(EOT) * len(EOT),
        "dtype": "uint16",
        "vocab_size": 400,
        "invalid_utf8": 0,
        "source": "text.txt",
        "tokenizer_sha256": small.sha256,
        "files": {"tokens.bin": "megatron"},
        "documents": {"file": "tokens.documents.npy", "number": 6, "fields": ["token", "byte"]},
    }


def test_the_bytes_of_special_tokens_are_counted(small, tmp_path):
    """Of a few or of many tokens, by their ids; the ends that a table's rows get are not in its text."""
    (tmp_path / "text.txt").write_text(f"é{EOT}<|7|>a<|7|><|é|>{EOT}")
    (tmp_path / "rows.jsonl").write_text('{"text": "a<|7|>"}\n{"text": ""}\n')
    for number in (8, 30):
        tokenizer = small.add_tokens([f"<|{index}|>" for index in range(number)] + ["<|é|>"])
        for name, column, expected in (("text.txt", None, 2 * 13 + 2 * 5 + 6), ("rows.jsonl", "text", 5)):
            tokenizer.encode_file(tmp_path / name, tmp_path / "tokens.npy", column=column)
            assert json.loads((tmp_path / "tokens.json").read_text())["special_bytes"] == expected


def test_npy_gets_an_index_only_if_asked(small, folder):
    def files():
        return sorted(path.name for path in folder.iterdir() if path.name != "text.txt")

    small.encode_file(folder / "text.txt", folder / "tokens.npy", documents=True)
    assert files() == ["tokens.documents.npy", "tokens.json", "tokens.npy"]
    index = np.load(folder / "tokens.documents.npy")
    assert index.dtype.names == ("token", "byte")
    check_documents(small, TEXT.encode(), np.load(folder / "tokens.npy"), index)
    small.encode_file(folder / "text.txt", folder / "tokens.npy")
    assert files() == ["tokens.json", "tokens.npy"]
    small.encode_file(folder / "text.txt", folder / "other.bin", documents=False)
    assert files() == ["other.bin", "other.json", "tokens.json", "tokens.npy"]


@given(
    parts=st.lists(
        st.sampled_from([EOT.encode(), b"a story\n", b"\n", b"\xff", b"caf\xc3", "é\ufffd".encode(), b"<|endof", b"t"]),
        min_size=1,
        max_size=12,
    ),
    special=st.sampled_from([[EOT], [EOT, EOT + EOT], ["|>\n", EOT], ["\ufffd" + EOT, EOT], ["t", EOT], ["x"]]),
    size=st.integers(1, 40),
)
@settings(max_examples=100)
def test_documents_of_any_text(small, tmp_path_factory, special, parts, size):
    """Longer special tokens may contain the end of a document, and malformed bytes move it."""
    folder, text = tmp_path_factory.mktemp("documents"), b"".join(parts)
    (folder / "text.txt").write_bytes(text)
    blocks = TextFile.blocks
    for with_kernels in (False, True):
        tokenizer = Tokenizer(small.vocab, small.merges, special)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            if with_kernels:
                using_kernels(tokenizer)
            else:
                patch.setattr(kernels, "encoding_loaded", lambda: False)
            warnings.simplefilter("ignore", InvalidUTF8Warning)
            patch.setattr(TextFile, "blocks", lambda file, cutter: blocks(file, cutter, size))
            tokenizer.encode_file(folder / "text.txt", folder / "tokens.npy", documents=True)
        index = np.load(folder / "tokens.documents.npy")
        check_documents(tokenizer, text, np.load(folder / "tokens.npy"), index)


def test_documents_of_a_compressed_text_are_found_in_the_text(small, folder):
    with gzip.open(folder / "text.txt.gz", "wb") as file:
        file.write(TEXT.encode())
    for name in ("text.txt", "text.txt.gz"):
        small.encode_file(folder / name, folder / f"{name}.bin")
    assert (folder / "text.txt.gz.documents.npy").read_bytes() == (folder / "text.txt.documents.npy").read_bytes()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_rows_become_documents(small, with_kernels, tmp_path, monkeypatch, name):
    monkeypatch.setattr(token_files, "_BATCH_OF_DOCUMENTS", 50)
    lines = "".join(json.dumps({"id": 1, "story": story}) + "\n" for story in STORIES).encode()
    if name.endswith(".parquet"):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"story": STORIES}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    for tokenizer in (small, with_kernels):
        report = tokenizer.encode_file(tmp_path / name, tmp_path / "tokens.idx", column="story")
        expected = [small.encode(story + EOT) for story in STORIES]
        assert read_megatron(tmp_path / "tokens.bin") == expected
        assert (report.tokens, report.bytes) == (sum(map(len, expected)), len("".join(STORIES).encode()))
        index = np.load(tmp_path / "tokens.documents.npy")
        assert index["row"].tolist() == list(range(len(STORIES)))
        assert np.diff(index["token"], append=report.tokens).tolist() == list(map(len, expected))
        assert json.loads((tmp_path / "tokens.json").read_text())["source"] == name


def test_tables_that_cannot_be_encoded(small, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "none.jsonl").write_text("\n")
    for tokenizer, name, column, message in [
        (small, "none.jsonl", "text", "none.jsonl' has no rows, expected at least one"),
        (small, "rows.jsonl", "content", "has no column 'content'"),
        (small, "rows.jsonl", None, "has rows, expected text; name the column"),
        (Tokenizer({97: b"a"}, []), "rows.jsonl", "text", r"has no <\|endoftext\|>, which ends every document"),
    ]:
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_file(tmp_path / name, tmp_path / "tokens.npy", column=column)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.jsonl", "rows.jsonl"]


@pytest.mark.parametrize(
    ("name", "file_format", "message"),
    [
        ("tokens.txt", None, "expected a name that ends in .npy, .bin .llm.c. or .idx .Megatron.; add it"),
        ("tokens", None, "expected a name that ends in .npy"),
        ("tokens.npy", "llm.c", "expected a name that ends in .bin for the format llm.c"),
        ("tokens.npy", "megatron", "expected a name that ends in .idx or .bin for the format megatron"),
        ("tokens.bin", "npy", "expected a name that ends in .npy for the format npy"),
        ("tokens.bin", "nanogpt", "format is 'nanogpt', expected one of npy, llm.c, megatron"),
    ],
)
def test_names_and_formats_must_agree(small, folder, name, file_format, message):
    with pytest.raises(ValueError, match=message):
        small.encode_file(folder / "text.txt", folder / name, format=file_format)
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("text.bin", "text.idx", "'text.bin' would overwrite the text itself"),
        ("text.idx", "text.idx", "'text.idx' would overwrite the text itself"),
        ("text.documents.npy", "text.bin", "'text.documents.npy' would overwrite the text itself"),
        ("text.bin", "text.documents.idx", "'text.documents.documents.npy' exists and is no index"),
        ("other.txt", "tokens.npy", "'tokens.json' describes 'tokens.bin' with another value of 'source': 'text.txt'"),
        ("text.txt", "text.bin", "'text.documents.npy' exists and is no index that 'text.json' describes"),
    ],
)
def test_nothing_else_is_overwritten(small, folder, monkeypatch, source, target, message):
    monkeypatch.chdir(folder)
    small.encode_file("text.txt", "tokens.bin")
    for name in ("other.txt", "text.bin", "text.idx", "text.documents.npy", "text.documents.documents.npy"):
        (folder / name).write_text("a text")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=message):
        small.encode_file(source, target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_files_of_the_same_tokens_share_a_description(small, folder):
    """Whatever is written again, nothing stays that belongs to other tokens."""

    def encode(name, text="text.txt", tokenizer=small, **options):
        tokenizer.encode_file(folder / text, folder / name, **options)
        described = json.loads((folder / "tokens.json").read_text())
        files = sorted(path.name.removeprefix("tokens") for path in folder.glob("tokens.*"))
        return described.get("files"), "documents" in described, files

    assert encode("tokens.npy") == (None, False, [".json", ".npy"])
    files = {"tokens.npy": "npy", "tokens.bin": "megatron"}
    assert encode("tokens.idx") == (files, True, [".bin", ".documents.npy", ".idx", ".json", ".npy"])
    files["tokens.bin"] = "llm.c"
    assert encode("tokens.bin", documents=False) == (files, True, [".bin", ".documents.npy", ".json", ".npy"])
    assert described_tokenizer(folder / "tokens.bin") == described_tokenizer(folder / "tokens.npy") == small.sha256
    (folder / "text.txt").write_text("another text")
    with pytest.raises(ValueError, match=r"'tokens.npy' with another value of 'tokens': \d+, now \d+; give"):
        encode("tokens.bin")
    with pytest.raises(ValueError, match=r"describes 'tokens.npy' with another value of 'tokenizer_sha256'"):
        encode("tokens.bin", tokenizer=large(small))
    (folder / "tokens.npy").unlink()
    assert encode("tokens.bin", documents=False) == ({"tokens.bin": "llm.c"}, False, [".bin", ".json"])
    assert described_tokenizer(folder / "tokens.npy") is None
    (folder / "tokens.bin").unlink()
    assert encode("tokens.npy") == (None, False, [".json", ".npy"])


def test_sizes_that_a_format_cannot_express_are_refused(small, folder, monkeypatch):
    monkeypatch.setattr(token_writer, "_MOST_INT32", 20)
    with pytest.raises(ValueError, match=r"more than 20 tokens, the most that a file of llm.c can have"):
        small.encode_file(folder / "text.txt", folder / "tokens.bin")
    with pytest.raises(ValueError, match=r"a document has \d+ tokens, expected at most 20 for Megatron"):
        small.encode_file(folder / "text.txt", folder / "tokens.idx")
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("failing", [".documents.npy", ".idx", ".json", ".bin"])
def test_a_failure_leaves_all_files_as_they_were(small, folder, monkeypatch, again, failing):
    (folder / "other.txt").write_text("another text")
    if again:
        small.encode_file(folder / "text.txt", folder / "tokens.idx")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = Path.replace

    def fail(path, target):
        if path.name.endswith(".partial") and target == folder / f"tokens{failing}" and not failed:
            failed.append(target)
            raise PermissionError("not now")
        return replace(path, target)

    failed = []
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PermissionError, match="not now"):
        small.encode_file(folder / "other.txt", folder / "tokens.idx")
    assert failed
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
