"""Compiled updates: for optimizers that offer them, from the second step on, with a fall back to eager steps."""

import pytest
import torch
from bigram_run import Crash, assert_equal_runs, crash, failing_loss, make_model, make_trainer
from compiling_optimizers import Both, Momentum

from trainer import read_metrics
from trainer.training.compilation import CompilationError

pytestmark = pytest.mark.usefixtures("no_pictures")


class Decaying(Momentum):
    """The same with weight decay and a setting of its own for momentum."""

    def __init__(self, params):
        super().__init__(params)
        for group in self.param_groups:
            group["weight_decay"], group["momentum"] = 0.1, 0.5

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(param * group["weight_decay"] * group["lr"] * group["momentum"])
        super().step()


def trainer_of(run_dir, optimizer=Momentum, **settings):
    model = make_model()
    return make_trainer(run_dir, model=model, optimizer=optimizer(model.parameters()), **settings)


@pytest.fixture
def compile_eagerly(monkeypatch):
    """torch.compile with a fast backend; yields the names of the compiled functions that were called."""
    calls, compile_ = [], torch.compile

    def counted(function, **options):
        compiled = compile_(function, backend="eager", **options)

        def call(*arguments):
            calls.append(getattr(function, "__name__", "loss"))
            return compiled(*arguments)

        return call

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", counted)
    return calls


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_updates_are_compiled_from_the_second_on_and_from_the_first_where_a_run_goes_on(
    tmp_path, compile_eagerly, timeless
):
    settings = {"steps": 15, "checkpoint_interval": 10}
    trainer_of(tmp_path / "off", **settings).fit()
    assert not compile_eagerly
    trainer_of(tmp_path / "whole", compile="on", **settings).fit()
    assert compile_eagerly.count("step") == 14
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "off")
    with pytest.raises(Crash):
        trainer_of(tmp_path / "cut", compile="on", loss=failing_loss(25, crash), **settings).fit()
    compile_eagerly.clear()
    assert trainer_of(tmp_path / "cut", compile="on", **settings).fit().steps == 15
    assert compile_eagerly.count("step") == 5
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore")
def test_scheduled_weight_decay_and_momentum_need_one_program(tmp_path, monkeypatch):
    programs, compile_ = [], torch.compile

    def backend(graph, inputs):
        programs.append(graph)
        return graph.forward

    def update_only(function, **options):
        return compile_(function, backend=backend, **options) if function.__name__ == "step" else function

    settings = {
        "weight_decay_schedule": lambda step: 1 - min(step, 20) / 20,
        "momentum_schedule": lambda step: 1 + min(step, 20) / 40,
        "steps": 30,
    }
    trainer_of(tmp_path / "off", Decaying, **settings).fit()
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", update_only)
    trainer_of(tmp_path / "on", Decaying, compile="on", **settings).fit()
    assert len(programs) == 1
    losses = [[record["loss"] for record in read_metrics(tmp_path / name)] for name in ("on", "off")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_optimizer_that_does_not_offer_it_steps_plainly(tmp_path, monkeypatch):
    class Other(Momentum):
        step_compiles = False

    seen = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: seen.append(function) or function)
    trainer_of(tmp_path / "one", Other, compile="on", steps=3).fit()
    trainer_of(tmp_path / "in two", lambda params: Both([Other(params)]), compile="on", steps=3).fit()
    assert len(seen) == 2, "the losses"


def test_an_update_that_cannot_be_compiled_is_made_plainly(tmp_path, monkeypatch, timeless, auto_compiles):
    """The second of two optimizers fails, when the first one has made its step."""
    order = []

    def compile_(function, **options):
        if getattr(function, "__name__", "") != "step":
            return function

        def compiled():
            order.append(options)
            if len(order) == 2:
                raise RuntimeError("no compiler\nlong story")
            return function()

        return compiled

    def both(params):
        first, second = params
        return Both([Momentum([first]), Momentum([second])])

    def half_model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Embedding(40, 16), torch.nn.Linear(16, 40, bias=False))

    def fit(name, **settings):
        model = half_model()
        make_trainer(tmp_path / name, model=model, optimizer=both(model.parameters()), steps=12, **settings).fit()

    fit("off")
    monkeypatch.setattr(torch, "compile", compile_)
    fit("auto", compile="auto")
    assert order[0] == {"fullgraph": True}
    records = timeless(tmp_path / "auto")
    assert [record["step"] for record in records if record["event"] == "compile_failed"] == [2]
    assert [record for record in records if record["event"] != "compile_failed"] == timeless(tmp_path / "off")
    order.clear()
    with pytest.raises(
        CompilationError, match=r"failed for the update of Momentum \(RuntimeError: no compiler\)\. The"
    ):
        fit("on", compile="on")


def wrong_compiler(mistake):
    """torch.compile whose updates are followed by a mistake, a function of the optimizer."""

    def compile_(function, **options):
        if getattr(function, "__name__", "") != "step":
            return function

        def compiled():
            function()
            with torch.no_grad():
                mistake(function.__self__)

        return compiled

    return compile_


def move_one(optimizer):
    optimizer.param_groups[0]["params"][2].mul_(0.9)


def spoil_state(optimizer):
    parameter = optimizer.param_groups[0]["params"][1]
    optimizer.state[parameter]["mean"].mul_(2)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (move_one, r"its first update changes 1\.bias by the norm \S+, and by \S+ without it"),
        (spoil_state, r"after its first update mean of 1\.weight has the norm \S+, and \S+ without it"),
    ],
)
def test_a_compiled_update_that_is_wrong_is_not_used(tmp_path, monkeypatch, timeless, auto_compiles, mistake, words):
    def fit(name, **settings):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(40, 16), torch.nn.Linear(16, 40))
        optimizer = Momentum(model.parameters())
        make_trainer(tmp_path / name, model=model, optimizer=optimizer, steps=12, **settings).fit()

    fit("off")
    monkeypatch.setattr(torch, "compile", wrong_compiler(mistake))
    with pytest.raises(CompilationError, match=words):
        fit("on", compile="on")
    fit("auto", compile="auto")
    records = [record for record in timeless(tmp_path / "auto") if record["event"] != "compile_failed"]
    assert records == timeless(tmp_path / "off")


class Noisy(Momentum):
    """Momentum with noise from torch's random state, and a counter that is no tensor."""

    @torch.no_grad()
    def step(self):
        super().step()
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                state["steps"] = state.get("steps", 0) + 1
                param.add_(torch.randn_like(param) * 1e-3 / state["steps"])


@pytest.mark.parametrize("optimizer", [Momentum, Noisy])
def test_checking_an_update_leaves_no_trace(tmp_path, monkeypatch, timeless, optimizer):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    for name in ("off", "on"):
        trainer_of(tmp_path / name, optimizer, compile=name, steps=12).fit()
    assert_equal_runs(tmp_path / "off", tmp_path / "on", timeless)
