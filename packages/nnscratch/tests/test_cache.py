import pytest
import torch

from nnscratch import KeyValueCache, generate
from nnscratch.cache import LayerCache


@pytest.mark.parametrize(("prompt", "new", "held"), [(3, 5, 7), (3, 20, 16), (16, 1, None), (17, 5, None)])
def test_the_cache_is_as_long_as_needed(model, monkeypatch, prompt, new, held):
    made = []
    monkeypatch.setattr(
        "nnscratch.generation.decoding.KeyValueCache", lambda *sizes: made.append(sizes) or KeyValueCache(*sizes)
    )
    generate(model, [1] * prompt, max_new_tokens=new)
    assert made == ([] if held is None else [(2, held)])


def test_a_cache_gives_views_and_keeps_its_buffers():
    cache = LayerCache(6)
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 5)
    keys, _ = cache.append(first, first)
    held, values = cache.append(second, 2 * second)
    assert torch.equal(held, torch.cat((first, second), dim=2))
    assert torch.equal(values[:, :, 4:], 2 * second)
    assert keys.data_ptr() == held.data_ptr()
    with pytest.raises(ValueError, match="got 2 positions, but the cache is full up to 5 of 6; reset it"):
        cache.append(first[:, :, :2], first[:, :, :2])
    with pytest.raises(ValueError, match=r"keys have shape \(1, 3, 1, 5\), but the cache holds a batch of \(2, 3"):
        cache.append(second[:1], second[:1])
    cache.reset()
    assert cache.append(first, first)[0].data_ptr() == keys.data_ptr()
    cache.reset()
    assert torch.equal(cache.append(first[:1], first[:1])[0], first[:1])


@pytest.mark.parametrize("sizes", [(0, 4), (2, 0)])
def test_an_empty_cache_is_refused(sizes):
    with pytest.raises(ValueError, match="choose"):
        KeyValueCache(*sizes)
