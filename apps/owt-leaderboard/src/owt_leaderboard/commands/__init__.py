"""Command lines, one module per command; `python -m owt_leaderboard.NAME` is the door to each."""
