"""The reference agrees with torch, and the fast code with the reference."""

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import nnscratch
from nnscratch import TransformerConfig, TransformerLM, reference
from nnscratch.attention_kernels import causal_attention
from nnscratch.functional import rms_norm
from nnscratch.generation.sampling import next_token_probabilities


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(ours, theirs, tolerance=1e-12):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_the_fast_code_points_to_each_function():
    sources = Path(nnscratch.__file__).parent.rglob("*.py")
    texts = "".join(path.read_text("utf-8") for path in sources)
    names = [name for name, value in vars(reference).items() if inspect.isfunction(value) and name[0] != "_"]
    assert len(names) > 15
    assert [name for name in names if not re.search(rf"nnscratch\.reference\.{name}\b", texts)] == []


def test_layers_are_those_of_torch():
    x, weight, gain = normal(2, 5, 8), normal(6, 8, seed=1), normal(8, seed=2)
    close(reference.linear(x, weight), functional.linear(x, weight))
    ids = torch.tensor([[3, 0], [5, 5]])
    close(reference.embedding(ids, weight), functional.embedding(ids, weight))
    close(reference.rms_norm(x, gain), functional.rms_norm(x, (8,), gain, eps=1e-5))
    close(reference.silu(x), functional.silu(x))
    close(reference.softmax(x + 100, 1), functional.softmax(x, 1))


def test_attention_is_that_of_torch():
    q, k, v = normal(2, 3, 7, 4), normal(2, 3, 9, 4, seed=1), normal(2, 3, 9, 5, seed=2)
    mask = torch.rand(7, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    mask[:, 0] = True
    close(reference.attention(q, k, v), functional.scaled_dot_product_attention(q, k, v))
    close(reference.attention(q, k, v, mask), functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def test_windows_documents_and_groups_are_masks_and_repeated_heads():
    token_ids = torch.tensor([[5, 1, 2, 3, 1, 4, 4, 4, 4], [1, 1, 2, 2, 2, 2, 2, 2, 1]])
    mask = reference.attention_mask(token_ids, window=4, separator=1)
    starts = [[0, 1, 1, 1, 4, 4, 4, 4, 4], [0, 1, 1, 1, 1, 1, 1, 1, 8]]
    expected = [
        [[start <= key <= query < key + 4 for key in range(9)] for query, start in enumerate(row)] for row in starts
    ]
    assert mask.tolist() == expected
    q, k, v = normal(2, 6, 9, 4), normal(2, 3, 9, 4, seed=1), normal(2, 3, 9, 5, seed=2)
    repeated = [y.repeat_interleave(2, dim=1) for y in (k, v)]
    plain = reference.attention(q, *repeated, mask[:, None])
    close(plain, functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=True))
    first_keys = torch.maximum(torch.tensor(starts), torch.arange(9) - 3)
    close(causal_attention(q, k, v, first_keys), plain)


@pytest.mark.parametrize("n", [2, 3])
def test_ngrams_are_those_of_the_layer(n):
    token_ids, layer = torch.randint(50_000, (2, 9)), nnscratch.HashedNGramEmbedding(n, 97, 4)
    layer.weight.data.normal_()
    close(reference.ngram_embedding(token_ids, layer.weight, n), layer(token_ids))
    hashed = 0
    for index in token_ids[1, 4 - n + 1 : 5].tolist():
        hashed = (hashed + index + 1) * 2_654_435_761 // 2**16 % 2**31
    close(reference.ngram_embedding(token_ids, layer.weight, n)[1, 4], layer.weight[1 + hashed % 96])


@pytest.mark.parametrize(("n", "min_count", "most"), [(2, 1, 500), (2, 3, 500), (2, 2, 20), (3, 2, 500), (3, 9, 500)])
def test_frequent_ngrams_are_those_of_the_layer(n, min_count, most):
    text = torch.randint(9, (400,))
    layer = nnscratch.FrequentNGramEmbedding(n, most + 1, 4, vocab_size=9)
    layer.weight.data.normal_()
    layer.learn_ngrams(text, min_count)
    rows = reference.frequent_ngrams(text.tolist(), n, min_count, most)
    vectors = layer(text.view(1, -1))[0]
    for end in range(len(text)):
        ngram = tuple(text[max(0, end - n + 1) : end + 1].tolist())
        assert torch.equal(vectors[end], layer.weight[rows.get(ngram, 0)]), (end, ngram)


def test_rotations_are_complex_products():
    """Relative positions alone decide the products of queries and keys."""
    x, y, positions = normal(5, 6), normal(5, 6, seed=1), torch.tensor([0, 1, 2, 40, 7])
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, 6, 2, dtype=torch.float64) / 6)
    expected = torch.view_as_complex(x.view(5, 3, 2)) * torch.polar(torch.ones_like(angles), angles)
    close(reference.rotate(x, positions), torch.view_as_real(expected).flatten(-2), 1e-6)
    products = [(reference.rotate(x, positions + by) @ reference.rotate(y, positions + by).T) for by in (0, 13)]
    close(*products, 1e-5)


