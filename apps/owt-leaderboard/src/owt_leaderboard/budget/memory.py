"""In how many forward passes a batch is made, so that a GPU has room for what each of them keeps."""

from dataclasses import replace

from owt_leaderboard.recipe.recipes import Recipe

_SHARE = 0.8  # of the free memory; the rest is for what the compiler and the allocator add
_LOGITS, _BYTES_PER_LOGIT = 2**28, 16  # of a chunk and its gradient, on their way through several types
_BYTES_PER_PARAMETER = 16  # weight, gradient and two moments in float32


def kept_bytes_per_token(recipe: Recipe, number_bytes: int = 2) -> int:
    """Return about how many bytes the backward pass wants of each training token: an estimate, counted in the code.

    Of a block: inputs of both norms and their results, queries, keys and values, those two before their norms,
    attention's output, and each inner vector of the feed-forward network before and after it is squared or gated.

    Args:
        recipe: sizes and switches.
        number_bytes: of a number in matrix products; 2 is bfloat16.
    """
    stream = number_bytes if recipe.narrow_stream else 4
    inside = 4 + (2 if recipe.qk_norm else 0) + (1 if recipe.value_embeddings else 0)
    inner = 3 if recipe.ffn == "swiglu" else 2
    width_bytes, inner_bytes = 4 * stream + number_bytes * inside, number_bytes * inner
    return recipe.num_layers * (recipe.d_model * width_bytes + recipe.d_ff * inner_bytes)


def in_passes_that_fit(
    recipe: Recipe, parameters: int, vocab_size: int, free_bytes: int, *, processes: int = 1, number_bytes: int = 2
) -> Recipe:
    """Return the recipe with its batches made in 1, 2, 4, … forward passes, as few as there is room for.

    The trainer halves passes for which there is no room, too, but has then compiled them for nothing, and among several
    processes it does not.

    Args:
        recipe: its batch is that of all processes.
        parameters: all of the model, embeddings too.
        vocab_size: entries of the tokenizer.
        free_bytes: of each GPU's memory.
        processes: GPUs that share the batch.
        number_bytes: as for `kept_bytes_per_token`.
    """
    room = _SHARE * free_bytes - _BYTES_PER_PARAMETER * parameters
    kept = kept_bytes_per_token(recipe, number_bytes)

    def needed(passes: int) -> float:
        tokens = recipe.batch_size / (processes * passes) * recipe.context_length
        return tokens * kept + _BYTES_PER_LOGIT * min(_LOGITS, tokens * vocab_size)

    passes = 1
    while needed(passes) > room and recipe.batch_size % (2 * passes * processes) == 0:
        passes *= 2
    if passes == 1:
        return recipe
    # Whole batches of a pass go to one process each.
    parts = passes * processes
    ramp = tuple((start, parts * several) for start, several in recipe.batch_ramp or ((0.0, 1),))
    return replace(recipe, batch_size=recipe.batch_size // parts, batch_ramp=ramp)
