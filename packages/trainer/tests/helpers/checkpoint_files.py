"""Checkpoints of small models, made without a run."""

import torch
from bigram_run import make_model

from trainer.checkpoints.directory import CheckpointState
from trainer.checkpoints.state_dicts import get_model_state


def trained(seed=0, steps=3):
    """A model and its optimizer after a few updates."""
    model = make_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.arange(8)[None]).square().mean().backward()
        optimizer.step()
    return model, optimizer


def state_of(step, model, optimizer, training=None, valid_loss=None, seconds=0.0):
    return CheckpointState(step, get_model_state(model), optimizer.state_dict(), training or {}, valid_loss, seconds)
