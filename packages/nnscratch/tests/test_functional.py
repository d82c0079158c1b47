import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd

from nnscratch import cross_entropy, silu, softmax
from nnscratch.functional import dropout, embedding, ngram_rows, relu_squared, silu_gate, sparse_embedding

values = st.floats(-50, 50, width=32)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("dim", [0, -1])
def test_softmax(shape, dim):
    x = torch.randn(shape)
    torch.testing.assert_close(softmax(x, dim), F.softmax(x, dim), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(softmax(x + 100, dim), F.softmax(x, dim), atol=1e-5, rtol=0)


@given(st.lists(values, min_size=1, max_size=20), st.sampled_from([0, 100, -1000]))
def test_softmax_is_a_distribution_that_no_shift_changes(row, shift):
    x = torch.tensor(row, dtype=torch.float64)
    result = softmax(x, 0)
    assert result.min() >= 0
    assert result.sum() == pytest.approx(1)
    torch.testing.assert_close(softmax(x + shift, 0), result, atol=1e-9, rtol=1e-9)


@given(st.lists(values, min_size=2, max_size=20))
def test_softmax_and_cross_entropy_do_not_overflow(row):
    x = torch.tensor(row) * 1000
    assert softmax(x, 0).isfinite().all()
    assert cross_entropy(x[None], torch.tensor([0])).isfinite()


def test_softmax_with_masked_entries():
    x = torch.tensor([[0.0, -math.inf], [-math.inf, -math.inf]])
    torch.testing.assert_close(softmax(x, -1), F.softmax(x, -1), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_of_narrow_types_is_computed_in_float32(dtype):
    x = torch.randn(4, 300).to(dtype)
    assert torch.equal(softmax(x, -1), softmax(x.float(), -1).to(dtype))


@pytest.mark.parametrize("function", [lambda x: softmax(x, 1), silu])
def test_gradients(function):
    assert torch.autograd.gradcheck(function, torch.randn(3, 4, dtype=torch.float64, requires_grad=True))


def test_silu():
    x = torch.cat((torch.randn(100), torch.tensor([-1e4, 0.0, 1e4])))
    torch.testing.assert_close(silu(x), F.silu(x), atol=1e-6, rtol=1e-6)


def test_silu_gate():
    x, y = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True).unbind()
    torch.testing.assert_close(silu_gate(x, y), F.silu(x) * y)
    assert torch.autograd.gradcheck(silu_gate, (x.detach().requires_grad_(), y.detach().requires_grad_()))


def test_relu_squared():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(relu_squared(x), F.relu(x).square())
    assert torch.autograd.gradcheck(relu_squared, x)
    with torch.no_grad():
        torch.testing.assert_close(relu_squared(x), F.relu(x).square())


def test_second_derivatives_are_refused_rather_than_wrong(model, config):
    loss = model.loss(*torch.randint(config.vocab_size, (2, 1, 8)))
    grad = torch.autograd.grad(loss, model.ln_final.weight, create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"does not require grad|once_differentiable"):
        grad.sum().backward()


def test_dropout_keeps_a_share_of_the_numbers_and_their_mean():
    x = torch.full((200, 500), 2.0, requires_grad=True)
    y = dropout(x, 0.2, training=True)
    assert set(y.unique().tolist()) == {0.0, 2.5}
    # The share of zeros has standard deviation sqrt(0.2 · 0.8 / 100,000) = 0.0013.
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.008)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 1.25))
    assert not torch.equal(y, dropout(x, 0.2, training=True))


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_dropout_returns_its_input_outside_of_training_and_without_a_share(p, training):
    x = torch.randn(3, 4)
    assert dropout(x, p, training) is x


def row_of(ngram, rows):
    """The documented hash in Python's integers, which cannot overflow."""
    if min(ngram) < 0:
        return 0
    hashed = 0
    for index in ngram:
        product = (hashed + index + 1) * 2_654_435_761
        assert product < 2**63
        hashed = (product >> 16) % 2**31
    return 1 + hashed % (rows - 1)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(st.lists(st.integers(-1, 2**30 - 1), min_size=n, max_size=n), min_size=1)
    ),
    st.integers(2, 2**31),
)
def test_rows_of_ngrams_are_the_documented_hash(ngrams, rows):
    found = ngram_rows(torch.tensor(ngrams).T, rows)
    assert found.tolist() == [row_of(ngram, rows) for ngram in ngrams]
    assert int(found.min()) >= 0
    assert int(found.max()) < rows


