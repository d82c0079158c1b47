import copy

import pytest
import torch
from torch import nn

from nnscratch import AdamW, CombinedOptimizer, HashedNGramEmbedding, RowwiseAdagrad, clip_grad_norm
from nnscratch.functional import sparse_embedding

ROWS, WIDTH = 30, 4


def batches(count=12, size=9):
    """Ids, some of them twice in a step, and the gradients of their vectors."""
    torch.manual_seed(1)
    return [(torch.randint(ROWS - 5, (size,)), torch.randn(size, WIDTH)) for _ in range(count)]


def dense_oracle(weight, steps, lr, power, eps, decay):
    """The docstring's formulas on the whole table in float64, with a mask of the rows in use."""
    weight = weight.double()
    t, s = torch.zeros(ROWS, 1).double(), torch.zeros(ROWS, 1).double()
    for ids, grads in steps:
        full = torch.zeros(ROWS, WIDTH).double()
        for index, grad in zip(ids.tolist(), grads.double(), strict=True):
            full[index] += grad
        mask = torch.zeros(ROWS, 1, dtype=torch.bool)
        mask[ids] = True
        t = torch.where(mask, t + 1, t)
        s = torch.where(mask, s + (full**2).mean(1, keepdim=True), s)
        rate = lr / t.clamp(min=1) ** power
        changed = weight - rate * decay * weight - rate * full / ((s / t.clamp(min=1)).sqrt() + eps)
        weight = torch.where(mask, changed, weight)
    return weight


def backward(param, ids, grads, is_sparse):
    param.grad = None
    vectors = sparse_embedding(ids, param) if is_sparse else nn.functional.embedding(ids, param)
    vectors.backward(grads)


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.1, "power": 0.5, "eps": 1e-10, "weight_decay": 0.0},
        {"lr": 0.3, "power": 0.0, "eps": 0.1, "weight_decay": 0.2},
        {"lr": 0.05, "power": 1.0, "eps": 1e-6, "weight_decay": 1.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_in_use_follow_the_formulas_and_others_rest(is_sparse, settings, dtype):
    start = torch.randn(ROWS, WIDTH, dtype=dtype)
    param = nn.Parameter(start.clone())
    optimizer = RowwiseAdagrad([param], **settings)
    for ids, grads in batches():
        backward(param, ids, grads.to(dtype), is_sparse)
        optimizer.step()
    settings = dict(settings)
    expected = dense_oracle(start, batches(), decay=settings.pop("weight_decay"), **settings)
    torch.testing.assert_close(param.detach().double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(param[ROWS - 5 :], start[ROWS - 5 :])
    assert not optimizer.state[param]["step"][ROWS - 5 :].any()


def test_with_the_root_of_the_count_it_is_adagrad_for_rows_of_one_number():
    weight = torch.randn(ROWS, 1)
    param, peer = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    ours, theirs = RowwiseAdagrad([param], lr=0.1), torch.optim.Adagrad([peer], lr=0.1, eps=1e-10)
    for ids, grads in batches():
        backward(param, ids, grads[:, :1], is_sparse=True)
        backward(peer, ids, grads[:, :1], is_sparse=False)
        ours.step()
        theirs.step()
    torch.testing.assert_close(param, peer)


def test_the_step_of_a_row_falls_with_its_own_count():
    param = nn.Parameter(torch.zeros(3, 2))
    optimizer = RowwiseAdagrad([param], lr=0.1)
    sizes = []
    for step in range(16):
        before = param.detach().clone()
        backward(param, torch.tensor([0, 1] if step == 15 else [0]), torch.ones(2 if step == 15 else 1, 2), True)
        optimizer.step()
        sizes.append((before - param.detach())[:, 0].tolist())
    assert sizes[0] == pytest.approx([0.1, 0, 0])
    assert sizes[3] == pytest.approx([0.05, 0, 0])
    assert sizes[15] == pytest.approx([0.025, 0.1, 0])


def test_gradients_of_several_micro_batches_are_added_first():
    param = nn.Parameter(torch.zeros(ROWS, WIDTH))
    (ids, grads), (more, others) = batches(2)
    sparse_embedding(ids, param).backward(grads)
    sparse_embedding(more, param).backward(others)
    assert param.grad.is_sparse
    RowwiseAdagrad([param]).step()
    peer = nn.Parameter(torch.zeros(ROWS, WIDTH))
    backward(peer, torch.cat((ids, more)), torch.cat((grads, others)), is_sparse=True)
    RowwiseAdagrad([peer]).step()
    torch.testing.assert_close(param, peer)


def test_a_step_without_rows_changes_nothing():
    param = nn.Parameter(torch.ones(ROWS, WIDTH))
    optimizer = RowwiseAdagrad([param], weight_decay=1.0)
    optimizer.step()
    backward(param, torch.zeros(0, dtype=torch.long), torch.zeros(0, WIDTH), is_sparse=True)
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(param.detach(), torch.ones(ROWS, WIDTH))


def model_and_optimizer(seed):
    torch.manual_seed(seed)
    model = nn.ModuleDict({"ngrams": HashedNGramEmbedding(2, ROWS, WIDTH), "head": nn.Linear(WIDTH, 5)})
    parts = [AdamW(model["head"].parameters()), RowwiseAdagrad(model["ngrams"].parameters(), weight_decay=0.1)]
    return model, CombinedOptimizer(parts)


def train(model, optimizer, start, end):
    norms = []
    for step in range(start, end):
        ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model["head"](model["ngrams"](ids)).square().mean() - model["ngrams"](ids).sum()).backward()
        norms.append(float(clip_grad_norm(model.parameters(), 0.5)))
        optimizer.step()
    return norms


def test_a_combination_resumes_from_its_state_to_the_bit(tmp_path):
    model, optimizer = model_and_optimizer(0)
    train(model, optimizer, 0, 4)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    expected = train(model, optimizer, 4, 8)
    other, resumed = model_and_optimizer(1)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    assert train(other, resumed, 4, 8) == expected
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert copy.deepcopy(resumed).state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()


@pytest.mark.parametrize(
    ("params", "settings", "message"),
    [
        (torch.zeros(3, 2), {"lr": -1.0}, "lr=-1.0 is out of range"),
        (torch.zeros(3, 2), {"power": float("nan")}, "power=nan is out of range"),
        (
            torch.zeros(3),
            {},
            r"a parameter of shape \(3,\) and dtype torch.float32, expected \(rows, width\) in float32",
        ),
        (torch.zeros(3, 2).bfloat16(), {}, r"shape \(3, 2\) and dtype torch.bfloat16, expected"),
    ],
)
def test_what_it_cannot_update_is_refused(params, settings, message):
    with pytest.raises(ValueError, match=message):
        RowwiseAdagrad([nn.Parameter(params)], **settings)
    optimizer = RowwiseAdagrad([nn.Parameter(torch.zeros(1, 1))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(params)], **settings})
    assert len(optimizer.param_groups) == 1
