import os

import jaxtyping
import pytest
import torch

# nnscratch is imported in the fixtures: before, older versions of jaxtyping could not check it.

# The list that the authors of Polar Express published (Amsel et al. 2025), before the safety factor.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)

if not torch.cuda.is_available():
    # Triton, which torch's compiler imports too, reads it once; without a GPU the kernels are interpreted.
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
    """Switch the shape checks off: torch.compile cannot trace the checker, which no user has in the way."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
