import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variants import VARIANTS, variant

from nnscratch import (
    KeyValueCache,
    TransformerConfig,
    TransformerLM,
    complete,
    generate,
    next_token_probabilities,
    stream,
    stream_with_logits,
)
from nnscratch.generation import stream_rows

SMALL = TransformerConfig(vocab_size=50, context_length=6, d_model=16, num_layers=2, num_heads=2, d_ff=24)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [12, 13]]


@torch.no_grad()
def alone(model, prompt, steps):
    """The definition of greedy generation: the whole window through the model for every token."""
    ids = torch.tensor([prompt])
    for _ in range(steps):
        ids = torch.cat((ids, model(ids[:, -model.config.context_length :])[:, -1:].argmax(-1)), dim=1)
    return ids[0].tolist()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_greedy_text_is_that_of_the_definition_with_and_without_cache(changes):
    model = variant(SMALL, changes)
    for length, new in ((1, 8), (8, 2)):  # beyond the context of 6, from the start or later
        prompt = torch.randint(50, (2, length))
        options = {"max_new_tokens": new, "temperature": 0.0}
        with_cache = generate(model, prompt, **options)
        assert torch.equal(with_cache, generate(model, prompt, **options, use_cache=False))
        assert with_cache.tolist() == [alone(model, row, new) for row in prompt.tolist()]


def test_nothing_is_dropped_and_modules_keep_their_modes():
    model = TransformerLM(dataclasses.replace(SMALL, dropout=0.5, attention_dropout=0.5))
    model.layers[0].attn.eval()
    modes = [module.training for module in model.modules()]
    prompt = torch.randint(50, (2, 3))
    written = generate(model, prompt, max_new_tokens=6, temperature=0.0)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(generate(model.eval(), prompt, max_new_tokens=6, temperature=0.0), written)
    model.train()
    model.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        generate(model, prompt, max_new_tokens=2)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_prompts_of_any_lengths_are_continued_as_each_alone(changes):
    model = variant(SMALL, changes)
    expected = [[49] * (5 - len(prompt)) + alone(model, prompt, 4) for prompt in PROMPTS]
    for use_cache in (True, False):
        options = {"max_new_tokens": 4, "temperature": 0.0, "use_cache": use_cache}
        assert generate(model, PROMPTS, **options, pad_id=49).tolist() == expected
        assert complete(model, PROMPTS, **options) == [row[5:] for row in expected]


