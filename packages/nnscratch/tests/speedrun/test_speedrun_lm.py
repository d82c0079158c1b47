import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from speedrun_models import CONFIGS, OFF, ON, disturb, ids

from nnscratch import AdamW, CombinedOptimizer, Muon, RowwiseAdagrad, TransformerConfig, TransformerLM, reference
from nnscratch.speedrun.block import HeadGates, SpeedrunBlock
from nnscratch.speedrun.language_model import SpeedrunLM

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def seeded(config, make=SpeedrunLM):
    torch.manual_seed(7)
    return make(config)


def reference_logits(model, token_ids):
    """The model in the words of torch.nn.functional, from its state dict and config."""
    config, weights = model.config, model.state_dict()
    layers, heads, size = config.num_layers, config.num_heads, config.d_model // config.num_heads
    angles = torch.outer(torch.arange(token_ids.shape[1]), config.rope_theta ** -(torch.arange(0, size, 2) / size))
    turns = torch.polar(torch.ones_like(angles), angles)

    def rotate(x):
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turns).flatten(-2)

    def norm(x, name):
        return F.rms_norm(x, x.shape[-1:], weights.get(f"{name}.weight"), eps=1e-5)

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def outer(x, layer):
        return F.linear(x, weights[f"{layer}.attn.output_proj.weight"])

    x = F.embedding(token_ids, weights["token_embeddings.weight"])
    if config.smear:
        gate = torch.sigmoid(x[..., :12] @ weights["smear_gate"]) * weights["smear_scale"]
        x = x + gate[..., None] * F.pad(x, (0, 0, 1, 0))[:, :-1]
    if config.ngram_rows is not None:
        for n in config.ngrams:
            x = x + reference.ngram_embedding(token_ids, weights[f"ngram_embeddings.{n}.weight"], n)
    if config.embedding_norm:
        x = norm(x, "ln_embeddings")
    x0 = x
    kept, middle = {}, x
    for index in range(layers):
        layer, partner = f"layers.{index}", layers - 1 - index
        if config.skip_connections and index > partner:
            x = x + weights["skip_scales"][layers // 2 - 1 - partner] * kept[partner]
        if config.embedding_shortcut:
            x = x + weights["shortcut_scales"][index] * x0
        h = norm(x, f"{layer}.ln1")
        q, k, v = (split(F.linear(h, weights[f"{layer}.attn.{name}_proj.weight"])) for name in "qkv")
        if config.value_embeddings and (layers - 1 - index) % 2 == 0:
            gate = 2 / (1 + torch.exp(-F.linear(h[..., :32], weights[f"{layer}.value_gate.weight"])))
            rows = split(F.embedding(token_ids, weights[f"value_embeddings.{index}.weight"]))
            v = v + gate.transpose(1, 2)[..., None] * rows
        if config.qk_norm:
            q, k = norm(q, f"{layer}.attn.q_norm"), norm(k, f"{layer}.attn.k_norm")
        gathered = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        if config.attention_gates:
            gate = 2 / (1 + torch.exp(-F.linear(h[..., :12], weights[f"{layer}.attn_gate.weight"])))
            gathered = gathered * gate.transpose(1, 2)[..., None]
        x = x + outer(gathered.transpose(1, 2).flatten(-2), layer)
        h = norm(x, f"{layer}.ln2")
        inner = F.linear(h, weights[f"{layer}.ffn.w1.weight"])
        if config.ffn == "swiglu":
            inner = F.silu(inner) * F.linear(h, weights[f"{layer}.ffn.w3.weight"])
        else:
            inner = F.silu(inner) if config.ffn == "silu" else F.relu(inner) ** 2
        x = x + F.linear(inner, weights[f"{layer}.ffn.w2.weight"])
        kept[index] = x
        middle = x if index + 1 == layers // 2 else middle
    if config.backout:
        x = x - weights["backout_scale"] * middle
    logits = F.linear(norm(x, "ln_final"), weights["lm_head.weight"])
    cap = config.logit_soft_cap
    return logits if cap is None else cap * torch.tanh(logits / cap)


@every_config
def test_logits_and_loss_are_those_of_torch(config):
    model, inputs, targets = disturb(SpeedrunLM(config)), ids(config), ids(config)
    expected = reference_logits(model, inputs)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(inputs), expected, atol=1e-4, rtol=1e-4)
    loss = F.cross_entropy(expected.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model.loss(inputs, targets), loss, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_with_all_switches_off_it_is_the_transformer_to_the_bit(tied):
    config = dataclasses.replace(OFF, tie_embeddings=tied)
    speedrun = seeded(config)
    plain = seeded(TransformerConfig(50, 12, 32, 4, 4, 48, tie_embeddings=tied), TransformerLM)
    ours, theirs = speedrun.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    inputs, targets = ids(config), ids(config)
    assert torch.equal(speedrun(inputs), plain(inputs))
    for model in (speedrun, plain):
        model.loss(inputs, targets).backward()
    for ours, theirs in zip(speedrun.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("qk_norm", {f"layers.{index}.attn.{name}_norm.weight" for index in range(4) for name in "qk"}),
        ("zero_init_projections", set()),
        ("logit_soft_cap", set()),
        (
            "value_embeddings",
            {f"{a}.{b}" for a, b in [("value_embeddings.1", "weight"), ("value_embeddings.3", "weight")]}
            | {f"layers.{index}.value_gate.weight" for index in (1, 3)},
        ),
        ("skip_connections", {"skip_scales"}),
        ("embedding_shortcut", {"shortcut_scales"}),
        ("ngram_rows", {"ngram_embeddings.2.weight", "ngram_embeddings.3.weight"}),
        ("embedding_norm", {"ln_embeddings.weight"}),
        ("attention_gates", {f"layers.{index}.attn_gate.weight" for index in range(4)}),
        ("smear", {"smear_gate", "smear_scale"}),
        ("backout", {"backout_scale"}),
    ],
)
def test_what_a_switch_adds_and_that_all_else_starts_as_without_it(switch, names):
    plain, changed = seeded(OFF).state_dict(), seeded(CONFIGS[switch]).state_dict()
    assert set(changed) == set(plain) | names
    different = {name for name in plain if not torch.equal(plain[name], changed[name])}
    if switch == "zero_init_projections":
        outputs = {f"layers.{i}.{name}.weight" for i in range(4) for name in ("attn.output_proj", "ffn.w2")}
        assert different == outputs | {"lm_head.weight"}
        assert all(changed[name].eq(0).all() for name in outputs)
        assert changed["lm_head.weight"].std().item() == pytest.approx(0.001, rel=0.1)
    else:
        assert not different


