"""The adapter in lm-evaluation-harness itself: `nox -s harness` has the package, `nox -s tests` has not."""

import math
import warnings

import pytest
import torch
from samples import save_letters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

from nnscratch import TransformerConfig, TransformerLM, complete, export_huggingface
from nnscratch.evaluation import HarnessModel

END = 49  # the letters are 0 to 48, and 48 is "Q"


class Letters:
    """A tokenizer with a token for each character from "!" to "Q"; spaces are left out."""

    def encode(self, text):
        return [ord(letter) - 33 for letter in text if letter != " "]

    def decode(self, ids):
        return "".join(chr(index + 33) for index in ids)


@pytest.fixture
def model():
    config = TransformerConfig(vocab_size=50, context_length=16, d_model=32, num_layers=2, num_heads=4, d_ff=64)
    return TransformerLM(config)


@pytest.fixture
def adapter(model):
    return HarnessModel(model, Letters(), end_of_text=END, batch_size=3)


def asked(kind, *arguments):
    return [Instance(kind, {}, args, index) for index, args in enumerate(arguments)]


def score(model, ids, count):
    """Log-likelihood of the last ids from the logits of one forward pass."""
    with torch.no_grad():
        logs = torch.nn.functional.log_softmax(model(torch.tensor([ids[:-1]]))[0], -1)
    return sum(float(logs[place - 1, ids[place]]) for place in range(len(ids) - count, len(ids)))


def test_continuations_follow_their_contexts(model, adapter):
    long = "ABCDEFGHIJKLMNOP" * 3
    results = adapter.loglikelihood(
        asked("loglikelihood", ("ABC", " DE"), ("", "AB"), ("  ", "AB"), (long, "AB"), ("A", "!"))
    )
    encode = Letters().encode
    texts = [encode("ABCDE"), [END, *encode("AB")], [END, *encode("AB")], encode(long + "AB")[-17:], encode("A!")]
    expected = [score(model, ids, count) for ids, count in zip(texts, [2, 2, 2, 2, 1], strict=True)]
    assert [value for value, _ in results] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 40])
def test_every_token_of_a_text_is_predicted_once_with_the_most_context(model, adapter, length):
    torch.manual_seed(2)
    ids = torch.randint(49, (length,)).tolist()
    text = Letters().decode(ids)
    (total,) = adapter.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    expected, done = 0.0, 0
    while done < length:
        end = min(done + 16, length)
        window = [END, *ids][max(0, end + 1 - 17) : end + 1]
        expected, done = expected + score(model, window, end - done), end
    assert total == pytest.approx(expected, abs=1e-4)


def written(model, prompt, count):
    """Greedy text of `generate` for one prompt, up to the end-of-text token."""
    (ids,) = complete(model, [prompt], max_new_tokens=count, temperature=0.0, eos_id=END)
    return Letters().decode([index for index in ids if index != END])


def test_texts_end_at_the_first_stop_or_the_limit(model, adapter):
    prompts = ["ABC", "D", "", "ABCDEFGHIJKLMNOPABCDEFGHIJKL", "EF"]
    limit = 6
    full = [written(model, (Letters().encode(prompt) or [END])[-10:], limit) for prompt in prompts]
    stop = full[0][2:4]
    requests = asked(
        "generate_until", *[(prompt, {"until": [stop, "xyz"], "max_gen_toks": limit}) for prompt in prompts]
    )
    texts = adapter.generate_until(requests)
    assert texts == [text.split(stop)[0] for text in full]
    assert texts[0] != full[0]
    assert adapter.generate_until(asked("generate_until", ("D", {"until": ""}))) == [written(model, [35], 8)]


def test_the_end_of_text_token_ends_a_text(model, adapter):
    first, second = torch.zeros(32), torch.ones(32)
    with torch.no_grad():
        model.token_embeddings.weight.zero_()
        model.lm_head.weight.zero_()
        model.token_embeddings.weight[1], model.token_embeddings.weight[2] = second, -second
        model.lm_head.weight[2], model.lm_head.weight[END] = second, -second
        for layer in model.layers:
            layer.attn.output_proj.weight.copy_(first.expand(32, 32))
            layer.ffn.w2.weight.zero_()
    # After token 1 comes token 2, and after token 2 the end.
    assert adapter.generate_until(asked("generate_until", ('"', {"max_gen_toks": 5}))) == ["#"]


