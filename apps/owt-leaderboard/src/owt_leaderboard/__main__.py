"""`python -m owt_leaderboard`: a run within a time limit."""

from owt_leaderboard.commands.train import main
from trainer.support.leaving import leave

if __name__ == "__main__":
    leave(main())
