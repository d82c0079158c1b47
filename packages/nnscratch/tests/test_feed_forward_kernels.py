"""Triton products with squared ReLU against float64: on a CPU in Triton's interpreter, on a GPU compiled."""

from importlib.metadata import version

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from nnscratch import (
    Linear,
    ReLUSquaredFeedForward,
    TransformerConfig,
    TransformerLM,
    functional,
    layers,
    quantize_int8,
)
from nnscratch.feed_forward_kernels import can_fuse_relu_squared, fused_relu_squared, triton_operator

if tuple(int(part) for part in version("jaxtyping").split(".")[:3]) < (0, 3, 11):
    pytest.skip("its check of shapes, which only tests switch on, then takes kernels apart", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
# The interpreter multiplies bfloat16 as integers, and a GPU has no memory for tiles in float32.
DTYPES = [torch.float16, torch.bfloat16] if DEVICE == "cuda" else [torch.float16, torch.float32]
SIZES = [(128, 64, 256), (130, 80, 272), (1, 16, 16), (1100, 32, 144)]  # the last: two groups of blocks of rows


def normal(*shape, dtype=torch.float32, scale=1.0):
    return (scale * torch.randn(shape, device=DEVICE)).to(dtype)


@pytest.fixture(params=[False, True], ids=["small tiles", "large tiles"])
def _tiles(request, monkeypatch):
    monkeypatch.setattr(triton_operator, "_has_large_memory", lambda _: request.param)


def assert_rounded_once(found, exact):
    """Check that all errors are at most half of the last digit, plus what sums in float32 may add."""
    precision = torch.finfo(found.dtype)
    bound = 0.5 * precision.eps * exact.abs() + 0.5 * precision.smallest_normal * precision.eps
    assert ((found - exact).abs() <= 1.05 * bound + 4e-6 * exact.abs().max()).all()


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
def test_products_are_rounded_once(rows, inner, columns, dtype):
    x, weight = normal(rows, inner, dtype=dtype), normal(columns, inner, dtype=dtype, scale=inner**-0.5)
    hidden = triton_operator._forward(x, weight)
    assert_rounded_once(hidden, (x.double() @ weight.double().T).clamp(min=0).square())
    grad, weight = normal(rows, inner, dtype=dtype), normal(inner, columns, dtype=dtype, scale=inner**-0.5)
    exact = (grad.double() @ weight.double()) * 2 * hidden.double().sqrt()
    for layout in (grad, grad.T.contiguous().T):
        assert_rounded_once(triton_operator._backward(layout, weight, hidden), exact)


@pytest.mark.usefixtures("_tiles")
def test_nan_is_not_hidden():
    x, weight = normal(3, 16, dtype=torch.float16), normal(32, 16, dtype=torch.float16)
    x[1] = torch.nan
    assert triton_operator._forward(x, weight).isnan().all(-1).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(130, 48), (2, 3, 48), (48,)])
def test_results_and_gradients(shape, dtype):
    inputs = [
        normal(*shape, dtype=dtype).requires_grad_(),
        normal(144, 48, dtype=dtype, scale=0.15).requires_grad_(),
        normal(80, 144, dtype=dtype, scale=0.1).requires_grad_(),
    ]
    result = fused_relu_squared(*inputs)
    grad = torch.randn_like(result)
    ours = [result, *torch.autograd.grad(result, inputs, grad)]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = (exact[0] @ exact[1].T).clamp(min=0).square() @ exact[2].T
    right = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    for name, found, other in zip("y x w1 w2".split(), ours, right, strict=True):
        assert (found.dtype, found.shape) == (dtype, other.shape), name
        assert (found - other).norm() <= 2 * torch.finfo(dtype).eps * other.norm(), name


def test_the_square_is_closer_to_float64_than_that_of_plain_code():
    dtype = DTYPES[0]
    x, weight = normal(256, 64, dtype=dtype), normal(64, 64, dtype=dtype, scale=0.1)
    exact = (x.double() @ weight.double().T).clamp(min=0).square()
    ours, plain = triton_operator._forward(x, weight), functional.relu_squared(x @ weight.T)
    assert (ours - exact).norm() < 0.6 * (plain - exact).norm()


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1)])
def test_only_what_learns_gets_a_gradient(frozen):
    inputs = [normal(3, 16), normal(32, 16), normal(16, 32)]
    if DEVICE == "cuda":
        inputs = [tensor.bfloat16() for tensor in inputs]
    learning = [tensor.requires_grad_() for index, tensor in enumerate(inputs) if index not in frozen]
    fused_relu_squared(*inputs).sum().backward()
    assert all(tensor.grad is not None for tensor in learning)
    assert all(inputs[index].grad is None for index in frozen)


