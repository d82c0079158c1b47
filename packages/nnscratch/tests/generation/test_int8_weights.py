import copy

import pytest
import torch
from samples import save_letters
from variants import VARIANTS, variant

from nnscratch import (
    Embedding,
    LanguageModel,
    Linear,
    TransformerConfig,
    TransformerLM,
    complete,
    export_huggingface,
    generate,
    quantize_int8,
    stream,
)
from nnscratch.generation import int8_weights

FEW, MANY = 3, 40


def made(**fields):
    sizes = {"vocab_size": 90, "context_length": 48, "d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 96}
    return TransformerLM(TransformerConfig(**sizes | fields))


def dequantized(model, quantized):
    """The model with the weights that the integers stand for, in explicit float32 matrices."""
    explicit = copy.deepcopy(model)
    for name, module in explicit.named_modules():
        if type(module) is Linear:
            module.weight = torch.nn.Parameter(quantized.get_submodule(name).weight)
    return explicit


def test_weights_are_at_most_half_a_step_away():
    weight = torch.randn(50, 30) * torch.logspace(-30, 3, 50).unsqueeze(1)
    weight[7] = 0
    layer = int8_weights._Int8Linear(weight)
    step = weight.abs().amax(-1, keepdim=True) / 127
    # The scale is rounded up to a bfloat16: by less than 1 in 128.
    assert bool(((layer.weight - weight).abs() <= step * (1 + 1 / 128) / 2 + 1e-37).all())
    assert layer.integers.dtype == torch.int8
    assert int(layer.integers.abs().max()) == 127
    assert bool((layer.weight[7] == 0).all())


@pytest.mark.parametrize("d_in", [1, 7, 12, 63, 64, 65, 200])
@pytest.mark.parametrize("d_out", [1, 5, 64, 90])
def test_products_for_any_width(d_in, d_out):
    layer = int8_weights._Int8Linear(torch.randn(d_out, d_in))
    weight = layer.weight.double()
    assert layer(torch.zeros(2, 0, d_in)).shape == (2, 0, d_out)
    for rows in (1, FEW, MANY):
        x = torch.randn(rows, d_in)
        right = x.double() @ weight.T
        size = x.abs().double() @ weight.abs().T
        # bfloat16 rounds x by at most 1 in 2⁸ and the result by the same; a long sum in float32 adds less.
        bound = 2.1 * 2**-8 * size
        if rows > int8_weights._FEW_ROWS and int8_weights._has_exact_products():
            bound = x.abs().amax(-1, keepdim=True) * weight.abs().sum(-1) / 64_516 + 2**-20 * size
        assert bool(((layer(x).double() - right).abs() <= bound + 1e-6).all())


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_logits_are_those_of_the_explicit_weights(fields):
    model = variant(made().config, fields)
    quantized = quantize_int8(model)
    explicit = dequantized(model, quantized)
    ids = torch.randint(90, (2, MANY))
    with torch.no_grad():
        logits, right = quantized(ids), explicit(ids)
        if int8_weights._has_exact_products():
            assert float((logits - right).abs().max()) < 1e-4 * max(1.0, float(right.abs().max()))
        assert float((logits - right).norm() / right.norm()) < 0.01
        few, right = quantized(ids[:1, :FEW]), explicit(ids[:1, :FEW])
        assert float((few - right).norm() / right.norm()) < 0.01
        assert float((logits - model(ids)).norm() / model(ids).norm()) < 0.03
    loss = quantized.loss(ids[:, :-1], ids[:, 1:])
    allowed = 1e-4 if int8_weights._has_exact_products() else 5e-3
    torch.testing.assert_close(loss, explicit.loss(ids[:, :-1], ids[:, 1:]), rtol=allowed, atol=allowed)


def test_biases_stay():
    model = made(qkv_bias=True)
    for layer in model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            layer.attn.get_submodule(name).bias.data.normal_()
    quantized = quantize_int8(model)
    explicit = dequantized(model, quantized)
    for length in (FEW, MANY):
        ids = torch.randint(90, (1, length))
        with torch.no_grad():
            assert float((quantized(ids) - explicit(ids)).norm() / explicit(ids).norm()) < 0.01


def test_a_cpu_without_exact_products_multiplies_in_bfloat16(monkeypatch):
    layer = int8_weights._Int8Linear(torch.randn(20, 64))
    x = torch.randn(MANY, 64)
    monkeypatch.setattr(int8_weights, "_has_exact_products", lambda: False)
    assert torch.equal(layer(x), int8_weights._few_products(x, layer.integers, layer.scale).float())
    right = x @ layer.weight.T
    assert float((layer(x) - right).norm() / right.norm()) < 0.01


def test_inexact_products_are_noticed(monkeypatch):
    exact = torch._int_mm
    saturated = lambda a, b: exact(a, b).clamp(-(2**15), 2**15 - 1)  # noqa: E731
    monkeypatch.setattr(torch, "_int_mm", saturated)
    assert not int8_weights._has_exact_products.__wrapped__()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).int())
    assert int8_weights._has_exact_products.__wrapped__()


