import json

import numpy as np
import pytest
import torch
from bigram_run import make_model, make_tokens, make_trainer
from torch import nn

from trainer import TokenDataset, evaluate, read_config, read_metrics
from trainer.data.splits import TokenSplit, check_same_tokenizer

pytestmark = pytest.mark.usefixtures("no_pictures")


def save(path, ids, **sidecar):
    np.save(path, ids)
    if sidecar:
        sidecar = {"format": "scratchlm-tokens", "version": 1, "tokens": len(ids), **sidecar}
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return TokenDataset(path)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "train.npy",
            TypeError,
            r"the split is of type str: expected a TokenDataset.* a path needs TokenDataset\(path\)",
        ),
        (torch.arange(9), TypeError, "the split is of type Tensor: expected a TokenDataset"),
        ([make_tokens(9), "valid.npy"], TypeError, "part 1 of the split is of type str: expected a TokenDataset"),
        ([1, 2, 3], TypeError, "part 0 of the split is of type int: expected a TokenDataset"),
        ([], ValueError, "the split is an empty list: expected a TokenDataset"),
        (np.zeros(9), ValueError, "the split holds float64: expected integers"),
        ([make_tokens(9), np.zeros(9)], ValueError, "part 1 of the split holds float64: expected integers"),
    ],
)
def test_refuses(source, error, message):
    with pytest.raises(error, match=message):
        TokenSplit(source, "the split")


def test_lengths_are_checked_by_part(tmp_path):
    short = save(tmp_path / "short.npy", np.zeros(8, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"part 1 of the split \(.*short.npy\) has 8 tokens: expected at least 9"):
        TokenSplit([make_tokens(9), short], "the split").check_length(8)
    with pytest.raises(ValueError, match=r"part 0 of the split has the shape \(3, 3\): expected one dimension"):
        TokenSplit([np.zeros((3, 3), dtype=int), short], "the split").check_length(2)


def test_bytes_of_all_parts(tmp_path):
    first, second = (save(tmp_path / f"{count}.npy", make_tokens(50), bytes=count) for count in (100, 23))
    assert TokenSplit([first, second], "x").num_bytes == 123
    assert TokenSplit([first, make_tokens(50)], "x").num_bytes is None


def test_one_tokenizer_for_all_files(tmp_path):
    names = {"train": ["a", None, "a"], "valid": ["a", "b"]}
    splits = [
        TokenSplit(
            [
                save(tmp_path / f"{split}{index}.npy", make_tokens(50), tokenizer_sha256=name and name * 64)
                for index, name in enumerate(of_split)
            ],
            split,
        )
        for split, of_split in names.items()
    ]
    check_same_tokenizer(splits[:1])
    with pytest.raises(
        ValueError, match=r"train0.npy and .*valid1.npy come from different tokenizers \(aaaaaaaaaaaa, bbbbbbbbbbbb\)"
    ):
        check_same_tokenizer(splits)


@pytest.mark.parametrize("wrong", [-1, 40, 70_000])
def test_ids_outside_of_the_vocabulary(tmp_path, wrong):
    split = TokenSplit([make_tokens(50), np.array([1, 2, wrong])], "the split")
    with pytest.raises(
        ValueError, match=f"part 1 of the split holds the token id {wrong}: expected ids from 0 to below"
    ):
        split.check_ids(40)
    TokenSplit(make_tokens(500), "the split").check_ids(40)


def test_evaluation_sums_over_the_parts(tmp_path):
    model, lengths = make_model(), [50, 9, 33]
    parts = [make_tokens(length, seed=length) for length in lengths]
    single = [evaluate(model, part, 8).loss for part in parts]
    files = [save(tmp_path / f"{len(part)}.npy", part, bytes=3 * len(part)) for part in parts]
    for batch_size in (1, 4, 100):
        result = evaluate(model, files, 8, batch_size=batch_size)
        expected = sum(loss * (length - 1) for loss, length in zip(single, lengths, strict=True)) / 89
        assert result.loss == pytest.approx(expected, rel=1e-6)
        assert result.tokens == 89
        assert result.bits_per_byte == pytest.approx(expected * 89 / np.log(2) / (3 * 92), rel=1e-6)


@pytest.mark.parametrize("sampling", ["random", "shuffled"])
def test_run_over_several_files(tmp_path, sampling):
    train, valid = [make_tokens(900), make_tokens(1500, seed=2)], [make_tokens(200, seed=1), make_tokens(300, seed=4)]
    files = [save(tmp_path / f"{index}.npy", part, bytes=7) for index, part in enumerate(train)]
    model, settings = make_model(), {"valid": valid, "sampling": sampling, "steps": 30}
    summary = make_trainer(tmp_path / "run", model=model, train=files, **settings).fit()
    assert summary.final_valid_loss == pytest.approx(evaluate(model, valid, 8).loss, rel=1e-6)
    assert summary.final_valid_loss < 0.8 * summary_start(tmp_path / "run")
    other = make_model()
    make_trainer(tmp_path / "arrays", model=other, train=train, **settings).fit()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))
    assert [part["tokens"] for part in read_config(tmp_path / "run")["data"]["train"].values()] == [900, 1500]
    with pytest.raises(ValueError, match=r"data.train.1.tokens was 1500, now 1400"):
        make_trainer(tmp_path / "run", train=[train[0], train[1][:1400]], **settings).fit()


