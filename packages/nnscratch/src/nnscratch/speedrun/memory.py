"""Gradient accumulation: the fewest forward passes per batch whose activations fit into a GPU's memory."""

from nnscratch.speedrun.recipes import Recipe
from nnscratch.speedrun.settings import with_settings

_SHARE = 0.8  # of the free memory; the compiler and the allocator need the rest
_LOGITS, _BYTES_PER_LOGIT = 2**28, 16  # logits of a chunk of the loss and their gradients, in several dtypes
_BYTES_PER_PARAMETER = 16  # weight, gradient and two moments in float32


def saved_bytes_per_token(recipe: Recipe, number_bytes: int = 2) -> int:
    """Return an estimate of the bytes that are saved for the backward pass, per training token.

    Counts per block: inputs and results of both norms, queries, keys and values, queries and keys before QK-norm,
    attention's output, before its gates too, and each inner vector of the feed-forward network before and after its
    activation; of squared ReLU only the square, because nnscratch computes it in the product before.
    `number_bytes` are those of a number in matrix products, 2 for bfloat16.
    """
    model = recipe.model
    stream = number_bytes if model.narrow_stream else 4
    attention = 4 + 2 * model.qk_norm + model.value_embeddings + model.attention_gates
    inner = {"swiglu": 3, "silu": 2, "relu_squared": 1}[model.ffn]
    width_bytes, inner_bytes = 4 * stream + number_bytes * attention, number_bytes * inner
    return model.num_layers * (model.d_model * width_bytes + model.d_ff * inner_bytes)


def in_passes_that_fit(
    recipe: Recipe, parameters: int, vocab_size: int, free_bytes: int, *, processes: int = 1, number_bytes: int = 2
) -> Recipe:
    """Return the recipe with its batches split into 1, 2, 4, … forward passes, as few as fit into memory.

    `trainer` also halves passes that run out of memory. By then it has compiled them for nothing, and with several
    processes it does not halve them at all.

    Args:
        recipe: The recipe; its batch is that of all processes together.
        parameters: Parameters of the whole model, embeddings included.
        vocab_size: Entries of the tokenizer.
        free_bytes: Free memory of each GPU.
        processes: GPUs that share the batch.
        number_bytes: As in `saved_bytes_per_token`.

    Raises:
        ValueError: If even the smallest pass does not fit.
    """
    batches = recipe.batches
    room = _SHARE * free_bytes - _BYTES_PER_PARAMETER * parameters
    saved = saved_bytes_per_token(recipe, number_bytes)

    def needed(passes: int) -> float:
        tokens = batches.batch_size / (processes * passes) * recipe.model.context_length
        return tokens * saved + _BYTES_PER_LOGIT * min(_LOGITS, tokens * vocab_size)

    passes = 1
    while needed(passes) > room:
        if batches.batch_size % (2 * passes * processes):
            needed_gib, free_gib = (needed(passes) + _BYTES_PER_PARAMETER * parameters) / 2**30, free_bytes / 2**30
            raise ValueError(
                f"the model and its smallest forward pass need about {needed_gib:.1f} GiB, but {free_gib:.1f} GiB of "
                "GPU memory are free: give a smaller d_model, context_length or batch_size"
            )
        passes *= 2
    if passes == 1:
        return recipe
    # A batch of the recipe is one pass of one process.
    parts = passes * processes
    ramp = tuple((start, parts * several) for start, several in batches.batch_ramp or ((0.0, 1),))
    return with_settings(recipe, {"batches.batch_size": batches.batch_size // parts, "batches.batch_ramp": ramp})
