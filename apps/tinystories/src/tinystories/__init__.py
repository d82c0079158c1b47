"""The TinyStories experiments of Stanford CS336's first assignment, one command each."""
