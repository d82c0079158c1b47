"""`python -m owt_leaderboard.fixed_steps`: a run of a number of steps."""

from owt_leaderboard.commands.fixed_steps import main

if __name__ == "__main__":
    raise SystemExit(main())
