"""`python -m owt_leaderboard.evaluate`: the final loss of a run again."""

from owt_leaderboard.commands.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
