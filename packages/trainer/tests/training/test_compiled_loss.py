"""Compiled losses of training and evaluations: checked before they are used, and never replaced silently."""

import math
import os
import subprocess
import sys

import pytest
import torch
from bigram_run import Notices, assert_equal_runs, loss_fn, make_model, make_trainer
from torch import nn
from torch.nn.functional import cross_entropy

from trainer import evaluate, read_metrics
from trainer.data.batches import BatchSource, StepBatches
from trainer.training import validation
from trainer.training.compilation import CompilationError, keep_compiled_programs
from trainer.training.loop import COMPILE_LOG

pytestmark = pytest.mark.usefixtures("no_pictures")


def make_certain_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(40, 16), nn.Linear(16, 40))


class ZeroInitialized(nn.Module):
    """A model whose loss does not depend on its block at first, as that of the speedrun."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.mixing, self.up, self.down = (
            nn.Embedding(40, 16),
            nn.Linear(16, 16, bias=False),
            nn.Linear(16, 32),
            nn.Linear(32, 16, bias=False),
        )
        self.head = nn.Linear(16, 40)
        for layer in (self.mixing, self.down, self.head):
            nn.init.zeros_(layer.weight)

    def forward(self, ids, constant=None):
        x = self.embedding(ids)
        mixed = x.cumsum(1) / 8 if constant is None else torch.full_like(x, constant)
        x = x + self.mixing(mixed)
        return self.head(x + self.down(self.up(x).relu()))


def constant_attention(model, inputs, targets):
    return cross_entropy(model(inputs, constant=1000.0).flatten(0, 1), targets.flatten())


class WrongBackward(torch.autograd.Function):
    """A kernel whose forward pass is right."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def wrong_gradient(model, inputs, targets):
    parameters = dict(model.named_parameters())
    parameters["up.weight"] = WrongBackward.apply(parameters["up.weight"])
    logits = torch.func.functional_call(model, parameters, (inputs,))
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def compile_to(monkeypatch, training, evaluating=loss_fn):
    """Replace torch.compile by one that returns another function for losses."""

    def compile_(function, **options):
        if getattr(function, "__name__", "") == "step":
            return function
        return lambda model, *given: (training if torch.is_grad_enabled() else evaluating)(model, *given)

    monkeypatch.setattr(torch, "compile", compile_)


def fails(model, inputs, targets):
    torch.rand(3)
    raise RuntimeError("\nno compiler\nlong story")


def test_a_run_ends_if_its_compiler_fails_and_can_be_mended(tmp_path, monkeypatch, timeless):
    run = tmp_path / "run"
    make_trainer(tmp_path / "off", steps=12).fit()
    compile_to(monkeypatch, fails)
    with pytest.raises(CompilationError) as caught:
        make_trainer(run, compile="on", steps=12, time_limit_seconds=1000.0).fit()
    message = str(caught.value)
    assert message.startswith("torch.compile failed for the training loss (RuntimeError: no compiler). The whole ")
    assert f"message is in {run / COMPILE_LOG}." in message
    assert 'compile="off"' in message
    assert "long story" in (run / COMPILE_LOG).read_text()
    assert not any((run / "checkpoints").glob("step_*")), "so that another setting can be tried"
    compile_to(monkeypatch, loss_fn)
    assert make_trainer(run, compile="on", steps=12).fit().status == "completed"
    assert timeless(run) == timeless(tmp_path / "off")


def test_a_failure_after_a_resume_loses_no_checkpoint(tmp_path, monkeypatch, timeless):
    run = tmp_path / "run"
    make_trainer(run, steps=6).fit()
    compile_to(monkeypatch, fails)
    with pytest.raises(CompilationError, match="no compiler"):
        make_trainer(run, compile="on", steps=12).fit()
    assert make_trainer(run, compile="off", steps=12).fit().steps == 12
    make_trainer(tmp_path / "off", steps=12).fit()
    losses = [[record["loss"] for record in read_metrics(run)[-1:]] for run in (run, tmp_path / "off")]
    assert losses[0] == losses[1]


