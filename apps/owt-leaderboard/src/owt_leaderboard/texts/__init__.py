"""Texts to train on, and the articles that the embedded sample is composed of."""

from owt_leaderboard.texts.datasets import TokenFiles, prepare, resolve

__all__ = ["TokenFiles", "prepare", "resolve"]
