"""Training and validation text from a grammar; see `trainer.experiments.sample_corpus`."""

from trainer.experiments.sample_corpus import (
    Compose,
    CorpusReport,
    Split,
    documents,
    split_of,
    write_corpus,
    write_splits,
)

__all__ = ["Compose", "CorpusReport", "Split", "documents", "split_of", "write_corpus", "write_splits"]
