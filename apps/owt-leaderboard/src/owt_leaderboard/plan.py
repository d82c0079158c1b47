"""`python -m owt_leaderboard.plan`: size, tokens, speed and loss to expect."""

from owt_leaderboard.commands.plan import main
from trainer.support.leaving import leave

if __name__ == "__main__":
    leave(main())
