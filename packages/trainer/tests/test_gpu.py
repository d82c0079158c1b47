"""Runs on a CUDA device; run by `pytest -m gpu` where there is one."""

import pytest
import torch
from bigram_run import CONFIG, loss_fn, make_model, make_tokens, schedule

from trainer import TrainConfig, Trainer, read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
]


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_run_learns_and_is_recorded(tmp_path, mode, dtype):
    model = make_model()
    config = TrainConfig(**{**CONFIG, "device": "cuda", "dtype": dtype, "compile": mode})
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = make_tokens()
    summary = Trainer(
        model, optimizer, loss_fn, tokens[:2500], tokens[2500:], config, schedule, tmp_path / "run", loggers=[]
    ).fit()
    losses = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert summary.status == "completed"
    assert losses[-1] < losses[0]
    assert next(model.parameters()).device.type == "cuda"
