"""`python -m owt_leaderboard.export`: the model of a run in another format."""

from owt_leaderboard.commands.export import main

if __name__ == "__main__":
    raise SystemExit(main())