def test_relu_squared_has_no_third_matrix():
    names = set(SpeedrunLM(CONFIGS["ffn"]).state_dict())
    assert names == set(SpeedrunLM(OFF).state_dict()) - {f"layers.{index}.ffn.w3.weight" for index in range(4)}


@pytest.mark.parametrize("config", [OFF, ON, CONFIGS["no gains"]])
def test_norms_without_gains_are_those_with_gains_of_one(config):
    with_gains = disturb(SpeedrunLM(config))
    for name, param in with_gains.named_parameters():
        if "norm" in name or ".ln" in name or name.startswith("ln_"):
            param.data.fill_(1.0)
    without = SpeedrunLM(dataclasses.replace(config, gainless_norms=True))
    kept = with_gains.state_dict()
    gains = kept.keys() - without.state_dict().keys()
    assert gains == {name for name, value in kept.items() if value.dim() == 1 and torch.all(value == 1.0)}
    without.load_state_dict({name: value for name, value in kept.items() if name not in gains})
    inputs, targets = ids(config), ids(config)
    assert torch.equal(without.eval()(inputs), with_gains.eval()(inputs))
    for model in (with_gains, without):
        model.loss(inputs, targets).backward()
    expected = dict(with_gains.named_parameters())
    for name, param in without.named_parameters():
        assert torch.equal(param.grad.to_dense(), expected[name].grad.to_dense()), name


@pytest.mark.parametrize("switch", ["embedding_shortcut", "attention_gates", "smear", "backout"])
def test_some_switches_start_where_the_model_is_the_one_without_them(switch):
    inputs = ids(OFF)
    assert torch.equal(seeded(CONFIGS[switch])(inputs), seeded(OFF)(inputs))


def test_skip_connections_start_at_one_and_without_them_the_model_is_the_plain_one():
    model, inputs = seeded(CONFIGS["skip_connections"]), ids(OFF)
    assert model.skip_scales.tolist() == [1.0, 1.0]
    assert not torch.allclose(model(inputs), seeded(OFF)(inputs), atol=1e-2)
    with torch.no_grad():
        model.skip_scales.zero_()
    assert torch.equal(model(inputs), seeded(OFF)(inputs))


