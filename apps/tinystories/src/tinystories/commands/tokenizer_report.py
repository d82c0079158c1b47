"""`tokenizer-report`: tokenizers measured on texts and compared."""

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class TokenizerReport:
    """Train tokenizers on texts and report compression, throughput, training time and memory, and longest tokens."""

    corpora: tuple[str, ...] = ("sample",)
    """Texts: "sample", "tinystories" or paths of text files as in --dataset; TRAIN,VALID for a file with a validation
    text of its own (otherwise the last documents are held out); NAME=… gives a text a name."""
    vocab_sizes: tuple[int, ...] = ()
    """Entries of the tokenizers to train, each on every corpus; by default one size for each corpus, by the size of its
    text: 2048, from 100 MB on 10000, from 5 GB on 32000."""
    tokenizers: tuple[str, ...] = ()
    """Directories of existing tokenizers (with a tokenizer.json) to compare with; NAME=DIRECTORY gives one a name."""
    documents: int = 10
    """Documents to draw from each validation text."""
    seed: int = 0
    """Seed of the draw."""
    repeats: int = 5
    """Calls whose median is the throughput."""
    throughput_bytes: int = 10_000_000
    """Measure throughput on the first documents of the training text, up to this many bytes."""
    measure_again: bool = False
    """Train again even where a tokenizer exists, and keep the new times and memory."""
    out: Path = Path("runs/tokenizers")
    """Directory of the report."""
    data_dir: Path = Path("data")
    """Directory of tokenizers and their training measurements, for reuse."""

    def run(self) -> int:
        """Measure, print the tables, and write the report."""
        from tinystories.reporting import aligned
        from tinystories.tokenizers import Settings, brief_tables, investigate, write_report

        settings = Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})
        self.out.mkdir(parents=True, exist_ok=True)
        findings = investigate(settings, print)
        path = write_report(findings, self.out)
        for table in brief_tables(findings):
            print(f"\n{aligned(table)}")
        print(f"\nReport: {path}")
        return 0