@pytest.mark.parametrize("tied", [False, True])
def test_all_ways_of_generating_accept_the_copy(tied):
    model = made(tie_embeddings=tied)
    before = {name: param.clone() for name, param in model.state_dict().items()}
    quantized = quantize_int8(model)
    options = {"max_new_tokens": 12, "temperature": 0.0}
    prompts = torch.randint(90, (12, 5))
    texts = complete(quantized, prompts, **options)
    assert texts == generate(quantized, prompts, **options)[:, 5:].tolist()
    assert list(stream(quantized, prompts[0], **options)) == complete(quantized, [prompts[0]], **options)[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert quantized.token_embeddings.weight.data_ptr() != model.token_embeddings.weight.data_ptr()
    assert torch.equal(quantized.token_embeddings.weight, model.token_embeddings.weight)
    assert not any(type(module) is Linear for module in quantized.modules())
    assert copy.deepcopy(quantized)(prompts).equal(quantized(prompts))


def test_other_dtypes_keep_theirs():
    quantized = quantize_int8(made().bfloat16())
    assert quantized(torch.randint(90, (2, 20))).dtype == torch.bfloat16
    assert quantized(torch.randint(90, (1, 2))).dtype == torch.bfloat16


def test_the_copy_is_neither_saved_nor_trained(tmp_path):
    quantized, tokenizer = quantize_int8(made()), save_letters(tmp_path / "tokenizer")
    for save in (
        quantized.state_dict,
        lambda: quantized.save_pretrained(tmp_path / "saved"),
        lambda: export_huggingface(quantized, tokenizer, tmp_path / "exported"),
    ):
        with pytest.raises(ValueError, match="8-bit weights cannot be saved or exported; use the model that was quant"):
            save()
    assert not (tmp_path / "saved").exists()
    assert not any(param.requires_grad for param in quantized.parameters())
    with pytest.raises(ValueError, match="requires_grad=True, but 8-bit weights are for inference on a CPU"):
        quantized.lm_head(torch.zeros(1, 64, requires_grad=True))
    with pytest.raises(ValueError, match=r"x has shape \(1, 63\)"):
        quantized.lm_head(torch.zeros(1, 63))


def test_models_that_cannot_be_quantized_are_refused():
    with pytest.raises(ValueError, match="the model is on meta, expected a CPU"):
        quantize_int8(TransformerLM(made().config, device="meta"))
    with pytest.raises(ValueError, match="has no layer of type Linear to quantize"):
        quantize_int8(quantize_int8(made()))
    model = made()
    model.layers[1].ffn.w2.weight.data[3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.1\.ffn\.w2\.weight has numbers that are not finite"):
        quantize_int8(model)


class Bag(LanguageModel):
    """A model of its own, with a layer that has a weight of another kind."""

    def __init__(self, config):
        super().__init__()
        self.config, self.token_embeddings, self.lm_head = config, Embedding(90, 64), Linear(64, 90)
        self.other = torch.nn.Linear(64, 64)

    def _features(self, token_ids, token_positions, cache, mask):
        return self.other(self.token_embeddings(token_ids))


def test_a_model_of_your_own_is_quantized_where_it_has_linear_layers():
    model = Bag(made().config)
    quantized = quantize_int8(model)
    model.requires_grad_(False)
    assert type(quantized.other) is torch.nn.Linear
    ids = torch.randint(90, (2, MANY))
    difference = (quantized(ids) - model(ids)).norm() / model(ids).norm()
    assert 0 < float(difference) < 0.03
