"""Text from a grammar; see `trainer.experiments.grammar`."""

from trainer.experiments.grammar import Fact, Grammar, capitalise, pick, pick_distinct, table, with_article

__all__ = ["Fact", "Grammar", "capitalise", "pick", "pick_distinct", "table", "with_article"]
