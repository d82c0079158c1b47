"""`python -m owt_leaderboard.measure`: runs of several limits for predictions."""

from owt_leaderboard.commands.measure import main

if __name__ == "__main__":
    raise SystemExit(main())
