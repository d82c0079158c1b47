"""Texts to train on, and the articles that the embedded sample is composed of."""

from owt_leaderboard.texts.datasets import CORPUS, prepare, resolve
from trainer.experiments.texts import TokenFiles

__all__ = ["CORPUS", "TokenFiles", "prepare", "resolve"]
