"""`python -m owt_leaderboard.generate`: text from the model of a run."""

from owt_leaderboard.commands.generate import main

if __name__ == "__main__":
    raise SystemExit(main())
