"""Foundations of all kernels: compilation and its disk cache, vector and atomic instructions, arrays."""
