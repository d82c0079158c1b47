"""Whole training steps of our model and of its twin in torch.nn."""

from collections.abc import Callable
from typing import Any

import torch
from twin import Twin

from nnscratch import AdamW, TransformerConfig, TransformerLM


def make_step(
    which: str, compiled: bool, dtype: torch.dtype, device: str, sizes: dict[str, Any]
) -> Callable[[], torch.Tensor]:
    """Return a training step: forward and backward pass, under autocast if `dtype` is narrow, and the update.

    `which` is "ours" or "torch"; `sizes` are the fields of a `TransformerConfig` and `batch_size`.
    """
    sizes = dict(sizes)
    batch_size = sizes.pop("batch_size")
    config = TransformerConfig(**sizes)
    torch.manual_seed(0)
    model = (TransformerLM(config) if which == "ours" else Twin(config)).to(device)
    ours = which == "ours"
    optimizer = AdamW(model.parameters()) if ours else torch.optim.AdamW(model.parameters(), fused=True)
    inputs, targets = torch.randint(config.vocab_size, (2, batch_size, config.context_length), device=device)
    # The fused update of torch is compiled code already.
    update = torch.compile(optimizer.step) if compiled and ours else optimizer.step
    loss_of = torch.compile(model.loss, fullgraph=True) if compiled else model.loss

    def step() -> torch.Tensor:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = loss_of(inputs, targets)
        loss.backward()
        update()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