def test_rows_of_ngrams_never_change():
    ngrams = torch.tensor([[0, 0, 0], [0, 0, 1], [17, 4, 9_999], [31_999, 50_256, 2**30 - 1], [5, -1, 5]])
    rows = [6205, 46_708, 14_672, 16_921, 0]
    assert ngram_rows(ngrams.T, 50_000).tolist() == rows
    assert ngram_rows(ngrams.T.int(), 50_000).tolist() == rows


@pytest.mark.parametrize("rows", [4097, 5000])
@pytest.mark.parametrize("n", [2, 3])
def test_ngrams_spread_evenly_over_the_rows(n, rows):
    ids = torch.cartesian_prod(*[torch.arange(60 if n == 3 else 450)] * n)
    counts = ngram_rows(ids.T, rows).bincount(minlength=rows)
    expected = len(ids) / (rows - 1)
    assert counts[0] == 0
    # Pearson's statistic of an ideal hash is about rows, give or take sqrt(2 rows).
    statistic = float(((counts[1:] - expected) ** 2 / expected).sum())
    assert statistic < rows + 10 * math.sqrt(2 * rows)


@given(st.lists(st.integers(0, 6), min_size=0, max_size=12), st.integers(1, 3))
def test_sparse_gradients_are_those_of_embedding(ids, width):
    ids = torch.tensor(ids, dtype=torch.int64).view(1, -1)
    weight = torch.randn(7, width, requires_grad=True)
    peer = weight.detach().clone().requires_grad_()
    grad = torch.randn(*ids.shape, width)
    sparse_embedding(ids, weight).backward(grad)
    F.embedding(ids, peer).backward(grad)
    assert weight.grad.is_sparse
    assert weight.grad._indices()[0].tolist() == sorted(set(ids.flatten().tolist()))
    torch.testing.assert_close(weight.grad.to_dense(), peer.grad)


def test_gradients_of_a_table_are_dense_on_other_devices():
    """NCCL and MPS have no sparse tensors. The device without memory stands for them."""
    weight = torch.zeros(7, 2, device="meta", requires_grad=True)
    sparse_embedding(torch.tensor([1], device="meta"), weight).sum().backward()
    assert not weight.grad.is_sparse


def test_sparse_embedding_names_an_id_outside_the_table():
    with pytest.raises(IndexError, match="token_ids range from 1 to 7, expected 0 to 6"):
        sparse_embedding(torch.tensor([1, 7]), torch.zeros(7, 2, requires_grad=True))


def test_compiled_rows_of_a_table_are_looked_up_again_instead_of_kept(unchecked_shapes):
    ids, table, gates = torch.randint(20, (4, 32)), torch.randn(20, 16), torch.randn(4, 32, 1)
    kept = []

    def forward(module, inputs):
        output = next(node for node in module.graph.nodes if node.op == "output")
        kept.extend(tuple(node.meta["val"].shape) for node in output.args[0][1:])
        return make_boxed_func(module.forward)

    backend = aot_autograd(
        fw_compiler=forward,
        bw_compiler=lambda module, inputs: make_boxed_func(module.forward),
        partition_fn=min_cut_rematerialization_partition,
    )

    def loss(table, gates):
        return (embedding(ids, table) * gates).square().sum()

    torch.compiler.reset()
    grads = []
    for function in (loss, torch.compile(loss, backend=backend, fullgraph=True)):
        leaves = [tensor.clone().requires_grad_() for tensor in (table, gates)]
        grads.append(torch.autograd.grad(function(*leaves), leaves))
    torch.testing.assert_close(grads[1], grads[0])
    assert kept
    assert (4, 32, 16) not in kept
    assert (128, 16) not in kept