def test_gates_start_at_one_and_value_embeddings_as_large_as_the_value_projection():
    values = torch.randn(2, 5, 32)
    assert torch.equal(HeadGates(4, 32)(values), torch.ones(2, 5, 4))
    model = SpeedrunLM(dataclasses.replace(ON, vocab_size=500))
    assert model.value_embeddings["1"].weight.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert model.layers[1].attn.v_proj.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)


@pytest.mark.parametrize("config", [CONFIGS["zero_init_projections"], ON, CONFIGS["on, 5 layers, tied"]])
def test_a_new_zero_initialised_model_looks_at_each_token_alone(config):
    model, token_ids = SpeedrunLM(config), ids(config)
    alone = model(token_ids.reshape(-1, 1)).view(*token_ids.shape, -1)
    torch.testing.assert_close(model(token_ids), alone, atol=1e-6, rtol=1e-5)
    assert alone.std(dim=(0, 1)).max() > 0
    if not config.tie_embeddings:
        assert model(token_ids).abs().max() < 0.03
        assert model.loss(token_ids, ids(config)).item() == pytest.approx(math.log(50), abs=0.01)


@every_config
def test_all_parameters_learn_within_three_steps(config):
    model = SpeedrunLM(config)
    start = {name: param.detach().clone() for name, param in model.named_parameters()}
    groups, inputs, targets = model.parameter_groups(), ids(config, 8), ids(config, 8)
    tables = groups.pop("tables")
    optimizers = [AdamW([param for params in groups.values() for param in params], lr=1e-2, weight_decay=0.0)]
    optimizer = CombinedOptimizer(optimizers + ([RowwiseAdagrad(tables)] if tables else []))
    losses = []
    for step in range(3):
        loss = model.loss(inputs, targets)
        loss.backward()
        losses.append(loss.item())
        blocked = {name for name, param in model.named_parameters() if not param.grad.to_dense().any()}
        inside = {"q_proj", "k_proj", "v_proj", "w1", "w3", "value_gate", "value_embeddings", "attn_gate"}
        if step == 0 and config.zero_init_projections:
            assert blocked - {"smear_gate", "backout_scale"} == {
                name
                for name in start
                if inside & set(name.split(".")) or name.endswith(("ln1.weight", "ln2.weight", "_norm.weight"))
            }
        else:
            # The gate acts from the second step on, when its scale is no longer 0.
            assert blocked == ({"smear_gate"} if config.smear and step == 0 else set())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[2] < losses[0]
    for name, param in model.named_parameters():
        assert not torch.equal(param, start[name]), name


@every_config
def test_no_logit_depends_on_a_later_token(config):
    model, token_ids = disturb(SpeedrunLM(config)), ids(config)
    changed = token_ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % config.vocab_size
    torch.testing.assert_close(model(token_ids)[:, :7], model(changed)[:, :7], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(token_ids)[:, 7:], model(changed)[:, 7:], atol=1e-3)


def test_autocast_stays_close_and_gives_gradients_in_float32():
    model, inputs, targets = disturb(SpeedrunLM(ON)), ids(ON, 8), ids(ON, 8)
    exact = model.loss(inputs, targets).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(inputs, targets)
        assert model(inputs).dtype == torch.bfloat16
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=0.02)
    assert {param.grad.dtype for param in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("narrow", [False, True])
def test_under_autocast_a_narrow_stream_is_as_narrow_as_products(narrow):
    model, inputs, seen = disturb(SpeedrunLM(dataclasses.replace(ON, narrow_stream=narrow))), ids(ON), []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append((arguments[0].dtype, arguments[4])))
    model(inputs)
    assert {dtype for dtype, _ in seen} == {torch.float32}
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        model(inputs)
    dtype = torch.bfloat16 if narrow else torch.float32
    assert {found for found, _ in seen} == {dtype}
    assert {values.dtype for _, values in seen if values is not None} == {dtype}


