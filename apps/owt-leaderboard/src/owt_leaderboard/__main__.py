"""`python -m owt_leaderboard`: a run within a time limit."""

import gc
import sys

from owt_leaderboard.commands.train import main

if __name__ == "__main__":
    exit_code = main()
    gc.freeze()  # the limit covers the exit too, and a last garbage collection of torch's objects takes seconds
    sys.exit(exit_code)
