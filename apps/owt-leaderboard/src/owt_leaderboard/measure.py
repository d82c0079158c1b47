"""`python -m owt_leaderboard.measure`: runs of several limits for predictions."""

import sys

from owt_leaderboard.commands.measure import main

if __name__ == "__main__":
    sys.exit(main())
