"""Log-likelihoods of continuations, in batches of similar length."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nnscratch.language_model import LanguageModel

_LOGITS_AT_ONCE = 2**24


@torch.inference_mode()
def log_likelihoods(
    model: LanguageModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, batch_size: int = 16
) -> list[tuple[float, bool]]:
    """Return, for every context and continuation, ln p(continuation | context) in nats and the greedy flag.

    The flag says if greedy decoding would produce the continuation. Of a pair longer than the model's window, the first
    ids of the context are left out. Sums are in float64, logits as the model computes them.

    Args:
        model: The model, in the mode that it is in: call `model.eval()` first if it has dropout.
        pairs: Token ids of a context and of its continuation, at least one id each.
        batch_size: Number of pairs in one forward pass.

    Raises:
        ValueError: If `batch_size` is below 1, a context or continuation is empty, or a continuation has more than
            `context_length` ids.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} is out of range; choose at least 1")
    window = model.config.context_length
    for index, (context, continuation) in enumerate(pairs):
        if not context or not 1 <= len(continuation) <= window:
            raise ValueError(
                f"pair {index} has a context of {len(context)} ids and a continuation of {len(continuation)}, expected "
                f"at least 1 each and at most context_length={window} in the continuation; begin a text with the "
                f"end-of-text token, and split a long one"
            )
    texts = [([*context, *continuation][-window - 1 :], len(continuation)) for context, continuation in pairs]
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index][0]))
    results = [(0.0, True)] * len(texts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        for index, result in zip(chosen, _score(model, [texts[index] for index in chosen]), strict=True):
            results[index] = result
    return results


def _score(model: LanguageModel, texts: list[tuple[list[int], int]]) -> Iterator[tuple[float, bool]]:
    """Yield the log-likelihood and the greedy flag of the last ids of each text, of which the first is the longest."""
    device = model.token_embeddings.weight.device
    # Ids after a text are never attended to, because a position sees only those before it.
    inputs = torch.zeros(len(texts), len(texts[0][0]) - 1, dtype=torch.int64)
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for row, (ids, count) in enumerate(texts):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        rows += [row] * count
        columns += range(len(ids) - 1 - count, len(ids) - 1)
        targets += ids[-count:]
    hidden = model.hidden_states(inputs.to(device))
    hidden = hidden[torch.tensor(rows, device=device), torch.tensor(columns, device=device)]
    scores, are_likeliest = _score_positions(model, hidden, torch.tensor(targets, device=device))
    counts = [count for _, count in texts]
    for score, is_likeliest in zip(scores.split(counts), are_likeliest.split(counts), strict=True):
        yield float(score.sum()), bool(is_likeliest.all())


def _score_positions(model: LanguageModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln p of each target and if it is the likeliest token, on the CPU, in chunks of positions."""
    scores, are_likeliest = [], []
    size = max(1, _LOGITS_AT_ONCE // model.config.vocab_size)
    for part, ids in zip(hidden.split(size), targets.split(size), strict=True):
        logits = model._logits(part).float()
        scores.append((logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)).cpu().double())
        are_likeliest.append((logits.argmax(-1) == ids).cpu())
    return torch.cat(scores), torch.cat(are_likeliest)
