"""Texts to train on, and the articles of which the sample is composed."""

from owt_leaderboard.texts.datasets import CORPUS as CORPUS
from owt_leaderboard.texts.datasets import prepare as prepare
from owt_leaderboard.texts.datasets import resolve as resolve
from trainer.experiments.texts import TokenFiles as TokenFiles
