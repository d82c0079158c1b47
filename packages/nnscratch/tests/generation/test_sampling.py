import math

import pytest
import torch

from nnscratch import next_token_probabilities
from nnscratch.generation.sampling import Sampler


def test_samples_follow_the_probabilities_within_top_k_and_top_p():
    logits = torch.randn(1, 20)
    expected = next_token_probabilities(logits, 0.7, top_k=10, top_p=0.8)
    sampler = Sampler(1, logits.device, 0.7, 10, 0.8, 0)
    drawn = torch.cat([sampler(logits) for _ in range(1000)]).bincount(minlength=20) / 1000
    assert drawn[expected[0] == 0].sum() == 0
    assert (drawn - expected[0]).abs().max() < 5 * math.sqrt(0.25 / 1000)


PROBABILITIES = torch.tensor([[0.1, 0.4, 0.2, 0.3]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.8}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 1.0}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0]),  # 4/7 is more than a half already
        ({"top_k": 3, "top_p": 0.999}, [0, 4 / 9, 2 / 9, 3 / 9]),
    ],
)
def test_top_k_and_top_p(options, expected):
    result = next_token_probabilities(PROBABILITIES.log(), 1.0, **options)
    torch.testing.assert_close(result, torch.tensor([expected], dtype=torch.float32), atol=1e-6, rtol=0)


def slowly(logits, top_k, top_p):
    """Ids that are kept, by sorting everything in Python."""
    kept = []
    for row in torch.exp(logits.double()).tolist():
        order = sorted(range(len(row)), key=lambda index: (-row[index], index))[:top_k]
        total, before, ids = sum(row[index] for index in order), 0.0, set()
        for index in order:
            if top_p is not None and before >= top_p * total and ids:
                break
            ids.add(index)
            before += row[index]
        kept.append(ids)
    return kept


@pytest.mark.parametrize(("top_k", "top_p"), [(7, None), (None, 0.7), (None, 0.999), (300, 0.5), (3, 0.9), (1, 0.1)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_top_k_and_top_p_of_a_large_vocabulary(top_k, top_p, scale):
    logits = scale * torch.randn(5, 3000)
    kept = next_token_probabilities(logits, 1.0, top_k, top_p)
    torch.testing.assert_close(kept.sum(-1), torch.ones(5))
    assert [set(row.nonzero()[:, 0].tolist()) for row in kept] == slowly(logits, top_k, top_p)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_among_equals_the_lower_ids_are_kept(top_k):
    kept = next_token_probabilities(torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0]]), 1.0, top_k)
    assert kept[0].nonzero()[:, 0].tolist() == [1, 2, 3][:top_k]
    assert next_token_probabilities(torch.zeros(1, 500), 1.0, top_p=0.01)[0, :5].gt(0).all()


@pytest.mark.parametrize("temperature", [1e-320, 1e-6, 0.5, 2.0, 1e6, 1e300])
def test_temperature(temperature):
    result = next_token_probabilities(PROBABILITIES.log(), temperature)
    powers = (
        PROBABILITIES.double() ** (1 / temperature) if temperature > 0.01 else torch.tensor([[0.0, 1, 0, 0]]).double()
    )
    torch.testing.assert_close(result.double(), powers / powers.sum(), atol=1e-5, rtol=0)
