import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnscratch import RopeScaling, RotaryEmbedding, TransformerConfig, TransformerLM


def rotate_by_matrix(x, positions, theta):
    """Turn by the block-diagonal matrix of the paper."""
    result = torch.empty_like(x)
    d_k = x.shape[-1]
    for row, position in enumerate(positions.tolist()):
        matrix = torch.zeros(d_k, d_k, dtype=torch.float64)
        for k in range(d_k // 2):
            angle = position / theta ** (2 * k / d_k)
            c, s = math.cos(angle), math.sin(angle)
            matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = torch.tensor([[c, -s], [s, c]])
        result[..., row, :] = (x[..., row, :].double() @ matrix.T).float()
    return result


@pytest.mark.parametrize("positions", [range(12), [0, 5, 5, 31, 2]])
def test_rotary_embedding(positions):
    positions = torch.tensor(list(positions))
    x = torch.randn(2, 3, len(positions), 8)
    rope = RotaryEmbedding(10_000.0, 8, 32)
    torch.testing.assert_close(rope(x, positions), rotate_by_matrix(x, positions, 10_000.0), atol=1e-6, rtol=1e-5)
    assert not rope.state_dict()


def test_rotary_embedding_counts_from_zero_by_default_and_broadcasts_positions():
    rope, x = RotaryEmbedding(100.0, 4, 8), torch.randn(2, 5, 4)
    assert torch.equal(rope(x), rope(x, torch.arange(5)))
    assert torch.equal(rope(x), rope(x, torch.arange(5)[None]))
    each = torch.stack((torch.arange(5), torch.arange(3, 8)))
    torch.testing.assert_close(rope(x, each)[1], rope(x[1], each[1]))


def test_scaled_frequencies_keep_the_high_ones_and_divide_the_low_ones():
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=64)
    rope = RotaryEmbedding(10_000.0, 16, 40, scaling=scaling)
    for pair in range(8):
        frequency = 10_000.0 ** (-2 * pair / 16)
        wavelength = 2 * math.pi / frequency
        if wavelength > 64 / 1.0:
            frequency /= 8
        elif wavelength > 64 / 4.0:
            share = (64 / wavelength - 1.0) / (4.0 - 1.0)
            frequency = (1 - share) * frequency / 8 + share * frequency
        angles = torch.arange(40, dtype=torch.float64) * frequency
        torch.testing.assert_close(rope.cos[:, pair], angles.cos().float())
        torch.testing.assert_close(rope.sin[:, pair], angles.sin().float())
    assert torch.equal(rope.to("meta").to_empty(device="cpu").cos, RotaryEmbedding(1e4, 16, 40, scaling=scaling).cos)


@pytest.mark.parametrize(
    "view",
    [
        lambda: torch.randn(2, 8, 5).mT,
        lambda: torch.randn(3, 9)[:, :8],
        lambda: torch.randn(3, 9)[:, 1:],
        lambda: torch.randn(41)[1:].view(5, 8),
        lambda: torch.randn(3, 16)[:, ::2],
        lambda: torch.randn(1, 8).expand(5, 8),
        lambda: torch.randn(2, 0, 9)[..., 1:],
    ],
)
def test_rotary_embedding_takes_any_view(view):
    rope, x = RotaryEmbedding(10_000.0, 8, 16), view()
    torch.testing.assert_close(rope(x), rope(x.clone(memory_format=torch.contiguous_format)))


def test_rotary_embedding_needs_no_float64_on_the_device():
    class Refusing(TorchDispatchMode):
        """MPS has no float64; the meta device stands in for it."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            assert (result.device.type, result.dtype) != ("meta", torch.float64)
            return result

    with Refusing():
        assert RotaryEmbedding(10_000.0, 8, 16, device="meta").cos.device.type == "meta"
        with torch.device("meta"):
            assert RotaryEmbedding(10_000.0, 8, 16).sin.device.type == "meta"


@pytest.mark.parametrize(
    "move",
    [
        lambda rope: rope.bfloat16().float(),
        lambda rope: rope.half(),
        lambda rope: rope.double(),
        lambda rope: rope.to_empty(device="cpu"),
        lambda rope: rope.to_empty(device="meta").bfloat16().to_empty(device="cpu"),
        lambda rope: torch.nn.Sequential(rope, torch.nn.Sequential(rope)).to("meta").to_empty(device="cpu")[0],
        lambda rope: rope.share_memory(),
    ],
)
def test_rotary_tables_keep_their_numbers_when_a_model_moves(move):
    fresh, moved = RotaryEmbedding(10_000.0, 8, 16), move(RotaryEmbedding(10_000.0, 8, 16))
    for name in ("cos", "sin"):
        assert torch.equal(getattr(moved, name), getattr(fresh, name))
        assert getattr(moved, name).dtype == torch.float32
    assert dict(moved.named_buffers()).keys() == {"cos", "sin"}
    assert not moved.state_dict()


def test_a_meta_model_works_with_assigned_weights():
    config = TransformerConfig(vocab_size=9, context_length=8, d_model=8, num_layers=1, num_heads=2, d_ff=12)
    model, meta = TransformerLM(config), TransformerLM(config, device="meta")
    ids = torch.tensor([[1, 2, 3, 4]])
    assert meta(ids.to("meta")).is_meta
    meta.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(meta(ids), model(ids))
    x, positions = torch.randn(4, 8), torch.tensor([3, 0, 2, 2])
    rope = RotaryEmbedding(10_000.0, 8, 16, device="meta")
    assert torch.equal(rope(x, positions), RotaryEmbedding(10_000.0, 8, 16)(x, positions))


def test_rotary_scores_depend_on_distance_only():
    rope, (q, k) = RotaryEmbedding(10_000.0, 16, 64), torch.randn(2, 1, 16)
    scores = [(rope(q, torch.tensor([i + 7])) @ rope(k, torch.tensor([i])).T).item() for i in (0, 20, 50)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)


def test_rotary_embedding_gradient_type_and_compiled_form(unchecked_shapes):
    rope = RotaryEmbedding(10_000.0, 4, 8)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rope, x)
    assert rope(x.bfloat16()).dtype == torch.bfloat16
    compiled = torch.compile(rope, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), rope(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10_000.0, 7, 8), "d_k=7 cannot be rotated in pairs; choose an even head size"),
        ((10_000.0, 0, 8), "d_k=0 cannot be rotated"),
        ((0.0, 8, 8), "theta=0.0 is out of range; choose a positive number"),
        ((10_000.0, 8, 0), "max_seq_len=0 is out of range; choose at least 1"),
    ],
)
def test_rotary_embedding_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        RotaryEmbedding(*arguments)


def test_rotary_embedding_refuses_positions_outside_the_table():
    rope = RotaryEmbedding(10_000.0, 8, 4)
    with pytest.raises(ValueError, match=r"got 5 positions, but the table ends at max_seq_len=4"):
        rope(torch.randn(5, 8))
    for positions in ([0, 4], [-1, 0]):
        with pytest.raises(ValueError, match=rf"token_positions range from {positions[0]} to {positions[1]}, .*0 to 3"):
            rope(torch.randn(2, 8), torch.tensor(positions))


def test_rotation_from_a_position():
    rope, x = RotaryEmbedding(10000.0, 8, 12), torch.randn(2, 4, 8)
    torch.testing.assert_close(rope.rotate_from(8, x), rope(x, torch.arange(8, 12)), atol=0, rtol=0)
    with pytest.raises(ValueError, match="got 13 positions, but the table ends at max_seq_len=12"):
        rope.rotate_from(9, x)
