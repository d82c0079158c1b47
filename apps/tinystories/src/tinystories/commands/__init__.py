"""One module for each command: its flags, which `--help` shows, and what it calls and prints."""
