import dataclasses

import pytest
import torch

from nnscratch import KeyValueCache, TransformerLM, generate, stream
from nnscratch.generation import next_token_probabilities


@pytest.mark.parametrize("changes", [{}, {"position": "none"}, {"norm": "post", "ffn": "silu"}, {"qk_norm": True}])
@pytest.mark.parametrize("prompt_length", [1, 5, 16, 20])
def test_greedy_output_does_not_depend_on_the_cache(config, changes, prompt_length):
    model = TransformerLM(dataclasses.replace(config, **changes))
    prompt = torch.randint(50, (3, prompt_length))
    options = {"max_new_tokens": 24, "temperature": 0.0}  # goes beyond the context of 16
    with_cache = generate(model, prompt, **options)
    assert torch.equal(with_cache, generate(model, prompt, **options, use_cache=False))
    assert with_cache.shape == (3, prompt_length + 24)
    assert torch.equal(with_cache[:, :prompt_length], prompt)
    ids = prompt
    for _ in range(24):
        ids = torch.cat((ids, model(ids[:, -16:])[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(with_cache, ids)


def test_cached_logits_are_those_of_the_whole_input(model):
    ids = torch.randint(50, (2, 16))
    cache = KeyValueCache(2, 16)
    parts = [model(part, cache) for part in ids.split((9, 1, 6), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=1e-5)
    assert (cache.length, cache.max_length) == (16, 16)
    with pytest.raises(ValueError, match="an input of 17 tokens is longer than context_length=16"):
        model(ids[:, :1], cache)
    cache.reset()
    assert cache.length == 0


def test_a_seed_repeats_a_draw_and_leaves_the_global_generator_alone(model):
    prompt = torch.tensor([[1, 2], [3, 4]])
    before = torch.get_rng_state()
    first = generate(model, prompt, max_new_tokens=30, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, generate(model, prompt, max_new_tokens=30, seed=5))
    assert not torch.equal(first, generate(model, prompt, max_new_tokens=30, seed=6))
    torch.manual_seed(1)
    unseeded = generate(model, prompt, max_new_tokens=30)
    torch.manual_seed(1)
    assert torch.equal(unseeded, generate(model, prompt, max_new_tokens=30))


def test_a_single_prompt_may_be_a_list(model):
    expected = generate(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4, temperature=0.0)
    assert torch.equal(generate(model, [1, 2, 3], max_new_tokens=4, temperature=0.0), expected)
    assert torch.equal(generate(model, torch.tensor([1, 2, 3]), max_new_tokens=4, temperature=0.0), expected)


def test_nothing_new(model):
    assert generate(model, [1, 2], max_new_tokens=0).tolist() == [[1, 2]]
    assert list(stream(model, [1, 2], max_new_tokens=0)) == []


def test_stream_gives_what_generate_adds(model):
    for seed in range(5):
        options = {"max_new_tokens": 30, "seed": seed, "eos_id": 7, "top_p": 0.9}
        assert list(stream(model, [1, 2], **options)) == generate(model, [1, 2], **options)[0, 2:].tolist()


def test_rows_end_with_the_end_of_text_token(model):
    prompt = torch.randint(50, (8, 3))
    result = generate(model, prompt, max_new_tokens=300, seed=0, eos_id=7)
    ended = 0
    for row in result[:, 3:].tolist():
        if 7 in row:
            ended += 1
            assert set(row[row.index(7) :]) == {7}
    assert ended == 8  # the chance of 300 draws without it is about 1 in 400 for each row
    assert result.shape[1] < 303


def test_generation_keeps_no_graph(model):
    model.train()
    assert not generate(model, [1], max_new_tokens=3).requires_grad
    assert torch.is_grad_enabled()
    steps = stream(model, [1], max_new_tokens=3)
    next(steps)
    assert torch.is_grad_enabled()


def test_draws_follow_the_model_s_probabilities(model):
    prompt = torch.full((4000, 1), 3)
    expected = next_token_probabilities(model(prompt[:1])[:, -1], 1.0)[0]
    drawn = generate(model, prompt, max_new_tokens=1, seed=0)[:, 1].bincount(minlength=50) / 4000
    assert (drawn - expected).abs().max() < 5 * (expected * (1 - expected) / 4000).sqrt().max()


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
    ],
)
def test_top_k_and_top_p(options, expected):
    result = next_token_probabilities(PROBABILITIES.log(), 1.0, **options)
    torch.testing.assert_close(result, torch.tensor([expected], dtype=torch.float32), atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [1e-6, 0.5, 2.0, 1e6])
def test_temperature(temperature):
    result = next_token_probabilities(PROBABILITIES.log(), temperature)
    powers = (
        PROBABILITIES.double() ** (1 / temperature) if temperature > 0.01 else torch.tensor([[0.0, 1, 0, 0]]).double()
    )
    torch.testing.assert_close(result.double(), powers / powers.sum(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([1], {"max_new_tokens": -1}, "max_new_tokens=-1 is negative; choose at least 0"),
        ([1], {"temperature": -0.1}, r"temperature=-0.1 is out of range; choose 0 \(greedy\) or a positive number"),
        ([1], {"top_k": 0}, "top_k=0 leaves no token; choose at least 1, or None for all"),
        ([1], {"top_p": 0.0}, "top_p=0.0 is out of range; choose a number above 0 and at most 1"),
        ([1], {"top_p": 1.5}, "top_p=1.5 is out of range"),
        ([], {}, r"prompt_ids of shape \(1, 0\) cannot be continued; pass \(batch, prompt\) with at least one token"),
        ([50], {}, "prompt_ids span 50 to 50, but vocab_size=50; encode with the model's tokenizer"),
        ([3, -1], {}, "prompt_ids span -1 to 3, but vocab_size=50"),
    ],
)
def test_what_cannot_be_continued_is_refused(model, prompt, options, message):
    options = {"max_new_tokens": 3} | options
    with pytest.raises(ValueError, match=message):
        generate(model, prompt, **options)
    with pytest.raises(ValueError, match=message):
        stream(model, prompt, **options)


def test_several_prompts_cannot_be_streamed(model):
    with pytest.raises(ValueError, match=r"prompt_ids of shape \(2, 1\) are several prompts; stream one, or use gen"):
        stream(model, torch.tensor([[1], [2]]), max_new_tokens=3)
