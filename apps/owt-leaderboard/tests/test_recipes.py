"""Recipes, changes of them, and the models, optimizers and schedules that they make."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from conftest import TINY

from bpe import Tokenizer
from owt_leaderboard.model.language_model import SpeedrunLM
from owt_leaderboard.recipe.assembly import SCHEDULE_STEPS, learning_rate_schedule, make_model, make_optimizer
from owt_leaderboard.recipe.overrides import changed
from owt_leaderboard.recipe.recipes import RECIPES
from owt_leaderboard.report import ablation_table as ablations
from owt_leaderboard.run.decisions import recipe_from_json
from owt_leaderboard.run.timed_run import COMPILING_PAYS_FROM, compiled_if_it_pays
from owt_leaderboard.run.training import make_loss

OWN_SWITCHES_OFF = (
    "zero_init_projections=False",
    "value_embeddings=False",
    "skip_connections=False",
    "embedding_shortcut=False",
    "embedding_norm=False",
)


@pytest.fixture
def speedrun():
    """The speedrun's optimizer on nnscratch's own Transformer."""
    return changed(RECIPES["speedrun"]("cpu"), (*TINY, *OWN_SWITCHES_OFF))


@pytest.mark.parametrize("device_type", ["cpu", "mps", "cuda"])
def test_baseline_is_the_transformer_with_adamw(device_type):
    from nnscratch import TransformerConfig, count_parameters

    recipe = RECIPES["baseline"](device_type)
    names = ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff", "rope_theta")
    config = TransformerConfig(**{name: getattr(recipe, name) for name in names})
    model = make_model(recipe, recipe.vocab_size)
    assert sum(p.numel() for p in model.parameters()) == count_parameters(config)
    optimizer = make_optimizer(model, recipe)
    assert type(optimizer).__name__ == "AdamW"
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (recipe.learning_rate, 0.1, (0.9, 0.95))


@pytest.mark.parametrize("name", ["baseline", "speedrun"])
def test_a_model_is_drawn_on_its_device(name):
    model = make_model(changed(RECIPES[name]("cpu"), ("bigram_embeddings=True",)), 300, "meta")
    assert {tensor.device.type for tensor in model.parameters()} == {"meta"}


def test_muon_has_the_matrices_and_each_kind_its_rate(speedrun):
    model = make_model(speedrun, 300)
    optimizer = make_optimizer(model, speedrun)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = [({names[p] for p in group["params"]}, group) for group in optimizer.param_groups]
    matrices = {f"layers.0.attn.{x}_proj.weight" for x in ("q", "k", "v", "output")}
    assert groups[0][0] == matrices | {f"layers.0.ffn.w{number}.weight" for number in (1, 2)}
    assert "momentum" in groups[0][1]
    assert all(parameter.dim() == 2 for parameter in groups[0][1]["params"])
    assert sorted(name for held, _ in groups for name in held) == sorted(names.values())
    rates = {frozenset(held): group["lr_scale"] * speedrun.learning_rate for held, group in groups}
    assert rates[frozenset({"token_embeddings.weight"})] == pytest.approx(0.03)
    assert rates[frozenset({"lm_head.weight"})] == pytest.approx(0.008)
    assert rates[frozenset(groups[0][0])] == pytest.approx(0.02)
    (scalars,) = (held for held, _ in groups if "ln_final.weight" in held)
    assert rates[frozenset(scalars)] == pytest.approx(0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_multiplies_as_the_device_trains(speedrun, monkeypatch, dtype):
    asked = []
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: asked.append((name, device.type)) or dtype)
    optimizer = make_optimizer(make_model(speedrun, 300), speedrun, "cpu")
    assert optimizer.param_groups[0]["newton_schulz_dtype"] == dtype
    assert asked == [("auto", "cpu")]


def test_adamw_can_have_rates_of_its_own_too(speedrun):
    model = make_model(speedrun, 300)
    recipe = changed(speedrun, ("optimizer=adamw", "muon_learning_rate=0.003", "head_learning_rate=None"))
    optimizer = make_optimizer(model, recipe)
    assert type(optimizer).__name__ == "AdamW"
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.003, 0.03, 0.01, 0.01])


def test_a_tied_model_trains_its_matrix_once(speedrun):
    recipe = changed(speedrun, ("tie_embeddings=True",))
    optimizer = make_optimizer(make_model(recipe, 300), recipe)
    assert len(optimizer.param_groups) == 3


def test_trapezoid_rises_stays_and_falls_to_its_share(speedrun):
    recipe = changed(speedrun, ("warmup_fraction=0.1", "decay_fraction=0.5", "final_learning_rate_fraction=0.2"))
    schedule, peak = learning_rate_schedule(recipe), recipe.learning_rate
    at = [schedule(round(SCHEDULE_STEPS * share) - 1) for share in (0.05, 0.1, 0.3, 0.5, 0.75, 1.0)]
    assert at == pytest.approx([0.5 * peak, peak, peak, peak, 0.6 * peak, 0.2 * peak])


def test_cosine_falls_to_a_tenth():
    recipe = RECIPES["baseline"]("cpu")
    schedule, peak = learning_rate_schedule(recipe), recipe.learning_rate
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    at = [schedule(round(SCHEDULE_STEPS * share) - 1) for share in (0.05, 0.1, 0.55, 1.0)]
    assert at == pytest.approx([0.5 * peak, peak, middle * peak, 0.1 * peak])


def test_changes_of_every_type():
    recipe = changed(
        RECIPES["speedrun"]("cuda"),
        [
            "learning_rate=1",
            "qk_norm=False",
            "logit_soft_cap=None",
            "schedule=cosine",
            "batch_ramp=((0.0, 1), (0.5, 2))",
        ],
    )
    assert recipe.learning_rate == 1.0
    assert isinstance(recipe.learning_rate, float)
    assert (recipe.qk_norm, recipe.logit_soft_cap, recipe.schedule) == (False, None, "cosine")
    assert recipe.batch_ramp == ((0.0, 1), (0.5, 2))


@pytest.mark.parametrize(
    "assignment", ["batch_size=2.5", "qk_norm=1", "d_model=wide", "num_layers", "=3", "learning_rate=True", "seed=None"]
)
def test_changes_that_are_none(assignment):
    with pytest.raises(ValueError, match=r"--set .*expected"):
        changed(RECIPES["baseline"]("cpu"), [assignment])


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["muon_learning_rate=None"], "muon_learning_rate is None"),
        (["warmup_fraction=0.5"], "more than the whole time"),
        (["evaluations=0"], "evaluations is 0"),
        (["final_learning_rate_fraction=1.5"], "expected a number from 0 to 1"),
        (["learning_rate=0"], "give positive numbers"),
        (["batch_ramp=((0.0, 1))"], r"batch_ramp is \(0.0, 1\): expected pairs"),
    ],
)
def test_recipes_that_contradict_themselves(assignments, message):
    with pytest.raises(ValueError, match=message):
        changed(RECIPES["speedrun"]("cpu"), assignments)


def test_recipes_survive_json():
    recipe = changed(RECIPES["speedrun"]("cuda"), ["batch_ramp=((0.0, 1), (0.5, 2))"])
    assert recipe_from_json(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_a_recipe_of_an_earlier_version_has_todays_defaults():
    values = asdict(RECIPES["speedrun"]("cpu"))
    values.pop("bigram_embeddings")
    assert recipe_from_json(values) == RECIPES["speedrun"]("cpu")
    with pytest.raises(ValueError, match=r"of another version .*'magic'"):
        recipe_from_json({**values, "magic": True})


def test_a_cpu_has_only_the_switches_that_gained_there_and_a_gpu_those_of_the_records():
    def are_on(device_type):
        return {name for name in ablations.SWITCHES if getattr(RECIPES["speedrun"](device_type), name)}

    assert are_on("cpu") == are_on("mps") == {"value_embeddings", "zero_init_projections"}
    assert are_on("cuda") == {
        "value_embeddings",
        "qk_norm",
        "zero_init_projections",
        "skip_connections",
        "embedding_shortcut",
        "embedding_norm",
        "narrow_stream",
        "cautious_weight_decay",
    }


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_speedrun_learns(device_type):
    torch.manual_seed(0)
    recipe = changed(RECIPES["speedrun"](device_type), (*TINY, "num_layers=4"))
    model = make_model(recipe, 300)
    optimizer = make_optimizer(model, recipe)
    tokens = torch.randint(300, (2, 17))
    losses = []
    for _ in range(20):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_speedruns_model_has_the_switches_of_its_recipe(device_type):
    sizes = ("d_model=64", "num_layers=4", "num_heads=1", "d_ff=256", "vocab_size=300", "context_length=16")
    recipe = changed(RECIPES["speedrun"](device_type), sizes)
    model = make_model(recipe, 300)
    assert type(model) is SpeedrunLM
    for name in ablations.SWITCHES:
        if hasattr(model.config, name):
            assert getattr(model.config, name) is getattr(recipe, name), name
    optimizer = make_optimizer(model, recipe)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_device_compiles_where_there_is_time_for_it(name):
    recipe = RECIPES[name]("cpu")
    for device, least in COMPILING_PAYS_FROM.items():
        assert compiled_if_it_pays(recipe, device, least) == replace(recipe, compile="on")
        assert compiled_if_it_pays(recipe, device, least - 1) == replace(recipe, compile="off")
        for given in ("on", "off"):
            assert compiled_if_it_pays(replace(recipe, compile=given), device, 1000.0).compile == given
    assert compiled_if_it_pays(recipe, "mps", 5400.0) == recipe


class Recorder(torch.nn.Module):
    """Keeps the inputs that it gets."""

    def loss(self, inputs, targets):
        self.inputs = inputs
        return inputs.float().mean()


def test_training_hides_tokens_behind_a_byte_that_no_text_has():
    tokenizer = Tokenizer({index: bytes([index]) for index in range(256)}, [], ["<|endoftext|>"])
    inputs, model = torch.randint(1, 256, (100, 100)), Recorder()
    for share in (0.0, None, 0.2):
        loss = make_loss(changed(RECIPES["speedrun"]("cpu"), (f"masked_inputs={share}",)), tokenizer)
        loss(model.eval(), inputs, inputs)
        assert model.inputs is inputs
        loss(model.train(), inputs, inputs)
        hidden = model.inputs == 0
        assert torch.equal(model.inputs[~hidden], inputs[~hidden])
        assert hidden.float().mean().item() == pytest.approx(share or 0.0, abs=0.02)
    first = model.inputs
    loss(model, inputs, inputs)
    assert not torch.equal(first, model.inputs)