def test_auto_goes_on_without_the_compiler_and_records_it(tmp_path, monkeypatch, timeless, auto_compiles):
    make_trainer(tmp_path / "off", steps=12).fit()
    compile_to(monkeypatch, fails)
    notices = Notices()
    make_trainer(tmp_path / "auto", compile="auto", steps=12, loggers=[notices]).fit()
    told = [message for message in notices.messages if "compile" in message]
    assert len(told) == 1
    assert "failed for the training loss (RuntimeError: no compiler); the run goes on without it" in told[0]
    records = timeless(tmp_path / "auto")
    assert [record["step"] for record in records if record["event"] == "compile_failed"] == [1]
    assert [record for record in records if record["event"] != "compile_failed"] == timeless(tmp_path / "off")


def test_auto_does_not_compile_on_a_cpu(tmp_path, monkeypatch):
    compile_to(monkeypatch, fails)
    assert make_trainer(tmp_path / "auto", compile="auto", steps=1).fit().status == "completed"


WRONG = {
    "nan": (lambda *given: loss_fn(*given) * math.nan, r"its loss of the first batch is nan, and \S+ without it"),
    "double": (lambda *given: loss_fn(*given) * 2, r"its loss of the first batch is \S+, and \S+ without it"),
    "attention": (constant_attention, r"its loss of the first batch is \S+, and \S+ without it"),
    "gradient": (wrong_gradient, r"its gradient of up\.weight has the norm \S+, and \S+ without it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_compiled_loss_that_is_wrong_is_not_used(tmp_path, monkeypatch, timeless, auto_compiles, name):
    """The loss of the untrained model is the right one with a wrong attention, too."""
    wrong, words = WRONG[name]
    model, source = ZeroInitialized(), make_trainer(tmp_path / "none")
    batch = BatchSource(source._splits[0], source.config, 0, 1).batch(StepBatches(0, 1), 0)
    if name == "attention":
        assert constant_attention(model, *batch) == loss_fn(model, *batch)
    make_trainer(tmp_path / "off", model=ZeroInitialized(), steps=12).fit()
    compile_to(monkeypatch, wrong)
    with pytest.raises(CompilationError, match=words):
        make_trainer(tmp_path / "on", model=ZeroInitialized(), compile="on", steps=12).fit()
    make_trainer(tmp_path / "auto", model=ZeroInitialized(), compile="auto", steps=12).fit()
    records = [record for record in timeless(tmp_path / "auto") if record["event"] != "compile_failed"]
    assert records == timeless(tmp_path / "off")


def count_call(module, given):
    module.calls += module.training


@pytest.mark.parametrize("make", [make_model, make_certain_model, ZeroInitialized])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_checking_the_compiler_leaves_no_trace(tmp_path, monkeypatch, timeless, make, dtype):
    """Weights, random states (of dropout, in the first model) and buffers."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(validation, "LEAST_TOKENS_TO_COMPILE", 1)
    for mode in ("off", "on"):
        model = make()
        first = next(model.children())
        first.register_buffer("calls", torch.zeros(1))
        first.register_forward_pre_hook(count_call)
        make_trainer(tmp_path / mode, model=model, compile=mode, steps=12, dtype=dtype).fit()
        assert first.calls.item() == 24
    assert_equal_runs(tmp_path / "off", tmp_path / "on", timeless)


@pytest.mark.parametrize(("make", "is_random"), [(make_model, True), (make_certain_model, False)])
def test_gradients_that_are_not_compared_are_named(tmp_path, monkeypatch, make, is_random):
    """Compiled programs draw other random numbers; the first model has dropout."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    notices = Notices()
    make_trainer(tmp_path / "run", model=make(), compile="on", steps=2, loggers=[notices]).fit()
    assert any("are not compared with eager ones" in message for message in notices.messages) == is_random


def test_compile_is_used_when_it_works(tmp_path, monkeypatch, timeless):
    calls = []
    compile_to(monkeypatch, lambda *given: calls.append(1) or loss_fn(*given))
    make_trainer(tmp_path / "on", compile="on", steps=12).fit()
    assert len(calls) == 24 + 1, "passes, and the check"
    make_trainer(tmp_path / "off", steps=12).fit()
    assert timeless(tmp_path / "on") == timeless(tmp_path / "off")


def fit_with_evaluations(tmp_path, monkeypatch, evaluating, name="on", least=1, **settings):
    compile_to(monkeypatch, loss_fn, evaluating)
    monkeypatch.setattr(validation, "LEAST_TOKENS_TO_COMPILE", least)
    settings = {"steps": 24, "eval_interval": 8, "compile": "on", "model": ZeroInitialized(), **settings}
    return make_trainer(tmp_path / name, **settings).fit()


def test_whole_batches_of_evaluations_are_compiled(tmp_path, monkeypatch, timeless):
    shapes = []
    fit_with_evaluations(tmp_path, monkeypatch, lambda m, x, y: shapes.append(tuple(x.shape)) or loss_fn(m, x, y))
    # 499 targets: 15 batches of 4 windows of 8 tokens, and eager ones of 2 windows and of 3 tokens.
    assert shapes == [(4, 8)] * (4 * 15 + 1), "4 evaluations, and the check"
    fit_with_evaluations(tmp_path, monkeypatch, fails, "off", compile="off")
    assert timeless(tmp_path / "on") == timeless(tmp_path / "off")


@pytest.mark.parametrize(("least", "compiles"), [(2000, True), (2001, False)])
def test_evaluations_are_compiled_if_enough_tokens_are_left(tmp_path, monkeypatch, least, compiles):
    """Three evaluations on the way and the last one read 500 tokens each."""
    calls = []
    fit_with_evaluations(tmp_path, monkeypatch, lambda *given: calls.append(1) or loss_fn(*given), least=least)
    assert bool(calls) == compiles


def test_a_compiled_evaluation_that_is_wrong_ends_the_run(tmp_path, monkeypatch, timeless, auto_compiles):
    """Its attention is a constant, to which the loss of the untrained model is blind."""
    with pytest.raises(
        CompilationError, match=r"for the loss of evaluations \(its loss of the first batch is \S+, and"
    ):
        fit_with_evaluations(tmp_path, monkeypatch, constant_attention)
    fit_with_evaluations(tmp_path, monkeypatch, constant_attention, "auto", compile="auto")
    fit_with_evaluations(tmp_path, monkeypatch, fails, "off", compile="off")
    records = [record for record in timeless(tmp_path / "auto") if record["event"] != "compile_failed"]
    assert records == timeless(tmp_path / "off")


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_a_run_has_one_program_for_training_and_one_for_evaluations(tmp_path, monkeypatch):
    """Each is checked and used without another compilation, and `evaluate` reproduces the last loss."""
    programs, compile_ = [], torch.compile

    def backend(graph, inputs):
        programs.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))
    monkeypatch.setattr(validation, "LEAST_TOKENS_TO_COMPILE", 1)
    trainer = make_trainer(tmp_path / "on", model=(model := ZeroInitialized()), compile="on", eval_interval=8, steps=24)
    summary = trainer.fit()
    assert len(programs) == 2
    again = evaluate(model, trainer.valid_data, 8, batch_size=7, loss_fn=loss_fn)
    assert summary.final_valid_loss == pytest.approx(again.loss, rel=1e-6)


CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
MULTIPLY = """
import sys
from pathlib import Path
import torch
from torch._dynamo.utils import counters  # sets a default
from trainer.training.compilation import keep_compiled_programs
keep_compiled_programs(Path(sys.argv[1]))
torch.compile(torch.mm)(torch.ones(2, 2), torch.ones(2, 2))
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


def multiply(folder):
    """Compile in a new process; return how many programs it has found, and how many it has not."""
    environment = {name: value for name, value in os.environ.items() if name not in CACHES}
    command = [sys.executable, "-W", "ignore", "-c", MULTIPLY, str(folder)]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return tuple(map(int, printed.split()))


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_later_process_finds_compiled_programs(tmp_path):
    assert multiply(tmp_path / "kept") == (0, 1)
    files = files_in(tmp_path / "kept")
    assert files
    assert multiply(tmp_path / "kept") == (1, 0)
    assert files_in(tmp_path / "kept") == files


@pytest.mark.parametrize("chosen", CACHES)
def test_a_folder_that_the_user_has_chosen_is_kept(tmp_path, monkeypatch, chosen):
    for name in CACHES:
        monkeypatch.setenv(name, "own")
    monkeypatch.delenv(*(set(CACHES) - {chosen}))
    before = dict(os.environ)
    keep_compiled_programs(tmp_path)
    assert dict(os.environ) == before
