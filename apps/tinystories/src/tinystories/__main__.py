"""`python -m tinystories` is `python -m tinystories.run`."""

from tinystories.run import main

raise SystemExit(main())