def test_operators_are_registered_completely(unchecked_shapes):
    x, w1, w2 = normal(5, 16, dtype=DTYPES[0]), normal(32, 16, dtype=DTYPES[0]), normal(16, 32, dtype=DTYPES[0])
    torch.library.opcheck(triton_operator._forward, (x, w1))
    torch.library.opcheck(triton_operator._backward, (x, w2, torch.rand(5, 32, device=DEVICE).to(DTYPES[0])))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_under_autocast(monkeypatch, compiled, unchecked_shapes):
    torch.compiler.reset()
    layer = ReLUSquaredFeedForward(48, 144, device=DEVICE)
    x = normal(2, 70, 48).requires_grad_()
    results = []
    for fused in (False, True):
        monkeypatch.setattr(layers, "can_fuse_relu_squared", lambda *_, answer=fused: answer)
        call = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled and fused else layer
        with torch.autocast(DEVICE, torch.float16):
            result = call(x)
        assert result.dtype == torch.float16
        grads = torch.autograd.grad(result.float().square().sum(), (x, *layer.parameters()))
        assert {grad.dtype for grad in grads} == {torch.float32}
        results.append((result, *grads))
    for plain, ours in zip(*results, strict=True):
        assert (plain - ours).norm() <= 3e-3 * plain.norm()


@pytest.fixture
def _forbidden(monkeypatch):
    """Let inputs suit the kernel, and fail if it is called."""

    def fail(*_):
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(layers, "can_fuse_relu_squared", lambda *_: True)
    monkeypatch.setattr(layers, "fused_relu_squared", fail)


@pytest.mark.usefixtures("_forbidden")
def test_projections_that_are_not_plain_are_called(monkeypatch):
    x = normal(3, 16)
    with pytest.raises(AssertionError, match="kernel was called"):
        ReLUSquaredFeedForward(16, 32, DEVICE)(x)
    layer = ReLUSquaredFeedForward(16, 32, DEVICE)
    calls = []
    handle = layer.w1.register_forward_hook(lambda *_: calls.append(1))
    layer(x)
    assert calls == [1]
    handle.remove()
    layer.w2 = nn.Sequential(layer.w2)
    layer(x)
    layer.w2 = Linear(32, 16, DEVICE, bias=True)
    layer(x)
    layer = ReLUSquaredFeedForward(16, 32, DEVICE)
    monkeypatch.setattr(ReLUSquaredFeedForward, "fused", False)
    layer(x)


@pytest.mark.usefixtures("_forbidden")
def test_8_bit_weights_are_multiplied_as_they_are():
    config = TransformerConfig(50, 16, d_model=32, num_layers=1, num_heads=4, d_ff=64, ffn="relu_squared")
    quantize_int8(TransformerLM(config))(torch.zeros(1, 4, dtype=torch.int64))


class OnGPU(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, True),
        ({"dtype": torch.float16}, True),
        ({"x": (2, 100, 32)}, True),
        ({"dtype": torch.float32}, False),
        ({"dtype": torch.float64}, False),
        ({"w1_dtype": torch.float16}, False),
        ({"capability": (7, 5)}, False),
        ({"x": (127, 32)}, False),
        ({"x": (2, 0, 32)}, False),
        ({"x": (128, 64)}, False),
        ({"w1": (40, 32), "w2": (32, 40)}, False),
        ({"w2": (24, 48)}, False),
    ],
)
def test_inputs_that_suit_the_kernel(monkeypatch, change, answer):
    case = {"x": (128, 32), "w1": (48, 32), "w2": (32, 48), "dtype": torch.bfloat16, "capability": (8, 0)} | change
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: case["capability"])
    x, w1, w2 = (torch.empty(case[name], dtype=case["dtype"]) for name in ("x", "w1", "w2"))
    x, w1 = x.as_subclass(OnGPU), w1.to(case.get("w1_dtype", case["dtype"]))
    assert can_fuse_relu_squared(x, w1, w2) == answer
    assert not can_fuse_relu_squared(x.as_subclass(torch.Tensor), w1, w2)


def test_autocast_decides_about_the_dtype(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    x, w1, w2 = torch.empty(128, 32).as_subclass(OnGPU), torch.empty(48, 32), torch.empty(32, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert can_fuse_relu_squared(x, w1, w2)
        assert not can_fuse_relu_squared(x, w1.double(), w2)
    assert not can_fuse_relu_squared(x, w1, w2)
