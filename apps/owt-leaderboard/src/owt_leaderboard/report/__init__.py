"""The entry of a run with its picture."""

from owt_leaderboard.report.entry import ENTRY_FILE as ENTRY_FILE
from owt_leaderboard.report.entry import PICTURE_FILE as PICTURE_FILE
from owt_leaderboard.report.entry import rehearse as rehearse
from owt_leaderboard.report.entry import write_entry as write_entry
from owt_leaderboard.report.entry import write_text as write_text
