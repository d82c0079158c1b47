import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode
from variants import VARIANTS, optimizer_for, variant

from nnscratch import (
    AdamW,
    KeyValueCache,
    TransformerConfig,
    TransformerLM,
    count_parameters,
    flops_by_part,
    flops_per_token,
    memory_estimate,
)
from nnscratch.accounting import (
    activation_values,
    adamw_flops,
    cache_memory,
    handout_activation_values,
    largest_batch_size,
    matrix_products,
    parameters_by_part,
    training_seconds,
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


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_parameters_are_those_of_the_model(changes):
    config = TransformerConfig(300, 32, 64, 3, 4, 128, **changes)
    assert count_parameters(config) == count_parameters(TransformerLM(config, device="meta"))
    assert sum(parameters_by_part(config).values()) == count_parameters(config)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_flops_are_those_that_torch_counts(changes):
    # Torch computes and counts what is outside a window, too.
    changes = {name: value for name, value in changes.items() if name not in ("window", "full_attention_layers")}
    config = TransformerConfig(300, 32, 64, 2, 4, 128, **changes)
    model = TransformerLM(config)
    for length in (32, 8):
        ids = torch.randint(300, (3, length))
        # With padding, of none here, attention has a mask and takes the whole square, which is what is counted;
        # without, it skips the masked half, in an operator that the counter does not see into.
        with FlopCounterMode(display=False) as forward:
            logits = model(ids, padding=torch.zeros(3, dtype=torch.long))
        assert forward.get_total_flops() == pytest.approx(3 * length * flops_per_token(config, length), rel=0.01)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        total = forward.get_total_flops() + backward.get_total_flops()
        assert total == pytest.approx(3 * length * flops_per_token(config, length, backward=True), rel=0.01)


def test_flops_of_the_training_loss_are_those_that_torch_counts():
    config = TransformerConfig(300, 32, 128, 2, 4, 384)
    ids = torch.randint(300, (3, 4))
    with FlopCounterMode(display=False) as training:
        TransformerLM(config).loss(ids, ids).backward()
    # At 4 tokens attention's square is below half a percent of all.
    assert training.get_total_flops() == pytest.approx(3 * 4 * flops_per_token(config, 4, backward=True), rel=0.01)


def test_a_window_counts_only_in_its_layers():
    config = TransformerConfig(300, 32, 64, 3, 4, 128, window=10, full_attention_layers=(1,))
    all_full = flops_by_part(dataclasses.replace(config, window=None, full_attention_layers=()))
    windowed = flops_by_part(config)
    assert windowed["attention"] == pytest.approx(all_full["attention"] * (1 + 2 * 10 / 32) / 3)
    assert {**windowed, "attention": 0} == {**all_full, "attention": 0}
    assert all(product.times > 0 for product in matrix_products(dataclasses.replace(config, full_attention_layers=())))
    assert flops_by_part(config, 10)["attention"] == pytest.approx(all_full["attention"] * 10 / 32)


def test_matrix_products_add_up_to_the_parts():
    for length in (1, 7, 1024):
        products, parts = matrix_products(XL, length), flops_by_part(XL, length)
        assert sum(product.flops for product in products) == length * flops_per_token(XL, length)
        for name, flops in parts.items():
            assert length * flops == sum(product.flops for product in products if product.part == name)


def bytes_kept(compute, *known):
    """Bytes of all different floating-point tensors, besides known ones, that a computation keeps for its gradients."""
    skipped, kept = {tensor.untyped_storage().data_ptr() for tensor in known}, {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skipped and tensor.is_floating_point():
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        result = compute()
    assert result.requires_grad
    return sum(size for size, _ in kept.values())


ACTIVATIONS = [
    *VARIANTS,
    {"num_heads": 16, "context_length": 256},
    {"attention_dropout": 0.1, "num_kv_heads": 2, "dropout": 0.1},
    {"attention_dropout": 0.1, "qk_norm": True},
]


@pytest.mark.parametrize("changes", ACTIVATIONS, ids=str)
def test_activations_are_what_the_forward_pass_keeps(changes):
    config = dataclasses.replace(TransformerConfig(100, 64, 96, 3, 4, 160), **changes)
    model = TransformerLM(config)
    ids = torch.randint(100, (2, config.context_length))
    joint = (config.num_heads + 2 * config.kv_heads) * config.d_k * 96 * 4  # bytes of the joint qkv matrix of a layer
    known, head = [*model.parameters(), *model.buffers()], 100 * 96 * 4  # bytes of the output layer's gradient
    measured = bytes_kept(lambda: model.loss(ids, ids), *known) - 3 * joint - head
    assert memory_estimate(config, 2).activations == pytest.approx(measured, rel=0.03)
    model.checkpoint_blocks = True
    measured = bytes_kept(lambda: model.loss(ids, ids), *known) - head
    assert 2 * 4 * activation_values(config, checkpoint_blocks=True) == pytest.approx(measured, rel=1e-3)
    x = torch.randn(2, config.context_length, 96, requires_grad=True)
    measured += bytes_kept(lambda: model.layers[0](x), x, *known) - joint
    assert memory_estimate(config, 2, checkpoint_blocks=True).activations == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"norm": "none"}])
