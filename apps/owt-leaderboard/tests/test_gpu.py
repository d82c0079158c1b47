"""The speedrun on a CUDA device; run by `pytest -m gpu` where there is one."""

import json
import subprocess
import sys

import pytest
import torch
from small_runs import write_articles

from nnscratch.speedrun import changed, make_model, make_optimizer, speedrun
from owt_leaderboard.budget import EXIT_SECONDS, read_sessions
from trainer.distributed import Parallel, Processes
from trainer.training.compilation import CompiledUpdate, raise_failure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]
SMALL = ("sized_by_budget=False", "vocab_size=500", "d_model=128", "num_layers=3", "num_heads=1", "d_ff=512")


@pytest.mark.parametrize("rows", [None, 1000])
def test_loss_and_updates_are_one_graph_each_and_steps_never_wait(rows):
    recipe = changed(speedrun("cuda"), (*SMALL, f"ngram_rows={rows}", "normuon=True", "context_length=128"))
    torch.manual_seed(0)
    model = make_model(recipe, recipe.model.vocab_size, "cuda")
    assert all(parameter.is_cuda for parameter in model.parameters())
    optimizer = make_optimizer(model, recipe, torch.bfloat16)
    tokens = torch.randint(500, (8, 129), device="cuda")
    loss_of = torch.compile(model.loss, fullgraph=True, dynamic=False)
    parallel = Parallel(model, optimizer, Processes(), torch.device("cuda"))
    update = CompiledUpdate(parallel, torch.bfloat16, raise_failure)
    losses = []
    for step in range(20):
        torch.cuda.set_sync_debug_mode("default" if step < 3 else "error")  # states are made, programs compiled
        try:
            with torch.autocast("cuda", torch.bfloat16):
                loss = loss_of(tokens[:, :-1], tokens[:, 1:])
            loss.backward()
            update.make()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert losses[-1] < 0.9 * losses[0]


def test_a_run_ends_within_its_limit(tmp_path):
    text = write_articles(tmp_path / "articles.txt")
    for limit, compiling in ((60, "auto"), (180, "on")):
        command = [sys.executable, "-m", "owt_leaderboard", "--time-limit", f"{limit}s", "--dataset", str(text)]
        command += ["--out", str(tmp_path / f"run-{limit}"), "--data-dir", str(tmp_path / "data")]
        subprocess.run([*command, "--set", *SMALL, f"compile={compiling}"], check=True)
        (session,) = read_sessions(tmp_path / f"run-{limit}")
        assert session["seconds"] + EXIT_SECONDS <= limit
    assert session["seconds"] + EXIT_SECONDS >= 0.95 * 180
    summary = json.loads((tmp_path / "run-180" / "summary.json").read_text("utf-8"))
    assert summary["mfu"] is None or 0 < summary["mfu"] < 1
    assert (tmp_path / "run-180" / "entry.png").is_file()


def test_a_preflight_finds_kernels_and_compiler_right(tmp_path):
    """The verdict on the speed is not checked: the model is too small for the GPU."""
    text = write_articles(tmp_path / "articles.txt")
    command = [sys.executable, "-m", "owt_leaderboard.preflight", "--time-limit", "8m", "--dataset", str(text)]
    command += ["--out", str(tmp_path / "runs" / "run"), "--data-dir", str(tmp_path / "data"), "--set", *SMALL]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for name in (
        "device",
        "compilers",
        "attention against float64",
        "feed-forward network against float64",
        "compiler",
    ):
        assert f"ok       {name}: " in printed
    assert "tokens/s measured in 30 steps" in printed
