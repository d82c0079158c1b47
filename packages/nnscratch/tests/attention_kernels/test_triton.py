"""The Triton kernels against torch's attention in float64: on a CPU in Triton's interpreter, on a GPU compiled."""

import os
from importlib.metadata import version

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

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


def exact(q, k, v, grad):
    """Output and gradients in float64."""
    inputs = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=DEVICE).tril(k.shape[-2] - q.shape[-2])
    output = F.scaled_dot_product_attention(*inputs, attn_mask=visible, enable_gqa=True)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.double())]


def check(q, k, v, tolerance):
    output = flash_attention(q, k, v)
    grad = torch.randn_like(output)
    found = [output, *torch.autograd.grad(output, (q, k, v), grad)]
    for name, ours, right in zip("output q k v".split(), found, exact(q, k, v, grad), strict=True):
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
        for name in ("forward_kernel", "row_sums_kernel", "key_value_gradient_kernel", "query_gradient_kernel"):
            if hasattr(module, name):
                recordings.append(Recording(getattr(module, name)))
                monkeypatch.setattr(module, name, recordings[-1])
    check(*heads(70, 70, 16, batch=2, number=4, group=2), TOLERANCE[torch.float32])
    assert len(recordings) == 4
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
def test_it_is_an_operator_that_the_compiler_keeps(unchecked_shapes):
    q, k, v = heads(5, 5, 16, number=4, group=2)
    torch.library.opcheck(torch.ops.nnscratch.flash_attention.default, (q, k, v))
    compiled = torch.compile(lambda q, k, v: 2 * flash_attention(q, k, v), fullgraph=True, backend="aot_eager")
    expected = 2 * flash_attention(q, k, v)
    torch.testing.assert_close(compiled(q, k, v), expected)
    grad = torch.randn_like(expected)
    for ours, right in zip(
        torch.autograd.grad(compiled(q, k, v), (q, k, v), grad),
        torch.autograd.grad(expected, (q, k, v), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, right)


def test_unsupported_inputs_are_left_to_other_kernels():
    assert not can_flash(*(tensor.cpu() for tensor in heads(4, 4, 32)))
    assert not can_flash(*heads(4, 4, 32, torch.float64))
    assert not can_flash(*heads(0, 0, 32))