def test_bfloat16_weights_stay_close():
    model, inputs, targets = disturb(SpeedrunLM(ON)), ids(ON, 8), ids(ON, 8)
    exact = model.loss(inputs, targets).item()
    loss = model.bfloat16().loss(inputs, targets)
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=0.03)
    assert model(inputs).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_the_loss_compiles_as_one_graph(unchecked_shapes):
    config = dataclasses.replace(ON, num_layers=2)
    model, inputs, targets = disturb(SpeedrunLM(config)), ids(config), ids(config)
    loss = model.loss(inputs, targets)
    expected = [grad.to_dense() for grad in torch.autograd.grad(loss, list(model.parameters()))]
    torch.compiler.reset()
    compiled = torch.compile(model.loss, fullgraph=True, backend="eager")(inputs, targets)
    torch.testing.assert_close(compiled, loss)
    for ours, exact in zip(torch.autograd.grad(compiled, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-4)


@every_config
def test_parameter_groups_are_a_partition(config):
    model = SpeedrunLM(config)
    groups = model.parameter_groups()
    names = {id(param): name for name, param in model.named_parameters()}
    named = {group: {names[id(param)] for param in params} for group, params in groups.items()}
    assert list(groups) == ["matrices", "embeddings", "tables", "head", "scalars"]
    assert sorted(id(param) for params in groups.values() for param in params) == sorted(names)
    assert all(param.dim() == 2 for param in groups["matrices"])
    assert all(name.startswith("layers.") for name in named["matrices"])
    assert all(param.dim() == 1 for param in groups["scalars"])
    assert all("embeddings" in name for name in named["embeddings"])
    assert named["tables"] == {name for name in names.values() if name.startswith("ngram_embeddings.")}
    assert named["head"] == (set() if config.tie_embeddings else {"lm_head.weight"})


def test_muon_and_adamw_share_the_groups_out_and_learn_a_batch():
    model, inputs, targets = SpeedrunLM(ON), ids(ON), ids(ON)
    groups = model.parameter_groups()
    rest = [{"params": groups[name]} for name in ("embeddings", "head", "scalars")]
    optimizer = CombinedOptimizer(
        [Muon(groups["matrices"], lr=0.02), AdamW(rest, lr=1e-2), RowwiseAdagrad(groups["tables"])]
    )
    for _ in range(40):
        loss = model.loss(inputs, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.5  # from 3.9


@every_config
def test_weights_come_back_from_a_file(config, tmp_path):
    model, token_ids = disturb(SpeedrunLM(config)), ids(config)
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors")
    other = SpeedrunLM(type(config).from_dict(config.to_dict()))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(token_ids), model(token_ids))
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(SpeedrunLM.from_pretrained(tmp_path / "saved")(token_ids), model(token_ids))


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        ("qk_norm", "layers.0.attn.q_norm.weight"),
        ("value_embeddings", "value_embeddings.1.weight"),
        ("skip_connections", "skip_scales"),
        ("embedding_shortcut", "shortcut_scales"),
        ("ngram_rows", "ngram_embeddings.2.weight"),
        ("embedding_norm", "ln_embeddings.weight"),
        ("attention_gates", "layers.0.attn_gate.weight"),
        ("smear", "smear_gate"),
        ("backout", "backout_scale"),
        ("ffn", "layers.0.ffn.w3.weight"),
    ],
)
def test_weights_of_another_config_are_refused(switch, name):
    for model, other in ((OFF, CONFIGS[switch]), (CONFIGS[switch], OFF)):
        with pytest.raises(RuntimeError, match=name):
            SpeedrunLM(model).load_state_dict(SpeedrunLM(other).state_dict())


def test_weights_with_scales_of_the_stream_are_refused():
    """Models of earlier versions had them, beside those of the shortcut."""
    model = SpeedrunLM(CONFIGS["embedding_shortcut"])
    with pytest.raises(RuntimeError, match=r"Unexpected.*stream_scales"):
        model.load_state_dict({**model.state_dict(), "stream_scales": torch.ones(4)})


def test_a_block_says_what_is_wrong_with_its_value_embeddings():
    model, x = SpeedrunLM(ON), torch.randn(1, 3, 32)
    with pytest.raises(ValueError, match="value_embeddings are missing, but the block has a gate for them; pass them"):
        model.layers[1](x)
    with pytest.raises(ValueError, match="value_embeddings are given, but the block has no gate for them"):
        model.layers[0](x, value_embeddings=x)
    assert isinstance(model.layers[0], SpeedrunBlock)


def test_a_model_can_be_made_without_memory():
    model = SpeedrunLM(ON, device="meta", dtype=torch.bfloat16)
    assert {(param.device.type, param.dtype) for param in model.parameters()} == {("meta", torch.bfloat16)}
