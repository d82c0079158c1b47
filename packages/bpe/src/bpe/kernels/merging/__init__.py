"""Kernels that learn merges from counted pre-tokens and apply them to text."""
