from tinystories.tokenizers.comparison import Settings as Settings
from tinystories.tokenizers.comparison import investigate as investigate
from tinystories.tokenizers.report import brief_tables as brief_tables
from tinystories.tokenizers.report import write_report as write_report
