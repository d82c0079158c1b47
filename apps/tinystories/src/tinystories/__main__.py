"""`python -m tinystories` is `python -m tinystories.run`."""

from tinystories.run import main
from trainer.support.leaving import leave

leave(main())
