"""`python -m owt_leaderboard.preflight`: a check of machine, kernels and speed before a run."""

from owt_leaderboard.commands.preflight import main

if __name__ == "__main__":
    raise SystemExit(main())
