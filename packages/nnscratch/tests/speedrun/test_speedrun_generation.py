import pytest
import torch
from speedrun_models import CONFIGS, ON, disturb, ids

from nnscratch import KeyValueCache, complete, generate, stream
from nnscratch.speedrun.language_model import SpeedrunLM

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [12, 13]]


@torch.no_grad()
def alone(model, prompt, steps):
    """The definition of greedy generation: the whole window through the model for every token."""
    token_ids = torch.tensor([prompt])
    for _ in range(steps):
        window = token_ids[:, -model.config.context_length :]
        token_ids = torch.cat((token_ids, model(window)[:, -1:].argmax(-1)), dim=1)
    return token_ids[0].tolist()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_prompts_of_any_lengths_are_continued_as_each_alone(config):
    model = disturb(SpeedrunLM(config))
    steps = 10  # beyond the context for the longest
    expected = [alone(model, prompt, steps)[len(prompt) :] for prompt in PROMPTS]
    assert len({tuple(row) for row in expected}) == len(expected)
    for use_cache in (True, False):
        options = {"max_new_tokens": steps, "temperature": 0.0, "use_cache": use_cache}
        assert complete(model, PROMPTS, **options) == expected
        assert generate(model, PROMPTS[2], **options).tolist() == [PROMPTS[2] + expected[2]]
        assert list(stream(model, PROMPTS[2], **options)) == expected[2]


def test_cached_and_padded_logits_are_those_of_the_whole_input():
    model, token_ids = disturb(SpeedrunLM(ON)), ids(ON, 3)
    cache = KeyValueCache(4, 12)
    parts = [model(part, cache) for part in token_ids.split((6, 1, 5), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(token_ids), atol=1e-4, rtol=1e-4)
    padding = torch.tensor([0, 4, 8])
    cache = KeyValueCache(4, 12)
    parts = [model(part, cache, padding) for part in token_ids.split((9, 2, 1), dim=1)]
    for logits in (model(token_ids, padding=padding), torch.cat(parts, dim=1)):
        for index, start in enumerate(padding.tolist()):
            expected = model(token_ids[index : index + 1, start:])[0]
            torch.testing.assert_close(logits[index, start:], expected, atol=1e-4, rtol=1e-4)


def test_draws_with_a_seed_are_the_same_with_and_without_cache():
    model = disturb(SpeedrunLM(ON))
    options = {"max_new_tokens": 7, "seed": 3, "top_k": 20}
    assert complete(model, PROMPTS, **options) == complete(model, PROMPTS, **options, use_cache=False)
