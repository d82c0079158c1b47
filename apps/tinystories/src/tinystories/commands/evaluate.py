"""`evaluate`: the loss of a model on any text."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from tinystories.flags import RunArgument


@dataclass(frozen=True)
class Evaluate:
    """Loss, perplexity and bits per byte of a trained model on any text."""

    run_directory: RunArgument
    """Run directory."""
    text: tyro.conf.Positional[Path]
    """Text file (.txt, .gz, .zst), or a table with --column: JSON lines or Parquet."""
    column: str | None = None
    """Column of the texts of a table; each row is a document."""
    device: str = "auto"
    batch_size: int = 16
    """Windows in one forward pass; affects the speed, not the result."""

    def run(self) -> int:
        """Evaluate, and print the three numbers."""
        import tempfile

        from tinystories.writing import load
        from trainer import TokenDataset, evaluate

        model, tokenizer, _ = load(self.run_directory, self.device)
        with tempfile.TemporaryDirectory() as directory:
            tokens = Path(directory, "text.npy")
            tokenizer.encode_file(self.text, tokens, column=self.column)
            length = model.config.context_length
            evaluation = evaluate(model, TokenDataset(tokens), length, batch_size=self.batch_size)
        bits = "unknown" if evaluation.bits_per_byte is None else f"{evaluation.bits_per_byte:.4f}"
        print(f"loss {evaluation.loss:.4f}  perplexity {evaluation.perplexity:.2f}  bits per byte {bits}")
        return 0
