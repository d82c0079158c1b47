"""Files of token ids, and the errors for files that are something else."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainer import TokenDataset, TrainConfig, evaluate
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.splits import TokenSplit

PROCESS_STATUS = Path("/proc/self/status")


def save(path, ids, **sidecar):
    np.save(path, ids)
    if sidecar:
        path.with_suffix(".json").write_text(json.dumps({"format": "scratchlm-tokens", "version": 1, **sidecar}))
    return path


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_dataset_with_sidecar(tmp_path, dtype):
    ids = np.array([3, 1, 4, 1, 5], dtype=dtype)
    path = save(tmp_path / "x.npy", ids, tokens=5, bytes=17, vocab_size=6, tokenizer_sha256="ab")
    dataset = TokenDataset(path)
    assert dataset.tokens.tolist() == ids.tolist()
    assert isinstance(dataset.tokens, np.memmap)
    assert (dataset.num_tokens, len(dataset)) == (5, 5)
    assert (dataset.num_bytes, dataset.vocab_size, dataset.tokenizer_sha256) == (17, 6, "ab")
    assert dataset.max_token_id == 5
    assert "5 tokens" in repr(dataset)
    dataset.check_ids(6)
    with pytest.raises(ValueError, match="holds the token id 5: expected ids below the vocabulary size 5"):
        dataset.check_ids(5)


def test_dataset_without_sidecar(tmp_path):
    dataset = TokenDataset(str(save(tmp_path / "x.npy", np.array([1, 2], dtype=np.uint16))))
    assert (dataset.num_bytes, dataset.vocab_size, dataset.tokenizer_sha256) == (None, None, None)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no token file at .*x.npy"):
        TokenDataset(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            np.zeros(3),
            r"holds float64: expected uint16 or uint32; save it with ids.astype\('uint16'\), because the",
        ),
        (np.array([3, 65_535]), r"holds int64: .* with ids.astype\('uint16'\), because the largest is 65535"),
        (np.array([70_000, 3]), r"holds int64: .* with ids.astype\('uint32'\), because the largest is 70000"),
        (np.array([65_536.0]), r"holds float64: .* with ids.astype\('uint32'\), because the largest is 65536"),
        (np.array([-1, 3]), "its values go from -1 to 3, which are no token ids"),
        (np.array([2**32, 3]), "its values go from 3 to 4294967296, which are no token ids"),
        (np.array([0.5, 7.7]), "some of its values are fractions, which are no token ids"),
        (np.array([1.0, 3.0], np.float16), r"with ids.astype\('uint16'\), because the largest is 3"),
        (np.array([1.0, np.nan]), "which are no token ids"),
        (np.array(["a"]), "save whole numbers as uint16, or as uint32 if one is above 65,535"),
        (np.zeros((2, 2), dtype=np.uint16), r"has the shape \(2, 2\): expected one dimension"),
        (np.zeros(0, dtype=np.uint16), "is empty: it holds no tokens"),
        (np.array([{}, None]), "holds Python objects: expected uint16 or uint32"),
        (b"", "is not a token file"),
        (b"Once upon a time", "is not a token file: it begins with b'Once u', expected an .npy file"),
        (pickle.dumps([1, 2]), r"is not a token file: it begins with .*, a pickle, expected an .npy file"),
        (b"PK\x03\x04\x14\x00", "an .npz archive or another zip file, expected an .npy file"),
        (b"\x1f\x8b\x08\x00\x00\x00", "compressed by gzip, expected an .npy file"),
        (b"\x93NUMPY\x01\x00", "is cut short or damaged"),
    ],
)
def test_files_that_are_no_token_files(tmp_path, content, message):
    path = tmp_path / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=message) as error:
        TokenDataset(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("has_pread", [True, False])
def test_windows_of_a_file(tmp_path, monkeypatch, has_pread):
    """Windows has no pread."""
    if not has_pread:
        monkeypatch.delattr("os.pread", raising=False)
    ids = np.random.default_rng(0).integers(0, 2**32, 1000).astype(">u4")
    dataset = TokenDataset(save(tmp_path / "x.npy", ids))
    starts = np.array([0, 991, 5, 5])
    windows = dataset.read_windows(starts, 9)
    assert windows.dtype == np.int64
    assert windows.tolist() == [ids[start : start + 9].tolist() for start in starts]


def test_file_that_is_cut_short_while_it_is_read(tmp_path):
    path = save(tmp_path / "x.npy", np.zeros(100_000, dtype=np.uint16))
    dataset = TokenDataset(path)
    os.truncate(path, 1000)
    for read in (
        lambda: dataset.read_windows(np.array([0, 90_000]), 10),
        lambda: dataset.max_token_id,
        lambda: evaluate(nn.Embedding(3, 3), dataset, 128),
    ):
        with pytest.raises(OSError, match=r"x.npy was cut short while it was read: restore it and run again"):
            read()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc, which is Linux's")
def test_files_are_closed_with_their_datasets(tmp_path):
    path = save(tmp_path / "x.npy", np.zeros(10, dtype=np.uint16))
    before = len(list(Path("/proc/self/fd").iterdir()))
    datasets = [TokenDataset(path) for _ in range(20)]
    assert len(list(Path("/proc/self/fd").iterdir())) >= before + 20
    del datasets
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_datasets_travel_to_other_processes_by_their_path(tmp_path):
    dataset = TokenDataset(save(tmp_path / "x.npy", np.arange(100, dtype=np.uint16)))
    other = pickle.loads(pickle.dumps(dataset))
    assert other.path == dataset.path
    assert other.read_windows(np.array([3]), 2).tolist() == [[3, 4]]


def test_truncated_file(tmp_path):
    path = save(tmp_path / "x.npy", np.zeros(1000, dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is cut short or damaged"):
        TokenDataset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "does not describe a token file"),
        ('{"format": "other"}', "expected the format 'scratchlm-tokens'"),
        ('{"format": "scratchlm-tokens", "tokens": 3}', "holds 2 tokens but x.json says 3"),
    ],
)
def test_sidecars_that_contradict(tmp_path, text, message):
    path = save(tmp_path / "x.npy", np.zeros(2, dtype=np.uint16))
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=message):
        TokenDataset(path)


def resident_bytes():
    lines = PROCESS_STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not PROCESS_STATUS.exists(), reason="reads /proc, which is Linux's")
def test_resident_memory_is_flat(tmp_path):
    """Reading 100 MB, in windows and as a whole, leaves none of them behind; `benchmarks/run.py` does so with 1 GB."""
    np.save(tmp_path / "x.npy", np.zeros(50_000_000, dtype=np.uint16))
    dataset = TokenDataset(tmp_path / "x.npy")
    configs = [
        TrainConfig(steps=1, batch_size=64, context_length=128, sampling=name) for name in ("random", "shuffled")
    ]
    sources = [BatchSource(TokenSplit(dataset, "x"), config) for config in configs]

    def read(step):
        for source in sources:
            source.batch(StepBatches(step, 1), 0)

    read(0)
    before = resident_bytes()
    assert dataset.max_token_id == 0
    for step in range(250):
        read(step)
    evaluate(nn.Embedding(1, 1), dataset, 1000, loss_fn=lambda *_: torch.zeros(()))
    assert resident_bytes() - before < 20_000_000
