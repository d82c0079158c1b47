import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from nnscratch import (
    Embedding,
    FrequentNGramEmbedding,
    HashedNGramEmbedding,
    Linear,
    ReLUSquaredFeedForward,
    RMSNorm,
    SiLUFeedForward,
    SwiGLU,
)
from nnscratch.functional import ngram_rows
from nnscratch.layers import NGramEmbeddings


def test_linear():
    layer, x = Linear(6, 4), torch.randn(2, 3, 6)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight), atol=1e-6, rtol=1e-6)
    assert layer.weight.shape == (4, 6)
    assert list(layer.state_dict()) == ["weight"]


def test_linear_with_a_bias():
    layer, x = Linear(6, 4, bias=True), torch.randn(2, 3, 6)
    assert torch.equal(layer.bias, torch.zeros(4))
    layer.bias.data.normal_()
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6, rtol=1e-6)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 6.0))


@pytest.mark.parametrize(
    ("layer", "std"),
    [(Linear(600, 200), math.sqrt(2 / 800)), (Embedding(600, 200), 1.0), (Embedding(600, 200, std=0.1), 0.1)],
)
def test_weights_are_normal_and_cut_off_at_three_sigma(layer, std):
    weight = layer.weight.detach()
    assert weight.abs().max() <= 3 * std
    assert weight.abs().max() > 2.9 * std
    assert weight.mean().item() == pytest.approx(0, abs=0.02 * std)
    assert weight.std().item() == pytest.approx(0.9866 * std, rel=0.02)  # of a normal cut off at 3 sigma


@pytest.mark.parametrize("build", [lambda **kw: Linear(4, 2, **kw), lambda **kw: Embedding(4, 2, **kw)])
def test_device_and_dtype(build):
    weight = build(device="meta", dtype=torch.bfloat16).weight
    assert weight.device.type == "meta"
    assert weight.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 2), (0,), ()])
def test_embedding(shape):
    layer, ids = Embedding(10, 4), torch.randint(10, shape)
    assert torch.equal(layer(ids), F.embedding(ids, layer.weight))
    layer(ids).square().sum().backward()
    (expected,) = torch.autograd.grad(F.embedding(ids, layer.weight).square().sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, expected)


def test_embedding_refuses_unknown_ids():
    with pytest.raises(IndexError):
        Embedding(10, 4)(torch.tensor([10]))


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (0, 8)])
def test_rms_norm(shape):
    layer, x = RMSNorm(8), torch.randn(shape, requires_grad=True)
    nn.init.normal_(layer.weight)
    expected = F.rms_norm(x, (8,), layer.weight, eps=1e-5)
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-6)
    grad = torch.randn(shape)
    for ours, exact in zip(
        torch.autograd.grad(layer(x), (x, layer.weight), grad),
        torch.autograd.grad(expected, (x, layer.weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_without_a_gain_equals_one_with_a_gain_of_one(dtype):
    layers = RMSNorm(8), RMSNorm(8, gain=False)
    assert not list(layers[1].parameters())
    x = torch.randn(3, 5, 8, dtype=dtype)
    grad, kept = torch.randn(2, 3, 5, 8, dtype=dtype)
    results = []
    for layer in layers:
        given, x = grad.clone(), x.detach().requires_grad_()
        result = layer(x)
        result.backward(given)
        assert torch.equal(given, grad)  # which belongs to whoever computed it
        results.append((result, x.grad))
    for one, without in zip(*results, strict=True):
        assert torch.equal(one, without)
    with torch.no_grad():
        assert torch.equal(layers[1](kept), layers[0](kept))


def test_rms_norm_gradcheck():
    layer = RMSNorm(5, dtype=torch.float64)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    function = lambda x, weight: torch.func.functional_call(layer, {"weight": weight}, x)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, weight))


def test_rms_norm_computes_in_float32():
    layer, x = RMSNorm(64), 300 * torch.randn(4, 64)
    result = layer(x.half())  # squares beyond the range of float16
    assert result.dtype == torch.float16
    torch.testing.assert_close(result, layer(x.half().float()).half(), atol=1e-3, rtol=1e-3)
    assert RMSNorm(8)(torch.zeros(8)).eq(0).all()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            SwiGLU(8, 24),
            lambda m, x: F.linear(F.silu(F.linear(x, m.w1.weight)) * F.linear(x, m.w3.weight), m.w2.weight),
        ),
        (SiLUFeedForward(8, 24), lambda m, x: F.linear(F.silu(F.linear(x, m.w1.weight)), m.w2.weight)),
        (ReLUSquaredFeedForward(8, 24), lambda m, x: F.linear(F.relu(F.linear(x, m.w1.weight)) ** 2, m.w2.weight)),
    ],
)
def test_feed_forward(layer, expected):
    x = torch.randn(2, 3, 8, requires_grad=True)
    torch.testing.assert_close(layer(x), expected(layer, x), atol=1e-5, rtol=1e-5)
    grads = torch.autograd.grad(layer(x).square().sum(), (x, *layer.parameters()))
    exact = torch.autograd.grad(expected(layer, x).square().sum(), (x, *layer.parameters()))
    for ours, theirs in zip(grads, exact, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2, 32, 33])
