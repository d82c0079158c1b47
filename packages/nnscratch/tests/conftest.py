import os

import jaxtyping
import pytest
import torch

from nnscratch import TransformerConfig, TransformerLM

if not torch.cuda.is_available():
    # Triton, which torch's compiler imports too, reads it once; without a GPU the kernels are interpreted.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def config():
    return TransformerConfig(vocab_size=50, context_length=16, d_model=32, num_layers=2, num_heads=4, d_ff=64)


@pytest.fixture
def model(config):
    return TransformerLM(config)


@pytest.fixture
def unchecked_shapes():
    """Switch the shape checks off: torch.compile cannot trace the checker, which no user has in the way."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
