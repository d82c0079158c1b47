"""Triton kernels of QK-norm and rotation against float64: on a CPU in Triton's interpreter, on a GPU compiled."""

from importlib.metadata import version

import pytest
import torch

pytest.importorskip("triton")

from nnscratch import CausalSelfAttention, RotaryEmbedding, attention, reference
from nnscratch.rotary_embedding import can_normalize_and_rotate, normalize_and_rotate, triton_operator

if tuple(int(part) for part in version("jaxtyping").split(".")[:3]) < (0, 3, 11):
    pytest.skip("its check of shapes, which only tests switch on, then takes kernels apart", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
EPS = 1e-5
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def exact(joint, q_gain, k_gain, num_heads):
    """Queries, keys and values by the plain functions."""
    head_size = q_gain.shape[0]
    kv_heads = (joint.shape[-1] // head_size - num_heads) // 2
    heads = joint.unflatten(-1, (-1, head_size)).transpose(-3, -2)
    q, k, v = heads.split((num_heads, kv_heads, kv_heads), dim=-3)
    positions = torch.arange(joint.shape[-2], device=joint.device)
    q, k = (
        reference.rotate(reference.rms_norm(x, gain, EPS), positions, 10_000.0)
        for x, gain in ((q, q_gain), (k, k_gain))
    )
    return q, k, v


@pytest.mark.parametrize("with_gains", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("batch", "positions", "heads", "kv_heads", "head_size"),
    [((1,), 1, 1, 1, 16), ((2,), 16, 2, 2, 32), ((3,), 17, 4, 2, 40), ((2, 2), 35, 3, 1, 2), ((), 5, 2, 1, 128)],
)
def test_results_and_gradients(batch, positions, heads, kv_heads, head_size, dtype, with_gains):
    width = (heads + 2 * kv_heads) * head_size
    joint = torch.randn(*batch, positions, width, device=DEVICE).to(dtype).requires_grad_()
    gains = [torch.randn(head_size, device=DEVICE, requires_grad=True) for _ in range(2 * with_gains)]
    rope = RotaryEmbedding(10_000.0, head_size, positions + 3, DEVICE)
    tables = rope.tables(0, positions, joint.device)
    found = normalize_and_rotate(joint, *(gains or (None, None)), *tables, EPS, heads)
    grads = [torch.randn_like(tensor) for tensor in found]
    ours = [*found, *torch.autograd.grad(found, (joint, *gains), grads)]
    inputs = [tensor.detach().double().requires_grad_() for tensor in (joint, *gains)]
    ones = inputs[0].new_ones(2, head_size)
    expected = exact(inputs[0], *(inputs[1:] or ones), heads)
    right = [*expected, *torch.autograd.grad(expected, inputs, [grad.double() for grad in grads])]
    names = "q k v joint q_gain k_gain".split()[: 4 + len(gains)]
    for name, tensor, other in zip(names, ours, right, strict=True):
        assert tensor.dtype == (torch.float32 if "gain" in name else dtype)
        scale = max(1.0, other.detach().abs().max().item())
        assert (tensor - other).abs().max() <= TOLERANCE[dtype] * scale, name


def test_operators_are_registered_completely(unchecked_shapes):
    joint, gains = torch.randn(2, 5, 4, 16, device=DEVICE), torch.randn(2, 16, device=DEVICE)
    tables = [torch.randn(5, 8, device=DEVICE) for _ in range(2)]
    torch.library.opcheck(triton_operator.rotate_forward, (joint, *gains, *tables, EPS, 2))
    grads = [torch.randn(2, 5, heads, 16, device=DEVICE) for heads in (2, 1, 1)]
    torch.library.opcheck(triton_operator._backward, (*grads, joint, *gains, *tables, EPS, 2))
    torch.library.opcheck(triton_operator.rotate_forward, (joint, None, None, *tables, EPS, 2))
    torch.library.opcheck(triton_operator._backward, (*grads, joint, None, None, *tables, EPS, 2))
    q, k, v = (torch.randn(2, 5, heads, 16, device=DEVICE).transpose(1, 2) for heads in (2, 1, 1))
    kept = (q, k, v, *torch.ops.nnscratch.flash_attention.default(q, k, v, None))
    for given in (gains, (None, None)):
        inputs = (torch.randn_like(q), *kept, joint, *given, *tables, EPS, 2)
        torch.library.opcheck(torch.ops.nnscratch.normalized_attention_backward.default, inputs)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize("window", [None, 8])
def test_attention_with_the_kernel(monkeypatch, compiled, gains, window, unchecked_shapes):
    """A window keeps attention apart from norms and rotation."""
    torch.compiler.reset()
    rope = RotaryEmbedding(10_000.0, 16, 32, DEVICE)
    layer = CausalSelfAttention(
        48, 4, rope, num_kv_heads=2, head_size=16, qk_norm=True, qk_norm_gains=gains, window=window, device=DEVICE
    )
    if gains:
        torch.nn.init.normal_(layer.q_norm.weight)
    x = torch.randn(2, 20, 48, device=DEVICE, requires_grad=True)
    for added in (None, torch.randn(2, 20, 32, device=DEVICE, requires_grad=True)):
        leaves = [x, *layer.parameters(), *([] if added is None else [added])]
        results = []
        for with_kernel in (False, True):
            monkeypatch.setattr(attention, "can_normalize_and_rotate", lambda *_, answer=with_kernel: answer)
            call = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled and with_kernel else layer
            result = call(x, added_values=added)
            results.append((result, *torch.autograd.grad(result.square().sum(), leaves)))
        for plain, ours in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_the_gradients_of_values_are_not_copied(monkeypatch, unchecked_shapes):
    """The kernel of norms and rotation gets no gradients, because attention wrote them where it replaces them."""
    monkeypatch.setattr(attention, "can_normalize_and_rotate", lambda *_: True)
    layer = CausalSelfAttention(32, 2, RotaryEmbedding(10_000.0, 16, 32, DEVICE), qk_norm=True, device=DEVICE)
    launch, launched = triton_operator._launch, []

    def recording(kernel, joint, num_heads, eps, *arguments):
        launched.append(arguments[:3])
        launch(kernel, joint, num_heads, eps, *arguments)

    monkeypatch.setattr(triton_operator, "_launch", recording)
    layer(torch.randn(1, 4, 32, device=DEVICE)).sum().backward()
    assert len(launched) == 2
    assert launched[1] == (None, None, None)


def test_attention_calls_norms_that_have_hooks(monkeypatch):
    monkeypatch.setattr(attention, "can_normalize_and_rotate", lambda *_: True)
    layer = CausalSelfAttention(32, 2, RotaryEmbedding(10_000.0, 16, 32, DEVICE), qk_norm=True, device=DEVICE)
    calls = []
    layer.k_norm.register_forward_hook(lambda *_: calls.append(1))
    layer(torch.randn(1, 4, 32, device=DEVICE))
    assert calls == [1]


def test_refused_tensors():
    assert can_normalize_and_rotate(torch.randn(2, 3, 32, device=DEVICE), 32) == (DEVICE == "cuda")
    for shape, dtype, head_size in [((2, 3, 256), torch.float32, 256), ((2, 0, 32), torch.float32, 32)]:
        assert not can_normalize_and_rotate(torch.empty(shape, dtype=dtype, device=DEVICE), head_size)
    assert not can_normalize_and_rotate(torch.empty(2, 3, 32, dtype=torch.float64, device=DEVICE), 32)
