"""The texts known by name: the course's sample of OpenWebText from the hub, and the composed articles."""

import random

import bpe
from trainer.experiments.hub import HubDataset
from trainer.experiments.texts import Corpus

OWT = HubDataset(
    name="owt",
    repository="stanford-cs336/owt-sample",
    train="owt_train.txt.gz",
    valid="owt_valid.txt.gz",
    advice="Files from elsewhere are given by --dataset PATH --valid-dataset PATH; --dataset sample needs none",
)


def _compose(rng: random.Random) -> str:
    from owt_leaderboard.texts.articles import compose_article  # parses its grammar

    return compose_article(rng)


CORPUS = Corpus(OWT, "sample-articles", _compose, bpe)
resolve, prepare = CORPUS.resolve, CORPUS.prepare