@settings(max_examples=12, derandomize=True)
@given(
    prompts=st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=10), min_size=1, max_size=3),
    steps=st.integers(0, 6),
    use_cache=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_prompts_and_any_model(prompts, steps, use_cache, seed):
    torch.manual_seed(seed)
    model = TransformerLM(SMALL)
    written = complete(model, prompts, max_new_tokens=steps, temperature=0.0, use_cache=use_cache)
    assert written == [alone(model, prompt, steps)[len(prompt) :] for prompt in prompts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_does_not_depend_on_the_others(model, temperature):
    options = {"max_new_tokens": 12, "temperature": temperature, "seed": 3, "top_k": 20, "top_p": 0.9}
    written = complete(model, PROMPTS, **options)
    assert complete(model, PROMPTS[:2], **options) == written[:2]
    assert complete(model, [PROMPTS[0], [9] * 12, *PROMPTS[2:], [7]], **options)[2:4] == written[2:]
    assert complete(model, PROMPTS, **options | {"max_new_tokens": 7}) == [row[:7] for row in written]
    assert list(stream(model, PROMPTS[0], **options)) == written[0]
    assert complete(model, PROMPTS, **options, eos_id=5) == [
        row[: row.index(5) + 1] if 5 in row else row for row in written
    ]


def test_equal_prompts_get_different_samples(model):
    written = complete(model, [[1, 2]] * 8, max_new_tokens=20, seed=0)
    assert len({tuple(row) for row in written}) == 8


def test_nothing_new(model):
    prompt = torch.tensor([1, 2])
    result = generate(model, prompt, max_new_tokens=0)
    assert result.tolist() == [[1, 2]]
    assert result.data_ptr() != prompt.data_ptr()
    assert generate(model, [[1], [2, 3]], max_new_tokens=0, pad_id=9).tolist() == [[9, 1], [2, 3]]
    assert list(stream(model, [1, 2], max_new_tokens=0)) == []
    assert complete(model, [[1], [2, 3]], max_new_tokens=0) == [[], []]


def test_a_seed_repeats_a_draw_and_leaves_the_global_generator_alone(model):
    prompt = torch.tensor([[1, 2], [3, 4]])
    before = torch.get_rng_state()
    first = generate(model, prompt, max_new_tokens=20, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(first, generate(model, prompt, max_new_tokens=20, seed=5))
    assert not torch.equal(first, generate(model, prompt, max_new_tokens=20, seed=6))
    torch.manual_seed(1)
    unseeded = generate(model, prompt, max_new_tokens=30)
    assert not torch.equal(unseeded, generate(model, prompt, max_new_tokens=30))
    torch.manual_seed(1)
    assert torch.equal(unseeded, generate(model, prompt, max_new_tokens=30))
    before = torch.get_rng_state()
    generate(model, prompt, max_new_tokens=3, temperature=0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_stream_gives_what_generate_adds_as_it_comes(model, monkeypatch):
    for seed in range(2):
        options = {"max_new_tokens": 20, "seed": seed, "eos_id": 7, "top_p": 0.9}
        assert list(stream(model, [1, 2], **options)) == generate(model, [1, 2], **options)[0, 2:].tolist()
    inputs = []
    monkeypatch.setattr(model, "next_token_logits", lambda ids, *rest, **more: inputs.append(ids) or torch.zeros(1, 50))
    tokens = stream(model, [1, 2], max_new_tokens=10**12, use_cache=False)
    assert len(inputs) == 0
    next(tokens)
    assert len(inputs) == 1
    for _ in range(20):
        next(tokens)
    assert inputs[-1].shape == (1, 16)


def test_stream_with_logits_gives_the_tokens_of_stream_and_the_logits_of_the_text_before_each(model):
    prompt, window = [1, 2], model.config.context_length
    for temperature in (0.0, 1.5):
        options = {"max_new_tokens": window + 5, "temperature": temperature, "top_k": 20, "seed": 3, "eos_id": 7}
        steps = list(stream_with_logits(model, prompt, **options))
        tokens = [token for token, _ in steps]
        assert tokens == list(stream(model, prompt, **options))
        for index, (token, logits) in enumerate(steps):
            ids = torch.tensor([prompt + tokens[:index]])[:, -window:]
            torch.testing.assert_close(logits, model(ids)[0, -1].detach(), atol=1e-5, rtol=1e-5)
            chances = next_token_probabilities(logits[None], temperature or 1.0, top_k=20)[0]
            assert chances[token] > 0
            assert temperature > 0 or chances[token] == chances.max()
    with pytest.raises(ValueError, match="several prompts"):
        stream_with_logits(model, [[1], [2]], max_new_tokens=1)


def test_rows_end_with_the_end_of_text_token():
    model = TransformerLM(dataclasses.replace(SMALL, vocab_size=6))
    prompt = torch.randint(5, (6, 3))
    options = {"max_new_tokens": 60, "temperature": 2.0, "seed": 0, "eos_id": 5}
    result, written = generate(model, prompt, **options), complete(model, prompt, **options)
    assert len({len(tokens) for tokens in written}) > 1
    for row, tokens in zip(result[:, 3:].tolist(), written, strict=True):
        end = row.index(5) + 1
        assert set(row[end:]) <= {5}
        assert tokens == row[:end]
    assert result.shape[1] == 3 + max(len(tokens) for tokens in written)


@pytest.mark.parametrize("training", [True, False])
def test_generation_keeps_no_graph_and_its_result_can_be_trained_on(model, training):
    model.train(training)
    result = generate(model, [1], max_new_tokens=3)
    assert not result.requires_grad
    assert not result.is_inference()
    assert torch.is_grad_enabled()
    assert model.training is training
    steps = stream(model, [1], max_new_tokens=3)
    next(steps)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    model.loss(result[:, :-1], result[:, 1:]).backward()


def test_cached_logits_equal_those_of_a_single_call(model):
    ids = torch.randint(50, (2, 16))
    cache = KeyValueCache(2, 16)
    parts = [model(part, cache) for part in ids.split((9, 1, 6), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=1e-5)
    assert (cache.length, cache.max_length) == (16, 16)
    with pytest.raises(ValueError, match="an input of 17 tokens exceeds context_length=16"):
        model(ids[:, :1], cache)
    cache.reset()
    assert cache.length == 0
    torch.testing.assert_close(model.next_token_logits(ids, cache), model(ids)[:, -1])


def test_padding_changes_no_logit_of_a_token(model):
    ids, padding = torch.randint(50, (3, 9)), torch.tensor([0, 4, 8])
    cache = KeyValueCache(2, 9)
    parts = [model(part, cache, padding) for part in ids.split((6, 2, 1), dim=1)]
    for logits in (model(ids, padding=padding), torch.cat(parts, dim=1)):
        for index, start in enumerate(padding.tolist()):
            expected = model(ids[index : index + 1, start:])[0]
            torch.testing.assert_close(logits[index, start:], expected, atol=1e-5, rtol=1e-5)
    assert logits.isfinite().all()


def test_bfloat16_weights(model):
    model.bfloat16()
    options = {"max_new_tokens": 24, "temperature": 0.0}
    result = generate(model, [[1, 2, 3]], **options)
    assert result.shape == (1, 27)
    ids = result[:, :16]
    cache = KeyValueCache(2, 16)
    parts = torch.cat([model(part, cache) for part in ids.split(1, dim=1)], dim=1)
    torch.testing.assert_close(parts, model(ids), atol=0.1, rtol=0.1)
    assert generate(model, PROMPTS, max_new_tokens=3, seed=0).shape == (4, 8)


def test_draws_follow_the_model_s_probabilities(model):
    prompt = torch.full((4000, 1), 3)
    expected = next_token_probabilities(model(prompt[:1])[:, -1], 1.0)[0]
    drawn = generate(model, prompt, max_new_tokens=1, seed=0)[:, 1].bincount(minlength=50) / 4000
    assert (drawn - expected).abs().max() < 5 * (expected * (1 - expected) / 4000).sqrt().max()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_not_finite_are_refused(model, temperature):
    with torch.no_grad():
        model.token_embeddings.weight[7] = math.nan
    with pytest.raises(ValueError, match="scores of the next token of row 1 are not finite; its weights have diverged"):
        generate(model, [[1], [7]], max_new_tokens=3, temperature=temperature)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_can_be_followed_step_by_step(model, temperature):
    options = {"max_new_tokens": 20, "temperature": temperature, "seed": 3, "top_k": 20}
    steps = list(stream_rows(model, [[1, 2, 3], [4]], **options))
    assert [list(row) for row in zip(*steps, strict=True)] == complete(model, [[1, 2, 3], [4]], **options)
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        stream_rows(model, [[1]], max_new_tokens=-1)
