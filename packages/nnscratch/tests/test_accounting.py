import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from nnscratch import (
    AdamW,
    TransformerConfig,
    TransformerLM,
    count_parameters,
    flops_by_part,
    flops_per_token,
    memory_estimate,
)

XL = TransformerConfig(50_257, 1_024, 1_600, 48, 25, 6_400)
SMALL = TransformerConfig(50_257, 1_024, 768, 12, 12, 3_072)
MEDIUM = TransformerConfig(50_257, 1_024, 1_024, 24, 16, 4_096)
LARGE = TransformerConfig(50_257, 1_024, 1_280, 36, 20, 5_120)


def test_parameters_of_gpt2_xl():
    assert count_parameters(XL) == 2_127_057_600
    assert count_parameters(TransformerLM(XL, device="meta")) == 2_127_057_600


@pytest.mark.parametrize(
    ("config", "length", "teraflops"),
    [(SMALL, 1024, 0.350), (MEDIUM, 1024, 1.033), (LARGE, 1024, 2.258), (XL, 1024, 4.513), (XL, 16_384, 149.5)],
)
def test_forward_passes_of_the_gpt2_sizes(config, length, teraflops):
    assert flops_per_token(config, length) * length / 1e12 == pytest.approx(teraflops, rel=2e-3)


def test_shares_of_the_parts():
    def percent(config, length=1024):
        parts = flops_by_part(config, length)
        return {name: 100 * flops / sum(parts.values()) for name, flops in parts.items()}

    expected = {"ffn": 66.9, "qkv": 16.7, "output": 5.6, "attention": 7.1, "lm_head": 3.6}
    assert percent(XL) == pytest.approx(expected, abs=0.06)
    assert percent(SMALL)["ffn"] == pytest.approx(49.8, abs=0.06)
    assert percent(SMALL)["lm_head"] == pytest.approx(22.6, abs=0.06)
    assert percent(XL, 16_384)["attention"] == pytest.approx(55, abs=0.6)


@pytest.mark.parametrize("ffn", ["swiglu", "silu", "relu_squared"])
@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_flops_are_those_that_torch_counts(ffn, tie_embeddings):
    config = TransformerConfig(300, 32, 64, 2, 4, 128, ffn=ffn, tie_embeddings=tie_embeddings)
    model = TransformerLM(config)
    for length in (32, 8):
        ids = torch.randint(300, (3, length))
        with FlopCounterMode(display=False) as forward:
            logits = model(ids)
        assert forward.get_total_flops() == pytest.approx(3 * length * flops_per_token(config, length), rel=0.01)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        total = forward.get_total_flops() + backward.get_total_flops()
        assert total == pytest.approx(3 * length * flops_per_token(config, length, backward=True), rel=0.01)
        with FlopCounterMode(display=False) as training:
            model.loss(ids, ids).backward()
        assert training.get_total_flops() == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": norm, "ffn": ffn, "qk_norm": qk_norm}
        for norm, ffn, qk_norm in itertools.product(
            ("pre", "post", "none"), ("swiglu", "silu", "relu_squared"), (False, True)
        )
    ],
    ids=str,
)
def test_activations_are_what_the_forward_pass_keeps(changes):
    config = TransformerConfig(100, 64, 96, 3, 4, 160, **changes)
    model = TransformerLM(config)
    ids = torch.randint(100, (2, 64))
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and tensor.is_floating_point():
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        loss = model.loss(ids, ids)
    weights = 3 * 3 * 96 * 96 * 4 + 100 * 96 * 4  # the joint qkv matrix of each layer, the output layer's gradient
    measured = sum(size for size, _ in kept.values()) - weights
    assert loss.requires_grad
    assert memory_estimate(config, 2).activations == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"norm": "none"}])
def test_optimizer_state_and_gradients(config, changes):
    config = dataclasses.replace(config, **changes)
    model = TransformerLM(config)
    optimizer = AdamW(model.parameters())
    model.loss(*torch.randint(50, (2, 3, 16))).backward()
    optimizer.step()
    estimate = memory_estimate(config, 3)
    state = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    assert estimate.parameters == 4 * count_parameters(model)
    assert estimate.gradients == sum(param.grad.nbytes for param in model.parameters())
    assert estimate.optimizer_state == sum(tensor.nbytes for tensor in state)
    parts = estimate.parameters + estimate.gradients + estimate.optimizer_state + estimate.activations
    assert estimate.total == parts


def test_memory_grows_with_batch_and_length():
    one = memory_estimate(SMALL, 1)
    assert memory_estimate(SMALL, 8).activations == 8 * one.activations
    assert memory_estimate(SMALL, 1, context_length=512).activations < one.activations / 2
    assert memory_estimate(SMALL, 1, optimizer="sgd").optimizer_state == 0
    assert memory_estimate(SMALL, 1, optimizer="muon").optimizer_state == one.optimizer_state / 2
    assert memory_estimate(SMALL, 1, bytes_per_value=2).total == one.total / 2


def test_values_out_of_range_are_refused():
    for name in ("batch_size", "context_length", "bytes_per_value"):
        with pytest.raises(ValueError, match=f"{name}=0 is no size; choose at least 1"):
            memory_estimate(SMALL, **{"batch_size": 1} | {name: 0})
    with pytest.raises(ValueError, match="optimizer='lion' is unknown; choose one of sgd, muon, adamw"):
        memory_estimate(SMALL, 1, optimizer="lion")
    with pytest.raises(ValueError, match="context_length=0 is no sequence; choose at least 1"):
        flops_per_token(SMALL, 0)
