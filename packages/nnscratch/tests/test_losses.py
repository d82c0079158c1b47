import itertools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnscratch import cross_entropy, linear_cross_entropy, perplexity
from nnscratch import losses as module


@pytest.fixture(params=[1, 100, 2**30], ids=lambda logits: f"chunk-of-{logits}")
def chunk(request, monkeypatch):
    monkeypatch.setattr(module, "_CPU_CHUNK_LOGITS", request.param)


def reference(hidden, weight, targets, cap=None):
    logits = hidden @ weight.T
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


@pytest.mark.parametrize("cap", [None, 3.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_loss_and_gradients_are_those_of_all_logits(chunk, dtype, tolerance, cap):
    hidden = torch.randn(3, 5, 16).to(dtype).requires_grad_()
    weight = torch.randn(30, 16).to(dtype).requires_grad_()
    targets = torch.randint(30, (3, 5))
    loss = linear_cross_entropy(hidden, weight, targets, logit_soft_cap=cap)
    grads = torch.autograd.grad(2 * loss, (hidden, weight))
    exact = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight)]
    expected = reference(*exact, targets, cap)
    expected_grads = torch.autograd.grad(2 * expected, exact)
    torch.testing.assert_close(loss, expected, atol=tolerance, rtol=tolerance)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.float(), expected_grad, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cap", [50.0, 51.0, 1000.0])
def test_logits_at_their_cap(chunk, cap):
    """Half of them at the cap and half at its negative, and in one position all at the negative."""
    hidden = torch.tensor([[1e4], [-1e4], [1e4]], requires_grad=True)
    weight = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]], requires_grad=True)
    for signs in (1.0, torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])):
        inputs = (hidden, weight * signs)
        loss = linear_cross_entropy(*inputs, torch.tensor([0, 1, 3]), logit_soft_cap=cap)
        exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
        logits = cap * torch.tanh(exact[0] @ exact[1].T / cap)
        expected = F.cross_entropy(logits, torch.tensor([0, 1, 3]))
        torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-6)
        for grad in torch.autograd.grad(loss, (hidden, weight), retain_graph=True):
            assert grad.isfinite().all()


@pytest.mark.parametrize("cap", [None, 2.0])
def test_gradcheck(monkeypatch, cap):
    monkeypatch.setattr(module, "_CPU_CHUNK_LOGITS", 14)
    hidden = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (5,))
    assert torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets, logit_soft_cap=cap), (hidden, weight)
    )


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_side_frozen(chunk, frozen):
    inputs = [torch.randn(4, 8), torch.randn(11, 8)]
    inputs[1 - frozen].requires_grad_()
    targets = torch.randint(11, (4,))
    linear_cross_entropy(*inputs, targets).backward()
    (expected,) = torch.autograd.grad(reference(*inputs, targets), inputs[1 - frozen])
    torch.testing.assert_close(inputs[1 - frozen].grad, expected)
    assert inputs[frozen].grad is None


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
def test_compiled_in_chunks(monkeypatch, unchecked_shapes, trained):
    """The compiled function has an operator of its own for the gradients of a chunk; here the last chunk is shorter."""
    torch.compiler.reset()
    monkeypatch.setattr(module, "_CPU_CHUNK_LOGITS", 3 * 11)
    shapes = ((10, 8), (11, 8))
    hidden, weight = (torch.randn(shape, requires_grad=grad) for shape, grad in zip(shapes, trained, strict=True))
    targets = torch.randint(11, (10,))
    before = hidden.detach().clone()
    torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")(hidden, weight, targets).backward()
    assert torch.equal(hidden, before)
    inputs = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    for tensor, expected in zip(inputs, torch.autograd.grad(reference(hidden, weight, targets), inputs), strict=True):
        torch.testing.assert_close(tensor.grad, expected)


def test_without_gradients(chunk):
    hidden, weight, targets = torch.randn(4, 8), torch.randn(11, 8, requires_grad=True), torch.randint(11, (4,))
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, reference(hidden, weight, targets).detach())


