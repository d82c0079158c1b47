import pytest
import torch

from nnscratch import KeyValueCache
from owt_leaderboard.model.bigrams import BigramEmbedding

VOCAB, ROWS = 300, 1500


@pytest.fixture
def embedding():
    """Each row holds its number."""
    module = BigramEmbedding(VOCAB, ROWS, 2)
    assert module.weight.eq(0).all()
    with torch.no_grad():
        module.weight += torch.arange(ROWS)[:, None]
    return module


def rows(embedding, token_ids, *arguments):
    vectors = embedding(token_ids, *arguments)
    assert vectors.shape == (*token_ids.shape, 2)
    return vectors[..., 0].long()


def test_a_row_depends_on_both_tokens_and_on_nothing_else(embedding):
    token_ids = torch.tensor([[7, 8, 7, 8, 9, 8, 7, 8]])
    (found,) = rows(embedding, token_ids).tolist()
    assert found[0] == 0  # nothing before it
    assert found[1] == found[3] == found[7]
    assert found[2] == found[6]
    assert len(set(found)) == 5
    assert rows(embedding, token_ids.int()).tolist() == [found]


@pytest.mark.parametrize("size", [VOCAB, 50_257])
def test_pairs_are_spread_over_the_table(size):
    """Like balls thrown into boxes: the sum of squares of what is in them tells."""
    embedding = BigramEmbedding(size, ROWS, 1)
    with torch.no_grad():
        embedding.weight += torch.arange(ROWS)[:, None]
    texts = (
        torch.randint(size, (1, 30_000), generator=torch.Generator().manual_seed(0)),
        torch.arange(30_000).div(100, rounding_mode="floor").remainder(size)[None],  # neighbours in the vocabulary
        torch.stack((torch.arange(15_000) % size, torch.full((15_000,), 5)), dim=1).view(1, -1),
    )
    for text in texts:
        pairs = torch.stack((text[0, :-1], text[0, 1:])).unique(dim=1)
        alone = pairs.T.contiguous()
        found = embedding(alone)[:, 1, 0].long()
        assert found.min() >= 1
        assert found.max() < ROWS
        counts = torch.bincount(found, minlength=ROWS)[1:].double()
        expected = len(found) / (ROWS - 1)
        assert counts.square().mean() < 1.5 * (expected**2 + expected)


def test_a_cache_and_padding_tell_what_was_before(embedding):
    token_ids = torch.randint(VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
    whole = rows(embedding, token_ids)
    cache = KeyValueCache(1, 9)
    cache.last_token_ids = token_ids[:, 3]
    assert torch.equal(rows(embedding, token_ids[:, 4:], None, cache), whole[:, 4:])
    cache.reset()
    assert rows(embedding, token_ids[:, 4:], None, cache)[:, 0].tolist() == [0, 0, 0]
    positions = (torch.arange(9) - torch.tensor([[0], [2], [8]])).clamp(min=0)
    padded = rows(embedding, token_ids, positions)
    for row, start in enumerate((0, 2, 8)):
        assert torch.equal(padded[row, start:], rows(embedding, token_ids[row : row + 1, start:])[0])


def test_a_cache_of_other_sequences_is_refused(embedding):
    cache = KeyValueCache(1, 9)
    cache.last_token_ids = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="3 sequences came, but the cache holds 2; pass those, or reset it"):
        embedding(torch.zeros(3, 1, dtype=torch.long), None, cache)
