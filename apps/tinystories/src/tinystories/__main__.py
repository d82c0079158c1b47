"""`python -m tinystories` is `python -m tinystories.run`."""

from tinystories.run import main
from trainer.leaving import leave

leave(main())
