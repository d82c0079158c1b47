"""`python -m tinystories` is `python -m tinystories.run`."""

import sys

from tinystories.run import main

sys.exit(main())
