"""The run directory: records, configuration, environment, summary and pictures of a run."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
