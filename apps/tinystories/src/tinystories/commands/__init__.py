"""The commands, one module each: a dataclass of flags, shown by `--help`, with a method `run`."""
