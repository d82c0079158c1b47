import math

import pytest
import torch

from nnscratch import complete, generate, stream


def test_forms_of_prompts(model):
    options = {"max_new_tokens": 4, "temperature": 0.0}
    expected = generate(model, torch.tensor([[1, 2, 3]]), **options)
    for prompt in (
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        torch.tensor([1, 2, 3]),
        torch.tensor([1, 2, 3], dtype=torch.int32),
        [[1, 2, 3]],
        [torch.tensor([1, 2, 3])],
    ):
        assert torch.equal(generate(model, prompt, **options), expected)
    ragged = generate(model, [[1, 2, 3], [4]], **options)
    assert ragged.tolist()[1][:3] == [0, 0, 4]
    assert torch.equal(generate(model, [torch.tensor([1, 2, 3]), torch.tensor([4])], **options), ragged)
    assert generate(model, [torch.tensor([1]), torch.tensor([4])], **options).shape == (2, 5)


def test_arrays_are_prompts_too(model, unchecked_shapes):
    numpy = pytest.importorskip("numpy")
    options = {"max_new_tokens": 4, "temperature": 0.0}
    tokens = numpy.array([1, 2, 3], dtype=numpy.uint16)
    tokens.setflags(write=False)
    expected = generate(model, [1, 2, 3], **options)
    for prompt in (tokens, tokens[None], list(tokens), [tokens]):
        assert torch.equal(generate(model, prompt, **options), expected)


def test_padding_is_the_end_of_text_by_default(model):
    options = {"max_new_tokens": 2, "temperature": 0.0}
    assert generate(model, [[1, 2, 3], [4]], **options, eos_id=7)[1, :3].tolist() == [7, 7, 4]
    assert generate(model, [[1, 2, 3], [4]], **options, eos_id=7, pad_id=8)[1, :3].tolist() == [8, 8, 4]


REFUSED = [
    ([1], {"max_new_tokens": -1}, "max_new_tokens=-1 is out of range; choose an integer of at least 0"),
    ([1], {"max_new_tokens": 2.0}, "max_new_tokens=2.0 is out of range"),
    ([1], {"temperature": -0.1}, r"temperature=-0.1 is out of range; choose 0 \(greedy\) or a positive number"),
    ([1], {"temperature": math.nan}, "temperature=nan is out of range"),
    ([1], {"temperature": math.inf}, "temperature=inf is out of range"),
    ([1], {"temperature": "1"}, "temperature='1' is out of range"),
    ([1], {"top_k": 0}, "top_k=0 leaves no token; choose an integer of at least 1, or None for all"),
    ([1], {"top_k": 1.5}, "top_k=1.5 leaves no token"),
    ([1], {"top_p": 0.0}, "top_p=0.0 is out of range; choose a number above 0 and at most 1, or None for all"),
    ([1], {"top_p": 1.5}, "top_p=1.5 is out of range"),
    ([1], {"top_p": math.nan}, "top_p=nan is out of range"),
    ([1], {"eos_id": 50}, "eos_id=50 is not a token; choose an id from 0 to 49, or None"),
    ([1], {"eos_id": -1}, "eos_id=-1 is not a token"),
    ([1], {"seed": -1}, "seed=-1 is out of range; choose an integer from 0 to"),
    ([], {}, r"prompt_ids has shape \(0,\), which cannot be continued; pass at least one prompt,"),
    ([[1], []], {}, r"prompt_ids\[1\] has shape \(0,\), which cannot be continued"),
    (torch.zeros(0, 3, dtype=torch.long), {}, r"prompt_ids has shape \(0, 3\), which cannot be continued"),
    (torch.zeros(3, 0, dtype=torch.long), {}, r"prompt_ids has shape \(3, 0\), which cannot be continued"),
    (torch.zeros(1, 2, 3, dtype=torch.long), {}, r"prompt_ids have shape \(1, 2, 3\); pass \(batch, prompt\), or"),
    (5, {}, r"prompt_ids have shape \(\); pass \(batch, prompt\), or \(prompt,\) for a single prompt"),
    (
        [[1], [[2, 3]]],
        {},
        r"prompt_ids\[1\] has shape \(1, 2\); each of several prompts must be one sequence of token ids",
    ),
    ([[1], 2], {}, r"prompt_ids\[1\] has shape \(\); each of several prompts must be one sequence of token ids"),
    ([50], {}, "prompt_ids range from 50 to 50, but vocab_size=50; encode with the model's tokenizer"),
    ([[3, -1], [2]], {}, "prompt_ids range from -1 to 3, but vocab_size=50"),
    ([1.0], {}, "prompt_ids has dtype torch.float32, expected integers; pass token ids"),
    ([[1], [True]], {}, r"prompt_ids\[1\] has dtype torch.bool, expected integers"),
    ("once", {}, "prompt_ids='once' is not a sequence of token ids; pass integers, from the model's tokenizer"),
    (["once", "upon"], {}, r"prompt_ids\[0\]='once' is not a sequence of token ids"),
    ([1, "a"], {}, r"prompt_ids\[1\]='a' is not a sequence of token ids"),
    ([2**70], {}, "is not a sequence of token ids"),
    (None, {}, "prompt_ids=None is not a sequence of token ids"),
    (iter([1]), {}, "is not a sequence of token ids"),
]


@pytest.mark.parametrize("function", [generate, complete, stream])
@pytest.mark.parametrize(("prompt", "options", "message"), REFUSED)
def test_invalid_prompts_and_options_are_refused(model, unchecked_shapes, function, prompt, options, message):
    options = {"max_new_tokens": 3} | options
    with pytest.raises(ValueError, match=message):
        function(model, prompt, **options)


def test_padding_outside_the_vocabulary_is_refused(model):
    with pytest.raises(ValueError, match="pad_id=50 is not a token; choose an id from 0 to 49, or None"):
        generate(model, [[1], [2, 3]], max_new_tokens=3, pad_id=50)


def test_several_prompts_cannot_be_streamed(model):
    with pytest.raises(ValueError, match=r"prompt_ids of shape \(2, 1\) are several prompts, expected one; stream one"):
        stream(model, torch.tensor([[1], [2]]), max_new_tokens=3)
