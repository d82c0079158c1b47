"""The Triton kernels against torch's attention in float64: on a CPU in Triton's interpreter, on a GPU compiled."""

import os
from importlib.metadata import version

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from nnscratch.attention_kernels import triton_backward, triton_forward
from nnscratch.attention_kernels.triton_operator import can_flash, flash_attention

if tuple(int(part) for part in version("jaxtyping").split(".")[:3]) < (0, 3, 11):
    pytest.skip("its check of shapes, which only tests switch on, then takes kernels apart", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
IN_INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"
NARROW = [
    torch.float16,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(IN_INTERPRETER, reason="Triton's interpreter multiplies bfloat16 as integers"),
    ),
]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def heads(queries, keys, head_size, dtype=torch.float32, batch=1, number=2, group=1):
    """Queries, keys and values; `group` heads of queries share one of keys and values."""
    shapes = (number, queries), (number // group, keys), (number // group, keys)
    return [torch.randn(batch, *shape, head_size, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def exact(q, k, v, grad, first_keys=None):
    """Output and gradients in float64."""
    inputs = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=DEVICE).tril(k.shape[-2] - q.shape[-2])
    if first_keys is not None:
        visible = visible & (torch.arange(k.shape[-2], device=DEVICE) >= first_keys[:, None, :, None])
    output = F.scaled_dot_product_attention(*inputs, attn_mask=visible, enable_gqa=True)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.double())]


def check(q, k, v, tolerance, first_keys=None):
    output = flash_attention(q, k, v, first_keys)
    grad = torch.randn_like(output)
    found = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    for name, ours, right in zip("output q k v".split(), found, exact(q, k, v, grad, first_keys), strict=True):
        assert ours.dtype == q.dtype
        torch.testing.assert_close(
            ours.double(), right, atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(("positions", "head_size"), [(1, 32), (31, 64), (64, 32), (65, 64), (150, 32)])
def test_any_number_of_positions(positions, head_size):
    check(*heads(positions, positions, head_size), TOLERANCE[torch.float32])


@pytest.mark.parametrize("head_size", [8, 40, 80, 128])
def test_any_head_size(head_size):
    check(*heads(70, 70, head_size, number=1), TOLERANCE[torch.float32])


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 100), (5, 70), (64, 129), (63, 64)])
def test_queries_are_the_last_positions(queries, keys):
    check(*heads(queries, keys, 32), TOLERANCE[torch.float32])


@pytest.mark.parametrize(("number", "group", "queries", "keys"), [(4, 2, 70, 70), (3, 3, 5, 70), (6, 2, 40, 110)])
def test_groups_of_query_heads_share_keys_and_values(number, group, queries, keys):
    check(*heads(queries, keys, 16, batch=2, number=number, group=group), TOLERANCE[torch.float32])


@st.composite
def texts_and_windows(draw):
    """Positions and first keys of one or two sequences, from the beginnings of texts in each and a window."""
    queries = draw(st.integers(2, 150))
    keys = queries + draw(st.sampled_from([0, 1, 30, 90]))
    positions = torch.arange(keys - queries, keys)
    rows = []
    for _ in range(draw(st.integers(1, 2))):
        begins = torch.tensor([0, *draw(st.lists(st.integers(0, keys), max_size=4))])
        begin_of_text = torch.where(begins <= positions[:, None], begins, 0).amax(-1)
        rows.append(torch.maximum(begin_of_text, positions - draw(st.integers(0, keys + 2))))
    return queries, keys, torch.stack(rows).to(DEVICE, draw(st.sampled_from([torch.int32, torch.int64])))


@settings(max_examples=6)  # each takes the interpreter about a second
@given(texts_and_windows(), st.integers(1, 2), st.booleans())
def test_windows_and_texts(positions, group, one_row_for_all):
    queries, keys, first_keys = positions
    batch = 2 if one_row_for_all else len(first_keys)
    first_keys = first_keys[:1] if one_row_for_all else first_keys
    check(*heads(queries, keys, 16, batch=batch, group=group), TOLERANCE[torch.float32], first_keys)


def test_first_keys_of_no_use_change_nothing():
    inputs = heads(100, 130, 16)
    first_keys = torch.arange(-90, 10, device=DEVICE).clamp(max=0)[None]
    assert torch.equal(flash_attention(*inputs, first_keys), flash_attention(*inputs))


