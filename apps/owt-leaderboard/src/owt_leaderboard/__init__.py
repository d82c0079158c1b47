"""Train the best OpenWebText model that a time limit allows: `python -m owt_leaderboard --time-limit 1.5h`."""
