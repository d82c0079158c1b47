"""Models, optimizers, schedules and losses that recipes make."""

import math

import numpy as np
import pytest
import torch
from speedrun_models import TINY

from nnscratch import FrequentNGramEmbedding, RowwiseAdagrad, TransformerConfig, count_parameters
from nnscratch.speedrun import (
    RECIPES,
    SCHEDULE_STEPS,
    changed,
    learn_ngrams,
    learning_rate_schedule,
    make_loss,
    make_model,
    make_optimizer,
    momentum_schedule,
    weight_decay_schedule,
)


@pytest.fixture
def speedrun():
    """The speedrun's optimizer on nnscratch's own Transformer."""
    return changed(
        RECIPES["speedrun"]("cpu"), (*TINY, "zero_init_projections=False", "value_embeddings=False", "ngram_rows=None")
    )


@pytest.mark.parametrize("device_type", ["cpu", "mps", "cuda"])
def test_baseline_is_the_transformer_with_adamw(device_type):
    recipe = RECIPES["baseline"](device_type)
    sizes = ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")
    assert [getattr(recipe.model, name) for name in sizes[2:]] == [512, 4, 16, 1344]
    config = TransformerConfig(**{name: getattr(recipe.model, name) for name in sizes})
    model = make_model(recipe, recipe.model.vocab_size, "meta")
    assert sum(p.numel() for p in model.parameters()) == count_parameters(config)
    optimizer = make_optimizer(model, recipe)
    assert type(optimizer).__name__ == "AdamW"
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (3e-3, 0.1, (0.9, 0.95))


@pytest.mark.parametrize("name", ["baseline", "speedrun"])
def test_a_model_is_drawn_on_its_device(name):
    model = make_model(changed(RECIPES[name]("cpu"), ("ngram_rows=1000",)), 300, "meta")
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
    rates = {frozenset(held): group["lr_scale"] * 0.01 for held, group in groups}
    assert rates[frozenset({"token_embeddings.weight"})] == pytest.approx(0.3)
    assert rates[frozenset({"lm_head.weight"})] == pytest.approx(0.008)
    assert rates[frozenset(groups[0][0])] == pytest.approx(0.02)
    (scalars,) = (held for held, _ in groups if "ln_final.weight" in held)
    assert rates[frozenset(scalars)] == pytest.approx(0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, None])
def test_muon_multiplies_in_the_dtype_that_is_asked_for(speedrun, dtype):
    optimizer = make_optimizer(make_model(speedrun, 300), speedrun, dtype)
    assert optimizer.param_groups[0]["newton_schulz_dtype"] == dtype


def test_adamw_can_have_rates_of_its_own_too(speedrun):
    model = make_model(speedrun, 300)
    recipe = changed(speedrun, ("optimizer=adamw", "muon_learning_rate=0.003", "head_learning_rate=None"))
    optimizer = make_optimizer(model, recipe)
    assert type(optimizer).__name__ == "AdamW"
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.003, 0.3, 0.01, 0.01])


def test_a_tied_model_trains_its_matrix_once(speedrun):
    recipe = changed(speedrun, ("tie_embeddings=True",))
    optimizer = make_optimizer(make_model(recipe, 300), recipe)
    assert len(optimizer.param_groups) == 3


def test_trapezoid_rises_stays_and_falls_to_its_share(speedrun):
    recipe = changed(speedrun, ("warmup_fraction=0.1", "decay_fraction=0.5", "final_learning_rate_fraction=0.2"))
    schedule, peak = learning_rate_schedule(recipe), 0.01
    at = [schedule(round(SCHEDULE_STEPS * share) - 1) for share in (0.05, 0.1, 0.3, 0.5, 0.75, 1.0)]
    assert at == pytest.approx([0.5 * peak, peak, peak, peak, 0.6 * peak, 0.2 * peak])


def test_momentum_rises_from_its_start_and_cools_down(speedrun):
    assert momentum_schedule(speedrun) is None
    words = ("muon_momentum=0.9", "muon_momentum_start=0.6", "momentum_warmup_fraction=0.2")
    schedule = momentum_schedule(changed(speedrun, words), 101)
    assert [0.9 * schedule(tick) for tick in (0, 10, 20, 100)] == pytest.approx([0.6, 0.75, 0.9, 0.9])
    schedule = momentum_schedule(changed(speedrun, (*words, "momentum_cooldown_fraction=0.1")), 101)
    assert [0.9 * schedule(tick) for tick in (0, 20, 90, 95, 100)] == pytest.approx([0.6, 0.9, 0.9, 0.75, 0.6])
    assert momentum_schedule(changed(speedrun, (*words, "optimizer=adamw"))) is None


