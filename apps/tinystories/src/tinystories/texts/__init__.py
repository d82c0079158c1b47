"""Training texts: stories composed from a grammar, TinyStories from the Hugging Face hub, or the user's files."""

from tinystories.texts.datasets import CORPUS as CORPUS
from tinystories.texts.datasets import resolve as resolve
