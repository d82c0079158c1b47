"""Adapter for lm-evaluation-harness, the package `lm_eval` (Gao et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from nnscratch.evaluation.likelihood import log_likelihoods
from nnscratch.generation import stream_rows
from nnscratch.language_model import LanguageModel

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError(
        'HarnessModel needs the package lm_eval, which cannot be imported; pip install "scratchlm-nnscratch[lm-eval]"'
    ) from error

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # The harness accepts all four.
_SAMPLING = ("temperature", "top_k", "top_p", "seed")


@runtime_checkable
class Tokenizer(Protocol):
    """Tokenizer of a model."""

    def encode(self, text: str, /) -> Sequence[int]:
        """Return the token ids of a text, without any token before or after it."""

    def decode(self, ids: list[int], /) -> str:
        """Return the text of token ids, of which the last may be an incomplete character."""


class HarnessModel(TemplateLM):
    """A `LanguageModel` that lm-evaluation-harness can evaluate: pass it to `lm_eval.simple_evaluate(model=...)`.

    A text without context follows the end-of-text token. Of a text longer than the model's window, the first tokens are
    left out; for `generate_until` the window has to hold the new tokens, too. Perplexities of long texts are computed
    in windows that do not overlap, except the last one. All this is as in the harness's own adapter for transformers.

    Args:
        model: The model, which is put into evaluation mode.
        tokenizer: Object with `encode` and `decode`, such as `bpe.Tokenizer`.
        end_of_text: Id of the token before and after a text; it ends what the model generates.
        batch_size: Number of texts in one forward pass.
        max_new_tokens: Number of new tokens if a task does not say; None for half of `context_length`, at most 256.

    Raises:
        ImportError: If the package `lm_eval` is not installed.
        ValueError: If `end_of_text` is not in the vocabulary, or a size is below 1.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        end_of_text: int,
        batch_size: int = 16,
        max_new_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= end_of_text < model.config.vocab_size:
            raise ValueError(f"end_of_text={end_of_text!r} is not one of the {model.config.vocab_size} tokens")
        if max_new_tokens is None:
            max_new_tokens = max(1, min(256, model.config.context_length // 2))
        for name, value in {"batch_size": batch_size, "max_new_tokens": max_new_tokens}.items():
            if value < 1:
                raise ValueError(f"{name}={value!r} is out of range; choose at least 1")
        self.model = model.eval()
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self._tokenizer = tokenizer
        self._end_of_text = end_of_text
        self._device = model.token_embeddings.weight.device

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token, by which the harness precedes a text without context."""
        return self._end_of_text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Return the token ids of a text; there are no special tokens to add."""
        return list(self._tokenizer.encode(string))

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood and the greedy flag of each (texts, context, continuation)."""
        # A context of nothing but spaces is empty, because the harness moves them to the continuation.
        pairs = [(context or [self._end_of_text], continuation) for _, context, continuation in requests]
        results = log_likelihoods(self.model, pairs, batch_size=self.batch_size)
        for (texts, _, _), result in zip(requests, results, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text as a whole, in nats; an empty text has 0."""
        window = self.model.config.context_length
        pairs, counts = [], []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            windows = get_rolling_token_windows(ids, self._end_of_text, max_seq_len=window, context_len=1)
            parts = [make_disjoint_window(part) for part in windows]
            pairs += parts
            counts.append(len(parts))
        scores = [score for score, _ in log_likelihoods(self.model, pairs, batch_size=self.batch_size)]
        totals = []
        for request, count in zip(requests, counts, strict=True):
            totals.append(sum(scores[:count], 0.0))
            del scores[:count]
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return what the model writes after each context, up to the first of the strings in `until`.

        A task may set `until`, `max_gen_toks`, `do_sample`, `temperature`, `top_k`, `top_p` and `seed`. Decoding is
        greedy unless `do_sample` is true, or is absent and `temperature` is above 0.

        Raises:
            ValueError: If a task has another setting, or wants as many tokens as fit into the window, or more.
        """
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(index)
        texts = [""] * len(requests)
        for group in groups.values():
            stops, count, sampling = self._settings(requests[group[0]].args[1])
            room = self.model.config.context_length - count
            prompts = {i: (self.tok_encode(requests[i].args[0]) or [self._end_of_text])[-room:] for i in group}
            group.sort(key=lambda index: -len(prompts[index]))
            for start in range(0, len(group), self.batch_size):
                chosen = group[start : start + self.batch_size]
                written = self._write([prompts[index] for index in chosen], stops, count, sampling)
                for index, text in zip(chosen, written, strict=True):
                    texts[index] = text
                    self.cache_hook.add_partial("generate_until", requests[index].args, text)
        return texts

    def _settings(self, task: Mapping[str, Any]) -> tuple[list[str], int, dict[str, Any]]:
        """Return the strings that end a text, the number of new tokens, and the arguments of `generate`."""
        if unknown := sorted(task.keys() - {"until", "do_sample", *_LIMITS, *_SAMPLING}):
            raise ValueError(
                f"a task asks for {', '.join(unknown)}, which generation does not support; override it by gen_kwargs"
            )
        until = task.get("until") or []
        stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
        count = next((int(task[name]) for name in _LIMITS if task.get(name) is not None), self.max_new_tokens)
        if not 1 <= count < self.model.config.context_length:
            raise ValueError(
                f"a task asks for {count} new tokens, expected 1 to {self.model.config.context_length - 1}, so that "
                f"they and a context fit into the window; set max_gen_toks by gen_kwargs"
            )
        sampling = {name: task[name] for name in _SAMPLING if task.get(name) is not None}
        is_sampled = task.get("do_sample")
        temperature = float(sampling.get("temperature", 1.0 if is_sampled else 0.0))
        return stops, count, {**sampling, "temperature": 0.0 if is_sampled is False else temperature}

    def _write(self, prompts: list[list[int]], stops: list[str], count: int, sampling: dict[str, Any]) -> list[str]:
        """Return the texts that follow the prompts, each up to its first stop."""
        ids: list[list[int]] = [[] for _ in prompts]
        texts = [""] * len(prompts)
        unfinished = set(range(len(prompts)))
        prompt_ids = [torch.tensor(prompt) for prompt in prompts]
        for tokens in stream_rows(self.model, prompt_ids, max_new_tokens=count, **sampling):
            for row in list(unfinished):
                if tokens[row] == self._end_of_text:
                    unfinished.remove(row)
                    continue
                ids[row].append(tokens[row])
                texts[row] = self._tokenizer.decode(ids[row])
                ends = [texts[row].find(stop) for stop in stops if stop in texts[row]]
                if ends:
                    texts[row] = texts[row][: min(ends)]
                    unfinished.remove(row)
            if not unfinished:
                break
        return texts
