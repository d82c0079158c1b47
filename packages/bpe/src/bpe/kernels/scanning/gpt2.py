"""The place from which other kernels import `next_ends`."""

from bpe.kernels.scanning.boundaries import ENDS as ENDS
from bpe.kernels.scanning.boundaries import next_ends as next_ends