def test_linear_for_the_few_vectors_of_a_generation_step(rows):
    layer = Linear(256, 300)
    x = torch.randn(rows, 1, 256)
    with torch.no_grad():
        result = layer(x)
        torch.testing.assert_close(result, F.linear(x, layer.weight), atol=1e-6, rtol=1e-5)
    assert result.shape == (rows, 1, 300)
    assert layer(x).requires_grad


def test_layers_without_gradients_compute_the_same():
    x, norm, ffn = torch.randn(3, 5, 16), RMSNorm(16), SwiGLU(16, 24)
    with torch.no_grad():
        results = norm(x), ffn(x)
    torch.testing.assert_close(results, (norm(x).detach(), ffn(x).detach()), atol=0, rtol=0)


def filled_ngrams(n, rows=97):
    layer = HashedNGramEmbedding(n, rows, 4)
    layer.weight.data.normal_()
    return layer


def filled_frequent_ngrams(n, rows=97):
    """Half of the n-grams of few tokens are frequent."""
    layer = FrequentNGramEmbedding(n, rows, 4, vocab_size=50)
    layer.weight.data.normal_()
    layer.learn_ngrams(torch.randint(6, (400,)), min_count=3)
    return layer


@pytest.mark.parametrize("n", [2, 3, 4])
def test_ngram_embeddings_depend_on_the_last_tokens_alone(n):
    layer = filled_ngrams(n)
    ids = torch.randint(50, (3, 9))
    vectors = layer(ids)
    for row in range(3):
        for place in range(9):
            if place < n - 1:
                expected = layer.weight[0]
            else:
                ngram = ids[row, place - n + 1 : place + 1].unsqueeze(1)
                expected = layer.weight[ngram_rows(ngram, 97)[0]]
            assert torch.equal(vectors[row, place], expected)
    assert torch.equal(layer(ids.to(torch.int32)), vectors)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("filled", [filled_ngrams, filled_frequent_ngrams])
def test_ngram_embeddings_continue_after_a_cache_or_padding(filled, n):
    layer = filled(n)
    ids = torch.randint(6, (2, 9))
    whole = layer(ids)
    for split in range(1, 9):
        previous = torch.cat((torch.full((2, n - 1), -1), ids[:, :split]), dim=1)[:, -(n - 1) :]
        assert torch.equal(layer(ids[:, split:], previous_ids=previous), whole[:, split:])
    padded = torch.cat((torch.randint(6, (2, 4)), ids), dim=1)
    positions = (torch.arange(13) - 4).clamp(min=0).expand(2, -1)
    assert torch.equal(layer(padded, positions)[:, 4:], whole)


def test_ngram_embeddings_start_at_zero_and_learn():
    layer = HashedNGramEmbedding(2, 97, 4)
    ids = torch.randint(50, (2, 9))
    assert not layer(ids).any()
    layer(ids).sum().backward()
    used = ngram_rows(torch.stack((ids[:, :-1], ids[:, 1:])), 97).flatten()
    counts = torch.cat((torch.zeros(2, dtype=torch.long), used)).bincount(minlength=97)  # no predecessor: row 0
    assert layer.weight.grad.is_sparse
    assert torch.equal(layer.weight.grad.to_dense(), counts.float().unsqueeze(1).expand(97, 4))


