"""`prepare`: the tokenizer and the token files."""

from dataclasses import dataclass, field

from tinystories.flags import DataFlags


@dataclass(frozen=True)
class Prepare:
    """Train the tokenizer and write the token files."""

    data: DataFlags = field(default_factory=DataFlags)
    vocab_size: int = 2048
    """Entries of the tokenizer's vocabulary."""

    def run(self) -> int:
        """Prepare, and print the paths."""
        files = self.data.prepare(self.vocab_size)
        print(f"Tokenizer: {files.tokenizer}")
        print(f"Tokens: {files.train}, {files.valid}")
        return 0