def test_weight_decay_follows_its_points(speedrun):
    assert weight_decay_schedule(speedrun) is None
    recipe = changed(speedrun, ("weight_decay_factors=((0.2,1.0),(0.5,0.2),(1.0,1.2))",))
    schedule = weight_decay_schedule(recipe, 101)
    assert [schedule(tick) for tick in (0, 20, 35, 50, 75, 100)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.7, 1.2])


def test_rates_grow_with_the_root_of_the_tokens_in_a_step(speedrun):
    words = ("warmup_fraction=0.0", "reference_batch_tokens=128", "batch_size=8", "context_length=16")
    assert learning_rate_schedule(changed(speedrun, words))(0) == pytest.approx(0.01)
    assert learning_rate_schedule(changed(speedrun, (*words, "batch_size=32")))(0) == pytest.approx(0.02)
    ramp = "batch_ramp=((0.0,1),(0.5,7))"  # four on average
    assert learning_rate_schedule(changed(speedrun, (*words, ramp)))(0) == pytest.approx(0.02)


def test_cosine_falls_to_a_tenth():
    schedule, peak = learning_rate_schedule(RECIPES["baseline"]("cpu")), 3e-3
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    at = [schedule(round(SCHEDULE_STEPS * share) - 1) for share in (0.05, 0.1, 0.55, 1.0)]
    assert at == pytest.approx([0.5 * peak, peak, middle * peak, 0.1 * peak])


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_speedrun_learns(device_type):
    torch.manual_seed(0)
    recipe = changed(RECIPES["speedrun"](device_type), (*TINY, "num_layers=4"))
    model = make_model(recipe, 300)
    optimizer = make_optimizer(model, recipe)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    tokens = torch.randint(300, (2, 17))
    losses = []
    for _ in range(20):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1


class Recorder(torch.nn.Module):
    """Keeps the inputs and the number of sampled tokens that it gets."""

    def loss(self, inputs, targets, num_sampled):
        self.inputs, self.num_sampled = inputs, num_sampled
        return inputs.float().mean()


def test_training_hides_tokens_behind_the_masks_token():
    inputs, model = torch.randint(1, 256, (100, 100)), Recorder()
    for share in (0.0, None, 0.2):
        loss = make_loss(changed(RECIPES["speedrun"]("cpu"), (f"masked_inputs={share}",)), 0)
        loss(model.eval(), inputs, inputs)
        assert model.inputs is inputs
        loss(model.train(), inputs, inputs)
        hidden = model.inputs == 0
        assert torch.equal(model.inputs[~hidden], inputs[~hidden])
        assert hidden.float().mean().item() == pytest.approx(share or 0.0, abs=0.02)
    first = model.inputs
    loss(model, inputs, inputs)
    assert not torch.equal(first, model.inputs)


def test_only_training_samples_the_vocabulary():
    inputs, model = torch.randint(1, 256, (2, 3)), Recorder()
    for number in (None, 64):
        loss = make_loss(changed(RECIPES["speedrun"]("cpu"), (f"sampled_tokens={number}",)), 0)
        loss(model.train(), inputs, inputs)
        assert model.num_sampled == number
        loss(model.eval(), inputs, inputs)
        assert model.num_sampled is None


def test_frequent_ngrams_of_a_text_get_rows():
    text = np.random.default_rng(0).integers(20, size=500, dtype=np.uint16)
    recipe = changed(RECIPES["speedrun"]("cpu"), ("ngram_rows=100", "ngram_min_count=3"))
    model, expected = make_model(recipe, 300), FrequentNGramEmbedding(2, 100, 1, vocab_size=300)
    learn_ngrams(model, text)
    expected.learn_ngrams(torch.from_numpy(text.astype(np.int64)), 3)
    assert torch.equal(model.ngram_embeddings["2"].numbers, expected.numbers)
    assert len(expected.numbers.unique()) > 9
    for change in ("ngram_min_count=None", "ngram_rows=None"):
        model = make_model(changed(recipe, (change,)), 300)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        learn_ngrams(model, text)
        torch.testing.assert_close(model.state_dict(), before)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_tables_of_ngrams_have_row_wise_adagrad(kind):
    recipe = changed(RECIPES["speedrun"]("cpu"), (f"optimizer={kind}", "ngram_rows=1000", "table_weight_decay=0.5"))
    model = make_model(recipe, 300)
    optimizer = make_optimizer(model, recipe)
    assert isinstance(optimizer.optimizers[-1], RowwiseAdagrad)
    (group,) = optimizer.optimizers[-1].param_groups
    assert group["params"] == list(model.ngram_embeddings.parameters())
    assert group["lr_scale"] * recipe.optimizer.learning_rate == pytest.approx(0.3)
    assert group["weight_decay"] == 0.5
    model.loss(torch.randint(300, (2, 9)), torch.randint(300, (2, 9))).backward()
    optimizer.step()