def test_samples_repeat_with_a_seed(adapter):
    settings = {"do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.9, "max_gen_toks": 9, "seed": 5}
    requests = asked("generate_until", ("ABC", settings), ("D", settings))
    texts = adapter.generate_until(requests)
    assert texts == adapter.generate_until(requests)
    assert texts != adapter.generate_until(asked("generate_until", ("ABC", settings | {"do_sample": False}), ("D", {})))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 4}, "a task asks for num_beams, which generation does not support"),
        ({"max_gen_toks": 16}, "a task asks for 16 new tokens, expected 1 to 15"),
    ],
)
def test_settings_without_effect_are_refused(adapter, settings, message):
    with pytest.raises(ValueError, match=message):
        adapter.generate_until(asked("generate_until", ("A", settings)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"end_of_text": 50}, "end_of_text=50 is not one of the 50 tokens"),
        ({"end_of_text": 0, "batch_size": 0}, "batch_size=0 is out of range"),
        ({"end_of_text": 0, "max_new_tokens": 0}, "max_new_tokens=0 is out of range"),
    ],
)
def test_arguments_out_of_range_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        HarnessModel(model, Letters(), **arguments)


DOCUMENTS = [
    {"question": "ABC", "choices": ["DE", "FGH", "I"], "answer": 1},
    {"question": "MNOPQMNOPQMNOPQMNOPQ", "choices": ["A", "B", "C"], "answer": 0},
    {"question": "JJ", "choices": ["KLM", "NOP", "ABC"], "answer": 2},
]


def rows(**options):
    import datasets

    return {"test": datasets.Dataset.from_list(DOCUMENTS)}


COMMON = {"custom_dataset": rows, "test_split": "test", "doc_to_text": "{{question}}"}
CHOICE = COMMON | {
    "task": "letters_choice",
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}],
}
PERPLEXITY = COMMON | {
    "task": "letters_text",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "byte_perplexity"}],
}
WRITING = COMMON | {
    "task": "letters_writing",
    "output_type": "generate_until",
    "doc_to_target": "{{choices[0]}}",
    "generation_kwargs": {"until": ["A"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match"}],
}


def evaluate(adapter):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lm_eval.simple_evaluate(adapter, tasks=[CHOICE, PERPLEXITY, WRITING], bootstrap_iters=0)


def test_a_task_of_our_own_gives_what_the_logits_say(model, adapter):
    results = evaluate(adapter)
    encode = Letters().encode
    right, total, letters = 0, 0.0, 0
    for document in DOCUMENTS:
        context = encode(document["question"])
        scores = [score(model, [*context, *encode(choice)][-17:], len(choice)) for choice in document["choices"]]
        right += scores.index(max(scores)) == document["answer"]
        letters += len(context)
        first = score(model, [END, *context[:16]], min(16, len(context)))
        total += first if len(context) <= 16 else first + score(model, context[-17:], len(context) - 16)
    values = results["results"]
    assert values["letters_choice"]["acc,none"] == pytest.approx(right / len(DOCUMENTS))
    assert values["letters_text"]["byte_perplexity,none"] == pytest.approx(math.exp(-total / letters), rel=1e-5)
    texts = [sample["resps"][0][0] for sample in results["samples"]["letters_writing"]]
    prompts = [encode(document["question"])[-12:] for document in DOCUMENTS]
    assert texts == [written(model, prompt, 4).split("A")[0] for prompt in prompts]


def test_the_adapter_for_transformers_agrees(model, tmp_path):
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = save_letters(tmp_path / "tokenizer")
    export_huggingface(model, tokenizer, tmp_path / "exported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
        peer = HFLM(loaded, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "exported"), batch_size=2, device="cpu")
        pairs = asked("loglikelihood", ("ABC", "DE"), ("", "AB"), ("ABCDEFGHIJKLMNOPABCDEF", "AB"), ("C", "ABCDEF"))
        ours = HarnessModel(model, Letters(), end_of_text=END)
        for mine, theirs in zip(ours.loglikelihood(pairs), peer.loglikelihood(pairs), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
        texts = asked("loglikelihood_rolling", ("ABCDEFGHIJKLMNOPQABCDE",), ("AB",))
        assert ours.loglikelihood_rolling(texts) == pytest.approx(peer.loglikelihood_rolling(texts), abs=1e-4)
        settings = {"until": ["C"], "max_gen_toks": 6, "do_sample": False}
        prompts = asked("generate_until", ("ABC", settings), ("ABCDEFGHIJKLMNOPABCDEF", settings))
        assert ours.generate_until(prompts) == peer.generate_until(prompts)
