"""Merges, ids and files of one small tokenizer, as text: a change that moves them must be meant."""

import hashlib

import pytest

import bpe

# Sentences with contractions, digits, several scripts, an emoji, runs of blanks and a special token.
SENTENCES = (
    "The lighthouse keeper's daughter counted 1,024 waves, and she'd counted them twice.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "色は匂へど散りぬるを 我が世誰ぞ常ならむ",
    "    if waves > 1024:\n        return 'counted'\n\n\n",
    "The weather: 🌧️ then 🌈!  The end.<|endoftext|>",
)
TEXT = "".join(f"{SENTENCES[i % 6]} {SENTENCES[(i * i + 1) % 6]}\n" for i in range(40))
UNSEEN = "They've counted 2,048 Wellen über dem Deich — и ещё чаю! 🌈<|endoftext|>常"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    (folder / "text.txt").write_text(TEXT, "utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return bpe.train(folder / "text.txt", 340)


def test_merges(tokenizer):
    assert len(tokenizer.merges) == 83
    assert b" ".join(left + b"|" + right for left, right in tokenizer.merges[:8]).hex() == (
        "207cd020207c2020687c6520657c7220657c6e20d17c8520d07cba20d07cb8"
    )
    assert sha256(b"\n".join(left + b" " + right for left, right in tokenizer.merges)) == "20b21ab2cdeaf75f"


def test_ids(tokenizer):
    # fmt: off
    assert tokenizer.encode(UNSEEN) == [
        269, 121, 39, 118, 101, 32, 287, 32, 50, 44, 48, 52, 56, 32, 87, 101, 108, 108, 260, 32, 195, 188, 98, 259, 291,
        101, 109, 32, 68, 101, 290, 104, 32, 226, 128, 148, 256, 184, 256, 331, 266, 337, 33, 277, 136, 339, 229, 184,
        184,
    ]
    # fmt: on
    assert tokenizer.decode(tokenizer.encode(UNSEEN)) == UNSEEN


def test_files(tokenizer, folder):
    assert tokenizer.encode_file(folder / "text.txt", folder / "ids.npy").tokens == 2884
    assert sha256((folder / "ids.npy").read_bytes()) == "e341fc6412a81c50"
    tokenizer.save_pretrained(folder / "tokenizer")
    assert {path.name: sha256(path.read_bytes()) for path in (folder / "tokenizer").iterdir()} == {
        "merges.txt": "fff85dbfd9dc4323",
        "tokenizer.json": "13c473340c2c61d9",
        "tokenizer.tiktoken": "52c8d58d8022c869",
        "tokenizer_config.json": "bc66e952df52db28",
        "vocab.json": "f8768752d637d77f",
    }
