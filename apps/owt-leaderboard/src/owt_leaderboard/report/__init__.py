"""Reports: the entry of a run with its picture, and the table of an ablation."""

from owt_leaderboard.report.ablation_table import table, write_results
from owt_leaderboard.report.entry import ENTRY_FILE, rehearse, write_entry, write_text

__all__ = ["ENTRY_FILE", "rehearse", "table", "write_entry", "write_results", "write_text"]
