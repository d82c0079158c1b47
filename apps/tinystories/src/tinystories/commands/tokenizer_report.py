"""`tokenizer-report`: tokenizers measured on texts and compared."""

from dataclasses import dataclass
from pathlib import Path

from tinystories.tokenizers import Settings
from trainer.support.files import make_directory


@dataclass(frozen=True)
class TokenizerReport(Settings):
    """Train tokenizers on texts and report compression, throughput, training time and memory, and longest tokens."""

    out: Path = Path("runs/tokenizers")
    """Directory of the report."""

    def run(self) -> int:
        """Measure, print the tables, and write the report."""
        from tinystories.tokenizers import brief_tables, investigate, write_report
        from trainer.experiments.reporting import aligned

        self.check()
        make_directory(self.out)
        findings = investigate(self, print)
        path = write_report(findings, self.out)
        for table in brief_tables(findings):
            print(f"\n{aligned(table)}")
        print(f"\nReport: {path}")
        return 0
