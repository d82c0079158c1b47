"""`python -m owt_leaderboard.play`: a web page on which the model of a run writes."""

from owt_leaderboard.commands.play import main

if __name__ == "__main__":
    raise SystemExit(main())
