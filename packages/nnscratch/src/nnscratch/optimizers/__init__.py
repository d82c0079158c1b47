"""Optimizers, each a subclass of `torch.optim.Optimizer`, with learning-rate schedules and gradient clipping."""

from nnscratch.optimizers.adamw import AdamW
from nnscratch.optimizers.clipping import clip_grad_norm
from nnscratch.optimizers.combined import CombinedOptimizer
from nnscratch.optimizers.muon import Muon
from nnscratch.optimizers.rowwise_adagrad import RowwiseAdagrad
from nnscratch.optimizers.schedules import cosine_schedule, trapezoid_schedule
from nnscratch.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "AdamW",
    "CombinedOptimizer",
    "Muon",
    "RowwiseAdagrad",
    "clip_grad_norm",
    "cosine_schedule",
    "trapezoid_schedule",
]
