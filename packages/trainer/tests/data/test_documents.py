"""Windows of documents in a new order each epoch."""

import signal

import numpy as np
import pytest
import torch
from bigram_run import failing_loss, make_model, make_tokens, make_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainer import TrainConfig, TrainingInterrupted, load_weights
from trainer.data.documents import find_documents
from trainer.data.sampling import DocumentWindows
from trainer.data.splits import TokenSplit

pytestmark = pytest.mark.usefixtures("no_pictures")

SEPARATOR = 7
DOCUMENT = st.lists(st.integers(8, 99), min_size=1, max_size=12)
PARTS = st.lists(st.lists(DOCUMENT, min_size=2, max_size=9), min_size=1, max_size=3)


def joined(documents, *, ends_with_separator):
    ids = [number for document in documents for number in [*document, SEPARATOR]]
    return np.array(ids if ends_with_separator else ids[:-1], dtype=np.uint16)


def split_into_documents(text):
    """Return the documents of a text; the last one may be cut, or empty."""
    documents = [[]]
    for number in text.tolist():
        if number == SEPARATOR:
            documents.append([])
        else:
            documents[-1].append(number)
    return documents


@given(PARTS, st.booleans(), st.integers(1, 9), st.integers(1, 5))
def test_an_epoch_is_the_text_of_all_documents_in_some_order(parts, ends_with_separator, context_length, batch_size):
    """Documents are whole and end with the separator, whatever part they are from; only the end of the text is lost."""
    arrays = [joined(part, ends_with_separator=ends_with_separator) for part in parts]
    total = sum(len(document) + 1 for part in parts for document in part)
    if total <= context_length:
        return
    windows = DocumentWindows(TokenSplit(arrays, "the data"), context_length, batch_size, SEPARATOR, seed=3)
    count = windows.windows_per_epoch
    assert count == (total - 1) // context_length
    batches = [windows.read(number, slice(0, batch_size)) for number in range(-(-2 * count // batch_size))]
    inputs, targets = (np.concatenate(several) for several in zip(*batches, strict=True))
    for begin in (0, count):
        text = np.append(inputs[begin, 0], targets[begin : begin + count])
        assert np.array_equal(inputs[begin : begin + count].ravel(), text[:-1])
        *whole, last = split_into_documents(text)
        left = [document for part in parts for document in part]
        for document in whole:
            left.remove(document)
        assert not last or any(document[: len(last)] == last for document in left)


def test_each_epoch_has_an_order_of_its_own():
    tokens = np.arange(8, 1008).reshape(100, 10)
    tokens[:, -1] = SEPARATOR
    windows = DocumentWindows(TokenSplit(tokens.ravel(), "the data"), 9, 111, SEPARATOR, seed=0)
    firsts = []
    for epoch in range(4):
        inputs, _ = windows.read(epoch, slice(0, 111))
        ids = inputs[inputs % 10 == 8]  # the first id of each document
        firsts.append(tuple(ids.tolist()))
        assert len(set(firsts[-1])) >= 98
    assert len(set(firsts)) == 4


def test_a_run_on_documents_resumes_where_it_was(tmp_path):
    """The id 5 of the bigram text serves as the separator."""
    options = {"sampling": "documents", "separator_id": 5, "steps": 20, "train": make_tokens(400)}
    make_trainer(tmp_path / "whole", **options).fit()
    loss = failing_loss(23, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "run", loss=loss, **options).fit()
    make_trainer(tmp_path / "run", **options).fit()
    models = [make_model(), make_model()]
    for model, name in zip(models, ("whole", "run"), strict=True):
        load_weights(model, tmp_path / name / "checkpoints" / "step_0000020")
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_the_documents_are_found_once(tmp_path, monkeypatch):
    """Finding them reads all of the data, which may be many gigabytes."""
    calls, find = [], find_documents
    monkeypatch.setattr("trainer.data.sampling.find_documents", lambda *args: calls.append(args) or find(*args))
    make_trainer(tmp_path / "run", sampling="documents", separator_id=5, steps=2).fit()
    assert len(calls) == 1


def test_documents_need_their_separator(tmp_path):
    with pytest.raises(ValueError, match="separator_id is None: give the id of the token between documents, such as"):
        make_trainer(tmp_path / "run", sampling="documents")
    with pytest.raises(
        ValueError, match="the separator_id 99 does not occur in the training split: expected the id of"
    ):
        make_trainer(tmp_path / "run", sampling="documents", separator_id=99)
    with pytest.raises(ValueError, match='separator_id is 5 but sampling is "random": expected it for'):
        TrainConfig(steps=1, batch_size=1, context_length=1, separator_id=5)
    assert not (tmp_path / "run").exists()