def test_optimizer_state_and_gradients(config, changes):
    config = dataclasses.replace(config, **changes)
    model = TransformerLM(config)
    optimizer = AdamW(model.parameters())
    model.loss(*torch.randint(50, (2, 3, 16))).backward()
    optimizer.step()
    estimate = memory_estimate(config, 3)
    # The counts of steps, four bytes for each parameter tensor, are in the host's memory.
    state = [values[name] for values in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert all(values.keys() == {"step", "exp_avg", "exp_avg_sq"} for values in optimizer.state.values())
    assert estimate.parameters == 4 * count_parameters(model)
    assert estimate.gradients == sum(param.grad.nbytes for param in model.parameters())
    assert estimate.optimizer_state == sum(tensor.nbytes for tensor in state)
    parts = estimate.parameters + estimate.gradients + estimate.optimizer_state + estimate.activations
    assert estimate.total == parts


def test_tables_of_ngrams_have_the_state_of_rowwise_adagrad(config):
    config = dataclasses.replace(config, ngram_rows=97)
    model = variant(config, {})
    optimizer = optimizer_for(model, lr=1e-3)
    model.loss(*torch.randint(50, (2, 3, 16))).backward()
    optimizer.step()
    estimate, plain = memory_estimate(config, 3), memory_estimate(dataclasses.replace(config, ngram_rows=None), 3)
    # The counts of steps of AdamW are in the host's memory.
    state = [tensor for values in optimizer.state.values() for tensor in values.values() if tensor.dim() > 0]
    assert estimate.optimizer_state == sum(tensor.nbytes for tensor in state)
    assert estimate.optimizer_state == plain.optimizer_state + 2 * 2 * 97 * 4
    assert estimate.gradients == plain.gradients + 2 * 97 * config.d_model * 4
    assert estimate.activations == plain.activations
    assert memory_estimate(config, 3, optimizer="sgd").optimizer_state == 2 * 2 * 97 * 4
    assert adamw_flops(config) == adamw_flops(dataclasses.replace(config, ngram_rows=None))


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 2, "head_size": 12}], ids=str)
def test_memory_of_the_cache_is_that_of_its_buffers(config, changes):
    config = dataclasses.replace(config, **changes)
    cache = KeyValueCache(config.num_layers, 9)
    TransformerLM(config)(torch.zeros(3, 2, dtype=torch.long), cache)
    buffers = [tensor for layer in cache.layers for tensor in (layer._keys, layer._values)]
    assert cache_memory(config, 3, context_length=9) == sum(tensor.nbytes for tensor in buffers)
    assert cache_memory(config, bytes_per_value=2) == cache_memory(config) / 2


def test_memory_grows_with_batch_and_length():
    one = memory_estimate(SMALL, 1)
    assert memory_estimate(SMALL, 8).activations == 8 * one.activations
    assert memory_estimate(SMALL, 1, context_length=512).activations == one.activations / 2  # no scores are kept
    assert memory_estimate(SMALL, 1, optimizer="sgd").optimizer_state == 0
    assert memory_estimate(SMALL, 1, optimizer="muon").optimizer_state == one.optimizer_state / 2
    assert memory_estimate(SMALL, 1, bytes_per_value=2).total == one.total / 2


def test_values_out_of_range_are_refused():
    for name in ("batch_size", "context_length", "bytes_per_value"):
        with pytest.raises(ValueError, match=f"{name}=0 is out of range; choose at least 1"):
            memory_estimate(SMALL, **{"batch_size": 1} | {name: 0})
        with pytest.raises(ValueError, match=f"{name}=0 is out of range; choose at least 1"):
            cache_memory(SMALL, **{name: 0})
    with pytest.raises(ValueError, match="optimizer='lion' is unknown; choose one of sgd, muon, adamw"):
        memory_estimate(SMALL, 1, optimizer="lion")
    with pytest.raises(ValueError, match="context_length=0 is out of range; choose at least 1"):
        flops_per_token(SMALL, 0)


def test_adamw_accounting_of_the_assignment():
    assert adamw_flops(XL) == 14 * 2_127_057_600
    days = training_seconds(XL, steps=400_000, batch_size=1024, flops_per_second=19.5e12, mfu=0.5) / 86_400
    assert days == pytest.approx(6_580, rel=1e-3)
    fixed = memory_estimate(XL, 1).fixed
    assert fixed == 16 * 2_127_057_600
    # 8.51 GB each of parameters and gradients, twice that of state; the rest of 80 GB holds so many sequences.
    for values in (activation_values(XL), handout_activation_values(XL)):
        batch = largest_batch_size(fixed, 4 * values, 80e9)
        assert fixed + 4 * values * batch <= 80e9 < fixed + 4 * values * (batch + 1)
    assert largest_batch_size(fixed, 1, 8e9) == 0


def test_the_assignment_s_activations_are_its_list():
    # T d for each of 2 norms, q, k, v, the weighted sum, the projection and w2; 4 T d_ff; 2 h T²; the end.
    length, block = 1024, 1024 * (8 * 1600 + 4 * 6400) + 2 * 25 * 1024**2
    assert handout_activation_values(XL) == 48 * block + length * 1600 + length * 50_257 + length
    plain = dataclasses.replace(XL, ffn="silu")
    assert handout_activation_values(XL) - handout_activation_values(plain) == 48 * length * 2 * 6400
