"""The training loop: its steps, and what is due between them, under the clock of the run."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
