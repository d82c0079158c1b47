"""Building of what a process would otherwise compute at its start: machine code of the kernels, Unicode classes.

It runs when the package is built, or as `python -m bpe.building` after a change of a kernel.
"""
