"""The texts known by name: TinyStories from the Hugging Face hub, and the composed stories."""

import random

import bpe
from trainer.experiments.hub import HubDataset
from trainer.experiments.texts import Corpus

TINYSTORIES = HubDataset(
    name="tinystories",
    repository="roneneldan/TinyStories",
    train="TinyStoriesV2-GPT4-train.txt",
    valid="TinyStoriesV2-GPT4-valid.txt",
    advice="For files from elsewhere use --dataset PATH --valid-dataset PATH; --dataset sample needs no download",
)


def _compose(rng: random.Random) -> str:
    from tinystories.texts.stories import compose_story  # parses its grammar

    return compose_story(rng)


CORPUS = Corpus(TINYSTORIES, "sample-stories", _compose, bpe)
resolve = CORPUS.resolve
