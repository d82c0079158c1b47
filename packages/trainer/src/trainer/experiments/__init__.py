"""Tools of experiments that a training loop does not need: texts, and comparisons of runs.

No other room of `trainer` imports this one.
"""
