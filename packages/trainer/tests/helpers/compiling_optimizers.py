"""Optimizers whose steps compile, and compilers that a test replaces."""

from unittest.mock import patch

import torch


class Momentum(torch.optim.Optimizer):
    """Heavy-ball momentum, whose step compiles to one program for all steps."""

    step_compiles = True

    def __init__(self, params, lr=1.0):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                mean = self.state[param].setdefault("mean", torch.zeros_like(param))
                mean.lerp_(param.grad, 0.1)
                param.sub_(mean * group["lr"])


class Both(torch.optim.Optimizer):
    """Two optimizers as one."""

    def __init__(self, optimizers):
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = optimizers
        self.state = optimizers[0].state

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


def auto_compiles():
    """Return a context in which compile="auto" compiles on a CPU, too, as it does on CUDA."""
    return patch("trainer.training.compilation.is_wanted", lambda config, device: config.compile != "off")