def test_frequent_ngrams_have_rows_of_their_own_and_the_others_share_one():
    layer = FrequentNGramEmbedding(2, 4, 3, vocab_size=50)
    assert not layer(torch.randint(50, (2, 9))).any()
    assert layer.numbers.tolist() == [2**63 - 1] * 3
    layer.weight.data.normal_()
    ids = torch.tensor([[7, 8, 9, 7, 8, 9, 1]])
    assert torch.equal(layer(ids), layer.weight[0].expand(1, 7, 3))  # nothing is known yet
    layer.learn_ngrams(torch.tensor([7, 8, 7, 8, 9, 7, 5, 5, 5]), min_count=2)  # 7 8 and 8 ... 5 5 twice, 8 9 once
    assert layer.numbers.tolist() == [5 * 50 + 5, 7 * 50 + 8, 2**63 - 1]
    assert torch.equal(layer(ids)[0], layer.weight[torch.tensor([0, 2, 0, 0, 2, 0, 0])])
    layer(ids).sum().backward()
    assert layer.weight.grad.to_dense()[:, 0].tolist() == [5.0, 0.0, 2.0, 0.0]
    layer.learn_ngrams(torch.tensor([1, 2, 3, 4, 5, 6]), min_count=1)  # five, of which three have room
    assert layer.numbers.tolist() == [1 * 50 + 2, 2 * 50 + 3, 3 * 50 + 4]
    layer.learn_ngrams(torch.tensor([7]), min_count=1)
    assert layer.numbers.tolist() == [2**63 - 1] * 3


def test_frequent_ngrams_are_in_the_state_dict():
    layer, other = filled_frequent_ngrams(3), FrequentNGramEmbedding(3, 97, 4, vocab_size=50)
    other.load_state_dict(layer.state_dict())
    ids = torch.randint(6, (2, 30))
    assert torch.equal(other(ids), layer(ids))
    assert len(layer(ids).flatten(0, 1).unique(dim=0)) > 9


def test_both_kinds_of_tables_learn_the_ngrams_of_a_text():
    text = torch.randint(6, (200,))
    layer = NGramEmbeddings((2, 3), 97, 4, min_count=3, vocab_size=50)
    layer.learn_ngrams(text)
    for n, table in layer.items():
        expected = FrequentNGramEmbedding(int(n), 97, 4, vocab_size=50)
        expected.learn_ngrams(text, 3)
        assert torch.equal(table.numbers, expected.numbers)
    hashed = NGramEmbeddings((2, 3), 97, 4)
    before = {name: value.clone() for name, value in hashed.state_dict().items()}
    hashed.learn_ngrams(text)
    assert before.keys() == {"2.weight", "3.weight"}
    torch.testing.assert_close(hashed.state_dict(), before)


def test_ngram_dropout_takes_whole_positions_in_training_only():
    layer = NGramEmbeddings((2, 3), 97, 4, dropout=0.3)
    for table in layer.values():
        torch.nn.init.normal_(table.weight)
    ids = torch.arange(4000).reshape(2, 2000) % 50
    whole = layer.eval()(ids)
    torch.manual_seed(0)
    dropped = layer.train()(ids)
    kept = dropped.ne(0).any(-1)
    assert torch.equal(dropped[kept], whole[kept])
    assert not dropped[~kept].any()
    assert 0.66 < kept.float().mean() < 0.74


@pytest.mark.parametrize("filled", [filled_ngrams, filled_frequent_ngrams])
def test_compiled_ngram_embeddings_have_a_dense_gradient(unchecked_shapes, filled):
    layer = filled(3)
    ids = torch.randint(6, (2, 9))
    layer(ids).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad.to_dense(), None
    torch.compiler.reset()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(ids).square().sum().backward()
    assert not layer.weight.grad.is_sparse
    torch.testing.assert_close(layer.weight.grad, expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HashedNGramEmbedding(1, 10, 4), "n=1 is out of range; choose 2 for bigrams"),
        (lambda: HashedNGramEmbedding(2, 1, 4), r"rows=1 is out of range; choose 2 to 2\*\*31"),
        (lambda: filled_ngrams(3)(torch.zeros(2, 5)), "token_ids has dtype torch.float32, expected integers"),
        (
            lambda: filled_ngrams(3)(
                torch.zeros(2, 5, dtype=torch.long), previous_ids=torch.zeros(2, 1, dtype=torch.long)
            ),
            r"previous_ids has shape \(2, 1\), expected \(2, 2\)",
        ),
    ],
)
def test_ngram_arguments_out_of_range_are_refused(unchecked_shapes, build, message):
    with pytest.raises(ValueError, match=message):
        build()