@pytest.mark.parametrize(
    ("tokens", "lengths"),
    [(9, [9]), (100, [100]), (101, [100]), (108, [100]), (109, [100, 9]), (199, [100, 99]), (208, [100, 100])],
)
def test_the_first_tokens_of_several_parts(tmp_path, tokens, lengths):
    """A part of which they reach less than a window is left out."""
    parts = [make_tokens(100, seed) for seed in (1, 2, 3)]
    first = TokenSplit(parts, "the split").first(tokens, 8)
    assert first.lengths == lengths
    for number, length in enumerate(lengths):
        assert np.array_equal(first.read_range(number, 0, length), parts[number][:length])
    make_trainer(tmp_path / "run", valid=parts, eval_tokens=tokens, model=(model := make_model()), steps=1).fit()
    expected = evaluate(make_model(), [part[:length] for part, length in zip(parts, lengths, strict=False)], 8)
    assert summary_start(tmp_path / "run") == pytest.approx(expected.loss, rel=1e-6)
    last = read_metrics(tmp_path / "run")[-1]
    assert last["loss"] == pytest.approx(evaluate(model, parts, 8).loss, rel=1e-6)


def summary_start(run):
    return next(record["loss"] for record in read_metrics(run) if record["event"] == "eval")


def test_sampling_decides_the_windows(tmp_path, timeless):
    for sampling in ("random", "shuffled"):
        make_trainer(tmp_path / sampling, sampling=sampling, steps=7).fit()
    assert timeless(tmp_path / "random") != timeless(tmp_path / "shuffled")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_ids_are_checked_before_anything_is_created(tmp_path, split):
    ids = make_tokens(600)
    ids[-1] = 40
    name = {"train": "training", "valid": "validation"}[split]
    with pytest.raises(ValueError, match=f"the {name} split holds the token id 40: expected ids from 0 to below the"):
        make_trainer(tmp_path / "run", **{split: ids}).fit()
    with pytest.raises(ValueError, match=r"holds the token id .* vocabulary size 30"):
        make_trainer(tmp_path / "run", vocab_size=30, **{split: ids}).fit()
    assert not list(tmp_path.iterdir())


def test_vocab_size_of_the_configuration_comes_first(tmp_path):
    def loss(model, inputs, targets):
        return nn.functional.cross_entropy(model(inputs % 40).flatten(0, 1), targets.flatten() % 40)

    ids = make_tokens(600) + np.uint16(40)
    with pytest.raises(ValueError, match="vocabulary size 40"):
        make_trainer(tmp_path / "run", train=ids, valid=ids, loss=loss).fit()
    assert (
        make_trainer(tmp_path / "run", train=ids, valid=ids, loss=loss, vocab_size=80, steps=2).fit().status
        == "completed"
    )
