"""`python -m owt_leaderboard.evaluate`: the final loss of a run again."""

from owt_leaderboard.commands.evaluate import main
from trainer.support.leaving import leave

if __name__ == "__main__":
    leave(main())
