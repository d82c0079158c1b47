"""What a CUDA device must compute as the CPU does; run by `pytest -m gpu` where there is one."""

import pytest
import torch

from nnscratch import AdamW, TransformerConfig, TransformerLM, clip_grad_norm, generate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own compiler
]

CONFIG = TransformerConfig(vocab_size=97, context_length=64, d_model=64, num_layers=2, num_heads=4, d_ff=168)


def model_and_tokens():
    torch.manual_seed(0)
    return TransformerLM(CONFIG), torch.randint(97, (4, 65))


def test_loss_and_gradients_are_those_of_the_cpu():
    model, tokens = model_and_tokens()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model, tokens = model.cuda(), tokens.cuda()
    on_gpu = model.loss(tokens[:, :-1], tokens[:, 1:])
    on_gpu.backward()
    torch.testing.assert_close(on_gpu.cpu(), loss, atol=1e-4, rtol=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.cpu(), expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_in_bfloat16_learns_a_batch_by_heart(compiled):
    model, tokens = model_and_tokens()
    model, tokens = model.cuda(), tokens.cuda()
    optimizer = AdamW(model.parameters(), lr=3e-3)
    loss_of = torch.compile(model.loss) if compiled else model.loss
    losses = []
    for _ in range(60):
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_greedy_generation_is_that_of_the_cpu():
    model, tokens = model_and_tokens()
    expected = generate(model, tokens[:, :8], max_new_tokens=20, temperature=0.0)
    found = generate(model.cuda(), tokens[:, :8].cuda(), max_new_tokens=20, temperature=0.0)
    assert torch.equal(found.cpu(), expected)
