"""`python -m owt_leaderboard.evaluate`: the final loss of a run again."""

import sys

from owt_leaderboard.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