@pytest.mark.parametrize("changes", [{}, {"position": "none"}, {"num_kv_heads": 2, "head_size": 10}], ids=str)
def test_the_model_is_the_reference(changes):
    config = TransformerConfig(
        vocab_size=50,
        context_length=16,
        d_model=24,
        num_layers=3,
        num_heads=4,
        d_ff=40,
        rope_theta=500.0,
        **changes,
    )
    torch.manual_seed(0)
    model = TransformerLM(config)
    for parameter in model.parameters():  # gains that are not 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.state_dict().items()}
    ids, targets = torch.randint(50, (2, 2, 16), generator=torch.Generator().manual_seed(1))
    logits = reference.transformer_lm(ids, weights, config)
    close(model(ids), logits, 1e-4)
    loss = reference.cross_entropy(logits, targets)
    close(model.loss(ids, targets), loss, 1e-5)
    loss.backward()
    model.loss(ids, targets).backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, weights[name].grad, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fast_layers_are_the_reference(dtype):
    x, gain = normal(2, 5, 8).to(dtype), normal(8, seed=1).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    close(rms_norm(x, gain, 1e-5), reference.rms_norm(x, gain), tolerance)
    large = x * 1000
    assert torch.isfinite(reference.rms_norm(large, gain)).all()
    weights = [normal(*shape, seed=seed).to(dtype) for seed, shape in enumerate([(12, 8), (8, 12), (12, 8)])]
    layer = nnscratch.SwiGLU(8, 12, dtype=dtype)
    layer.load_state_dict({f"w{number}.weight": weight for number, weight in enumerate(weights, 1)})
    close(layer(x), reference.swiglu(x, *weights), 20 * tolerance)


def test_losses_are_those_of_torch():
    logits, targets = normal(4, 6, 9) * 1000, torch.arange(24).view(4, 6) % 9
    close(
        reference.cross_entropy(logits, targets),
        functional.cross_entropy(logits.flatten(0, 1), targets.flatten()),
        1e-10,
    )
    close(reference.perplexity(torch.tensor(2.0)), torch.tensor(math.e**2), 1e-5)


def test_adamw_is_that_of_torch():
    param, settings = normal(3, 4), {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.3}
    theirs = nn.Parameter(param.clone())
    optimizer = torch.optim.AdamW([theirs], **settings)
    m = v = torch.zeros_like(param)
    for t in range(1, 6):
        grad = normal(3, 4, seed=t)
        param, m, v = reference.adamw(param, grad, m, v, t, **settings)
        theirs.grad = grad
        optimizer.step()
        close(param, theirs.detach())


def test_sgd_schedule_and_clipping_are_those_of_the_package():
    ours, theirs = normal(3, 4), nn.Parameter(normal(3, 4))
    optimizer = nnscratch.SGD([theirs], lr=0.5)
    for t in range(3):
        ours = reference.sgd(ours, normal(3, 4, seed=t), t, 0.5)
        theirs.grad = normal(3, 4, seed=t)
        optimizer.step()
    close(ours, theirs.detach())
    settings = {"max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 7, "decay_steps": 21}
    for step in range(25):  # the handout's test
        expected = nnscratch.cosine_schedule(step, **settings)
        assert reference.cosine_schedule(step, **settings) == pytest.approx(expected, abs=1e-12)
    grads = [normal(3, 4), normal(5, seed=1)]
    params = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for max_norm in (0.5, 100.0):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        nnscratch.clip_grad_norm(params, max_norm)
        for param, clipped in zip(params, reference.clip_gradients(grads, max_norm), strict=True):
            close(param.grad, clipped)


@pytest.mark.parametrize("top_p", [0.05, 0.6, 0.9, 1.0])
def test_decoding_is_the_reference(top_p):
    logits = normal(11).float()
    logits[3] = logits[8] = logits.max()  # equals: the lower id first
    expected = reference.next_token_probabilities(logits, 0.7, top_p)
    close(next_token_probabilities(logits[None], 0.7, top_p=top_p)[0], expected, 1e-6)
