"""The command line: options, commands, and reports about a tokenizer; `bpe.__main__` runs them."""
