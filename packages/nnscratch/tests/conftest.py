import os

import jaxtyping
import pytest
import torch
from hypothesis import settings

settings.register_profile("default", max_examples=40, deadline=None)
settings.load_profile("default")

# nnscratch is imported in the fixtures: older versions of jaxtyping cannot check a package that was imported earlier.

if not torch.cuda.is_available():
    # Without a GPU the kernels are interpreted. Triton, which torch's compiler imports too, reads the variable once.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def config():
    from nnscratch import TransformerConfig

    return TransformerConfig(vocab_size=50, context_length=16, d_model=32, num_layers=2, num_heads=4, d_ff=64)


@pytest.fixture
def model(config):
    from nnscratch import TransformerLM

    return TransformerLM(config)


@pytest.fixture
def unchecked_shapes():
    """Switch the shape checks off, which torch.compile cannot trace and users do not have."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
