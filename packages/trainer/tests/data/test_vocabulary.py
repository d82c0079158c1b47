"""The vocabulary sizes that models show."""

import pytest
import torch
from bigram_run import make_model
from torch import nn

from trainer import TrainConfig
from trainer.data.vocabulary import find_vocab_size


class Model(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class MyEmbedding(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, 4))
        self.bias = nn.Parameter(torch.zeros(4))


class Namespace:
    vocab_size = 77


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Model(config=Namespace(), embedding=nn.Embedding(99, 4)), 77),
        (Model(config={"vocab_size": 76}, embedding=nn.Embedding(99, 4)), 76),
        (Model(config={"vocab_size": None}, embedding=nn.Embedding(99, 4)), 99),
        (Model(config=TrainConfig(steps=1, batch_size=1, context_length=1)), None),
        (make_model(), 40),
        (nn.Sequential(Model(wpe=nn.Embedding(500, 4), wte=nn.Embedding(99, 4))), 99),
        (Model(position_embedding=nn.Embedding(500, 4), token=MyEmbedding(99)), 99),
        (Model(first=nn.Embedding(2, 4), second=nn.Embedding(99, 4)), 99),
        (Model(token_embedding=nn.Parameter(torch.zeros(99, 4))), 99),
        (Model(embedding=nn.Linear(99, 4)), None),
        (Model(embed_patches=nn.Conv2d(1, 4, 3)), None),
        (nn.Linear(3, 4), None),
    ],
)
def test_vocabulary_of_a_model(model, expected):
    assert find_vocab_size(model) == expected
    if expected is not None:
        assert find_vocab_size(torch.compile(model, backend="eager")) == expected
