import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch import Embedding, KeyValueCache, LanguageModel, Linear, TransformerConfig, generate, stream


class Bigram(LanguageModel):
    """A model whose scores depend on the last token alone."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embeddings = Embedding(config.vocab_size, config.d_model)
        self.lm_head = Linear(config.d_model, config.vocab_size)

    def _features(self, token_ids, token_positions, cache, mask):
        return self.token_embeddings(token_ids)


@pytest.fixture
def bigram():
    return Bigram(TransformerConfig(20, 8, 16, 1, 2, 16, logit_soft_cap=3.0))


def test_a_custom_model_has_logits_and_a_loss(bigram):
    inputs, targets = torch.randint(20, (2, 2, 8))
    table = 3 * torch.tanh(bigram.token_embeddings.weight @ bigram.lm_head.weight.T / 3)
    logits = bigram(inputs)
    torch.testing.assert_close(logits, table[inputs])
    torch.testing.assert_close(bigram.next_token_logits(inputs), table[inputs[:, -1]])
    loss = bigram.loss(inputs, targets)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    with pytest.raises(ValueError, match="an input of 9 tokens exceeds context_length=8"):
        bigram(torch.zeros(1, 9, dtype=torch.long))


def test_the_loss_refuses_a_bias_that_it_would_leave_out(bigram):
    bigram.lm_head = Linear(bigram.lm_head.weight.shape[1], bigram.config.vocab_size, bias=True)
    with pytest.raises(ValueError, match=r"lm_head has a bias, .* use cross_entropy\(model\(inputs\), targets\)"):
        bigram.loss(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]))


def test_a_custom_model_generates(bigram):
    following = bigram(torch.arange(20)[:, None])[:, 0].argmax(-1).tolist()
    expected = [3]
    for _ in range(12):  # beyond the context
        expected.append(following[expected[-1]])
    options = {"max_new_tokens": 12, "temperature": 0.0}
    assert generate(bigram, [3], **options).tolist() == [expected]
    assert list(stream(bigram, [3], **options)) == expected[1:]


def test_the_cache_knows_the_last_tokens_while_it_holds_any(bigram):
    cache, inputs = KeyValueCache(1, 8), torch.randint(20, (2, 8))
    assert cache.last_token_ids is None
    for part in inputs.split((5, 1, 2), dim=1):
        bigram(part, cache)
        assert torch.equal(cache.last_token_ids, part[:, -1])
    cache.reset()
    assert cache.last_token_ids is None


def test_a_model_without_features_is_refused():
    class Empty(LanguageModel):
        config = TransformerConfig(20, 8, 16, 1, 2, 16)

    with pytest.raises(TypeError, match=r"abstract class Empty.*_features"):
        Empty()
