"""`python -m owt_leaderboard.ablate`: switches of the speedrun, one by one."""

from owt_leaderboard.commands.ablate import main

if __name__ == "__main__":
    raise SystemExit(main())
