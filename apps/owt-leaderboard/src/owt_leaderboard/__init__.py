"""Best OpenWebText model within a time limit: `python -m owt_leaderboard --time-limit 1.5h`."""
