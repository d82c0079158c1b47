"""`python -m owt_leaderboard.tune`: learning rates for a text and a kind of device."""

from owt_leaderboard.commands.tune import main

if __name__ == "__main__":
    raise SystemExit(main())