@pytest.mark.skipif(not IN_INTERPRETER, reason="counts products as the interpreter computes them")
@pytest.mark.parametrize("what", ["window", "texts"])
def test_blocks_before_all_first_keys_are_left_out(what, monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder

    multiply, products = InterpreterBuilder.create_dot, []

    def counted(self, a, b, *others):
        products.append(a.data.shape[0] * b.data.shape[1])
        return multiply(self, a, b, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted)
    positions = torch.arange(512)
    first_keys = {"window": positions - 31, "texts": positions // 64 * 64}[what]
    found = []
    for first in (None, first_keys[None]):
        products.clear()
        output = flash_attention(*heads(512, 512, 32, number=1), first)
        output.backward(torch.ones_like(output))
        found.append(sum(products))
    assert found[1] < 0.4 * found[0]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("positions", [40, 140])
def test_narrow_types(dtype, positions):
    q, k, v = heads(positions, positions, 32, dtype)
    check(q, k, v, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", NARROW)
def test_errors_are_no_larger_than_those_of_torch(dtype):
    q, k, v = heads(128, 128, 64, dtype, number=4)
    output = flash_attention(q, k, v)
    grad = torch.randn_like(output)
    ours = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    output = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    theirs = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    for mine, peer, right in zip(ours, theirs, exact(q, k, v, grad), strict=True):
        error, peer_error = ((tensor.double() - right).square().mean().sqrt() for tensor in (mine, peer))
        assert error <= 1.1 * peer_error


def test_programs_are_on_the_axis_of_the_grid_that_takes_more_than_65535(monkeypatch):
    class Recording:
        def __init__(self, kernel):
            self.kernel, self.grids = kernel, []

        def __getitem__(self, grid):
            self.grids.append(grid)
            return self.kernel[grid]

    recordings = []
    for module in (triton_forward, triton_backward):
        for name in ("forward_kernel", "key_value_gradient_kernel", "query_gradient_kernel"):
            if hasattr(module, name):
                recordings.append(Recording(getattr(module, name)))
                monkeypatch.setattr(module, name, recordings[-1])
    check(*heads(70, 70, 16, batch=2, number=4, group=2), TOLERANCE[torch.float32])
    assert len(recordings) == 3
    for recording in recordings:
        ((programs,),) = recording.grids
        kv_only = recording.kernel is triton_backward.key_value_gradient_kernel.kernel
        number = 2 if kv_only else 4
        assert programs in [2 * number * blocks for blocks in (1, 2, 3)]  # of 128, 64 or 32 positions


def test_inputs_may_be_views_and_gradients_any_layout():
    packed = torch.randn(2, 20, 3, 2, 32, device=DEVICE, requires_grad=True)
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind()
    output = flash_attention(q, k, v)
    grad = torch.randn(2, 2, 32, 20, device=DEVICE).mT
    right = exact(q, k, v, grad)
    torch.testing.assert_close(output.double(), right[0], atol=1e-5, rtol=1e-5)
    (found,) = torch.autograd.grad(output, packed, grad)
    expected = torch.stack(right[1:]).permute(1, 3, 0, 2, 4)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    # A row is a head's features, so the heads of one position lie side by side and can be joined without a copy.
    assert output.transpose(1, 2).is_contiguous()


def test_large_scores_do_not_overflow():
    q, k, v = heads(40, 40, 32)
    output = flash_attention(1e4 * q, k, v)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in (q, k, v))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("first_keys", [None, torch.tensor([[0, 0, 2, 3, 3]])])
def test_it_is_an_operator_that_the_compiler_keeps(first_keys, unchecked_shapes):
    first_keys = first_keys if first_keys is None else first_keys.to(DEVICE)
    inputs = heads(5, 5, 16, number=4, group=2)
    operators = torch.ops.nnscratch
    torch.library.opcheck(operators.flash_attention.default, (*inputs, first_keys))
    results = operators.flash_attention(*inputs, first_keys)
    for_gradient = (torch.randn_like(results[0]), *inputs, first_keys, *results)
    for_gradient = tuple(tensor if tensor is None else tensor.detach() for tensor in for_gradient)
    torch.library.opcheck(operators.flash_attention_backward.default, for_gradient)
    compiled = torch.compile(
        lambda q, k, v: 2 * flash_attention(q, k, v, first_keys), fullgraph=True, backend="aot_eager"
    )
    expected = 2 * flash_attention(*inputs, first_keys)
    torch.testing.assert_close(compiled(*inputs), expected)
    grad = torch.randn_like(expected)
    for ours, right in zip(
        torch.autograd.grad(compiled(*inputs), inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, right)


def test_unsupported_inputs_are_left_to_other_kernels():
    assert not can_flash(*(tensor.cpu() for tensor in heads(4, 4, 32)))
    assert not can_flash(*heads(4, 4, 32, torch.float64))
    assert not can_flash(*heads(0, 0, 32))
