"""Kernels that read UTF-8: pre-token boundaries, special tokens, malformed bytes, places to cut."""
