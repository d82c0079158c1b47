"""`python -m owt_leaderboard.plan`: size, tokens, speed and loss to expect."""

from owt_leaderboard.commands.plan import main

if __name__ == "__main__":
    raise SystemExit(main())