def test_under_autocast():
    hidden, weight = torch.randn(6, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    targets = torch.randint(30, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets)
    loss.backward()
    expected = torch.autograd.grad(reference(hidden, weight, targets), (hidden, weight))
    assert loss.dtype == hidden.grad.dtype == weight.grad.dtype == torch.float32
    for grad, exact in zip((hidden.grad, weight.grad), expected, strict=True):
        torch.testing.assert_close(grad, exact, atol=2e-2, rtol=2e-2)


def test_no_logits_of_all_positions_exist(monkeypatch):
    monkeypatch.setattr(module, "_CPU_CHUNK_LOGITS", 4 * 100)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    hidden, weight = torch.randn(64, 8, requires_grad=True), torch.randn(100, 8, requires_grad=True)
    with Sizes():
        linear_cross_entropy(hidden, weight, torch.randint(100, (64,))).backward()
    assert largest == 100 * 8  # the weight's gradient; all logits would be 6,400


def test_huge_logits():
    hidden, weight = torch.full((2, 1), 1e4), torch.tensor([[1.0], [-1.0]])
    assert linear_cross_entropy(hidden, weight, torch.tensor([0, 1])).item() == pytest.approx(1e4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("compiled", [False, True])
def test_float16_keeps_small_gradients(unchecked_shapes, compiled):
    torch.compiler.reset()
    loss_scale, targeted = 2.0**14, 50
    hidden, weight = torch.randn(4096, 8).half(), (torch.randn(5000, 8) / 4).half()
    targets = torch.randint(targeted, (4096,))
    inputs = [hidden.requires_grad_(), weight.requires_grad_()]
    function = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    loss = (function if compiled else linear_cross_entropy)(*inputs, targets)
    hidden_grad, weight_grad = torch.autograd.grad(loss_scale * loss, inputs, retain_graph=True)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    right = torch.autograd.grad(loss_scale * F.cross_entropy(exact[0] @ exact[1].T, targets), exact)
    pairs = [
        (hidden_grad, right[0]),
        (weight_grad[:targeted], right[1][:targeted]),
        (weight_grad[targeted:], right[1][targeted:]),
    ]
    for ours, expected in pairs:
        assert ours.dtype == torch.float16
        assert (ours - expected).norm() <= 2**-9 * expected.norm()
    again = torch.autograd.grad(loss_scale * loss, inputs)
    assert torch.equal(again[0], hidden_grad)
    assert torch.equal(again[1], weight_grad)


def test_float16_sums_of_many_positions_fit():
    hidden, weight = torch.full((16384, 1), 50.0).half(), torch.zeros(4, 1).half().requires_grad_()
    linear_cross_entropy(hidden, weight, torch.zeros(16384, dtype=torch.long)).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-37.5], [12.5], [12.5], [12.5]]).half())


def test_logits_with_a_large_offset():
    hidden, weight = torch.ones(1, 2), torch.tensor([[1e7, 0.0], [1e7, 1.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)))


@pytest.mark.parametrize("vocab_size", [97, 32_000, 50_257, 2**28 + 1])
@pytest.mark.parametrize("count", [1, 127, 8_388, 65_536, 131_072, 131_073])
def test_chunks_on_a_gpu_are_aligned_and_of_equal_size(count, vocab_size):
    rows = module._chunk_rows("cuda", count, vocab_size)
    assert rows % 128 == 0
    assert rows == 128 or rows * vocab_size <= 2**28
    chunks = -(-count // rows)
    assert chunks * rows - count < 128 * chunks


@pytest.mark.parametrize("shape", [(8,), (2, 8), (2, 3, 8)])
@pytest.mark.parametrize("scale", [1, 1000])
def test_cross_entropy(shape, scale):
    logits = scale * torch.randn(*shape)
    targets = torch.randint(8, shape[:-1])
    expected = F.cross_entropy(logits.view(-1, 8), targets.view(-1))
    torch.testing.assert_close(cross_entropy(logits, targets), expected, atol=1e-4, rtol=1e-6)


def test_cross_entropy_of_logits_with_a_large_offset():
    logits = torch.tensor([[1e7, 1e7 + 1]] * 2, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2)
    (grad,) = torch.autograd.grad(loss, logits)
    first = 1 / (1 + math.e)
    expected = torch.tensor([[first, -first], [first - 1, 1 - first]]) / 2
    torch.testing.assert_close(grad, expected)


def test_cross_entropy_gradient():
    targets = torch.randint(5, (2, 3))
    logits = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), logits)


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits, targets = torch.randn(64, 50).bfloat16(), torch.randint(50, (64,))
    assert torch.equal(cross_entropy(logits, targets), cross_entropy(logits.float(), targets))


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_their_number():
    assert cross_entropy(torch.zeros(3, 7), torch.tensor([0, 3, 6])).item() == pytest.approx(math.log(7))


def test_perplexity():
    assert perplexity(torch.tensor(math.log(7))).item() == pytest.approx(7)
    assert perplexity(0.0).item() == 1


def test_targets_of_the_wrong_shape_are_refused():
    with pytest.raises(Exception, match="targets"):
        cross_entropy(torch.zeros(3, 7), torch.tensor([0, 3]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 2e-3)])
