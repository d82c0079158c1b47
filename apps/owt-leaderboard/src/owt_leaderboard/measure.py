"""`python -m owt_leaderboard.measure`: runs of several limits for predictions."""

from owt_leaderboard.commands.measure import main
from trainer.support.leaving import leave

if __name__ == "__main__":
    leave(main())
