"""Optimizers, each a subclass of torch.optim.Optimizer."""