@pytest.mark.parametrize("ignored", [-100, 7])
def test_some_targets_do_not_count(monkeypatch, unchecked_shapes, ignored, dtype, tolerance, compiled):
    """R41."""
    monkeypatch.setattr(module, "_CPU_CHUNK_LOGITS", 11 * 16)
    hidden, weight = torch.randn(40, 8).to(dtype).requires_grad_(), torch.randn(11, 8).to(dtype).requires_grad_()
    targets = torch.where(torch.rand(40) < 0.4, ignored, torch.randint(11, (40,)))
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, targets, ignore_index=ignored)
    right = torch.autograd.grad(expected, exact)

    def whole(hidden, weight, targets, *, ignore_index):
        return cross_entropy(hidden @ weight.T, targets, ignore_index=ignore_index)

    for function in (linear_cross_entropy, whole):
        if compiled:
            torch.compiler.reset()
            function = torch.compile(function, fullgraph=True, backend="aot_eager")
        loss = function(hidden, weight, targets, ignore_index=ignored)
        torch.testing.assert_close(loss.double(), expected, atol=tolerance, rtol=tolerance)
        for ours, theirs in zip(torch.autograd.grad(loss, (hidden, weight)), right, strict=True):
            torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=10 * tolerance)


def test_a_batch_in_which_no_target_counts_has_no_loss_and_no_gradient(chunk):
    hidden, weight = torch.randn(6, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.full((6,), -100)
    for loss in (linear_cross_entropy(hidden, weight, targets), cross_entropy(hidden @ weight.T, targets)):
        assert loss.item() == 0
        assert not any(grad.any() for grad in torch.autograd.grad(loss, (hidden, weight)))


@pytest.mark.parametrize("wrong", [-1, 11])
def test_targets_outside_the_vocabulary_are_named(wrong):
    """R41."""
    hidden, weight, targets = torch.randn(3, 8), torch.randn(11, 8), torch.tensor([5, wrong, -100])
    message = r"targets range from .*, expected 0 to 10: the table has 11 rows"
    with pytest.raises(IndexError, match=message):
        linear_cross_entropy(hidden, weight, targets)
    with pytest.raises(IndexError, match=message):
        cross_entropy(hidden @ weight.T, targets)


@pytest.mark.parametrize("cap", [None, 3.0, 100.0])
@pytest.mark.parametrize("count", [30, 1000])
def test_sampling_the_whole_vocabulary_gives_the_same_loss(chunk, cap, count):
    hidden, weight = torch.randn(3, 5, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    targets = torch.randint(30, (3, 5))
    targets[1, 2] = -100
    found, expected = (
        linear_cross_entropy(hidden, weight, targets, logit_soft_cap=cap, num_sampled=number)
        for number in (count, None)
    )
    torch.testing.assert_close(found, expected)
    for loss in zip(*(torch.autograd.grad(loss, (hidden, weight)) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(*loss)


@pytest.mark.parametrize("cap", [None, 3.0, 100.0])
def test_the_sampled_sum_of_exponentials_is_right_in_the_mean(monkeypatch, cap):
    """Over all pairs of others that can be drawn, for one position with the target 2 of 6 tokens."""
    hidden, weight, target = torch.randn(1, 4), torch.randn(6, 4), torch.tensor([2])
    ratios = []
    for pair in itertools.combinations(range(5), 2):
        monkeypatch.setattr(torch, "randperm", lambda n, device, pair=pair: torch.tensor([*pair, 0, 0, 0])[:n])
        ratios.append(linear_cross_entropy(hidden, weight, target, logit_soft_cap=cap, num_sampled=3).exp())
    expected = linear_cross_entropy(hidden, weight, target, logit_soft_cap=cap).exp()
    torch.testing.assert_close(torch.stack(ratios).mean(), expected)


def test_only_targets_and_drawn_tokens_get_gradients():
    hidden, weight = torch.randn(8, 4), torch.randn(100, 4, requires_grad=True)
    targets = torch.arange(8) % 3 + 50
    for count, used in ((1, 3), (10, 10)):
        (grad,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, num_sampled=count), weight)
        rows = grad.any(1)
        assert rows[50:53].all()
        assert rows.sum() == used


def test_numbers_of_sampled_tokens_that_make_no_sense(monkeypatch):
    arguments = torch.randn(2, 4), torch.randn(6, 4), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="num_sampled=0 is out of range; choose at least 1, or None for all tokens"):
        linear_cross_entropy(*arguments, num_sampled=0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(ValueError, match="num_sampled=3 has shapes that depend on the targets; compile with None"):
        linear_cross_entropy(*arguments, num_sampled=3)
