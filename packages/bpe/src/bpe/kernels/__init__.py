"""Numba kernels: compiled on first use, cached on disk, free of the interpreter lock, without threads of their own."""
