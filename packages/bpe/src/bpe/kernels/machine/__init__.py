"""What every kernel is built on: compilation and its disk cache, vector and atomic instructions, arrays."""
