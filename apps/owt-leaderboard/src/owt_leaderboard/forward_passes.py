"""In how many forward passes a batch is made, so that a GPU has room for what each of them keeps."""

from dataclasses import replace

from owt_leaderboard.recipes import Recipe

_SHARE = 0.8  # of the free memory; the rest is for what the compiler and the allocator add
_LOGITS_BYTES = 4 * 2**30  # a chunk of 2^28 logits and its gradient, on their way through several types
_BYTES_PER_PARAMETER = 16  # weight, gradient and two moments in float32


def kept_bytes_per_token(recipe: Recipe) -> int:
    """Return about how many bytes the backward pass wants of each training token: an estimate, counted in the code.

    Of a block: inputs of both norms and their results, queries, keys and values, those two before their norms,
    attention's output, and each inner vector of the feed-forward network before and after it is squared or gated.
    """
    stream = 2 if recipe.narrow_stream else 4  # bytes of a number
    width_bytes = 4 * stream + 2 * (4 + (2 if recipe.qk_norm else 0) + (1 if recipe.value_embeddings else 0))
    inner_bytes = 2 * (3 if recipe.ffn == "swiglu" else 2)
    return recipe.num_layers * (recipe.d_model * width_bytes + recipe.d_ff * inner_bytes)


def in_passes_that_fit(recipe: Recipe, parameters: int, free_bytes: int, processes: int = 1) -> Recipe:
    """Return the recipe with its batches made in 1, 2, 4, … forward passes, as few as there is room for.

    The trainer halves passes for which there is no room, too, but has then compiled them for nothing.

    Args:
        recipe: its batch is that of all processes.
        parameters: all of the model, embeddings too.
        free_bytes: of each GPU's memory.
        processes: GPUs that share the batch.
    """
    room = _SHARE * free_bytes - _LOGITS_BYTES - _BYTES_PER_PARAMETER * parameters
    needed = recipe.batch_size // processes * recipe.context_length * kept_bytes_per_token(recipe)
    passes = 1
    while needed / passes > room and recipe.batch_size % (2 * passes * processes) == 0:
        passes *= 2
    if passes == 1:
        return recipe
    ramp = tuple((start, passes * several) for start, several in recipe.batch_ramp or ((0.0, 1),))
    return replace(recipe, batch_size=recipe.batch_size // passes, batch_ramp=ramp)
