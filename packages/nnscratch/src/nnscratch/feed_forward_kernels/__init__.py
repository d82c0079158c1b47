"""Triton kernels of feed-forward networks on GPUs: matrix products that apply the activation before they store."""

from nnscratch.feed_forward_kernels.triton_operator import can_fuse_relu_squared as can_fuse_relu_squared
from nnscratch.feed_forward_kernels.triton_operator import fused_relu_squared as fused_relu_squared
