"""Forward passes that fit into memory."""

import pytest

from nnscratch.speedrun import RECIPES, changed
from nnscratch.speedrun.memory import in_passes_that_fit, saved_bytes_per_token

GPU = RECIPES["speedrun"]("cuda")


def test_batches_are_made_in_as_few_forward_passes_as_fit():
    needed = 256 * 512 * saved_bytes_per_token(GPU)
    assert needed == pytest.approx(48.3e9, rel=0.001)
    for gibibytes, passes in ((140, 1), (80, 1), (40, 4), (24, 8), (12, 32)):
        recipe = in_passes_that_fit(GPU, 400_000_000, 32_000, gibibytes * 2**30)
        assert recipe.batches.batch_size * recipe.batches.mean_passes == 256, gibibytes
        assert recipe.batches.mean_passes == passes, gibibytes
    assert in_passes_that_fit(GPU, 400_000_000, 32_000, 60 * 2**30, processes=2) == GPU
    inner = 12 * 2 * 4096  # of all layers, in bfloat16
    assert saved_bytes_per_token(changed(GPU, ("ffn=silu",))) == saved_bytes_per_token(GPU) + inner
    assert saved_bytes_per_token(GPU, 4) == 2 * saved_bytes_per_token(GPU)
    gated = changed(GPU, ("attention_gates=True",))
    assert saved_bytes_per_token(gated) - saved_bytes_per_token(GPU) == 2 * 12 * 1024


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("ramp", ["()", "((0.0,1),(0.5,3))"])
def test_every_process_has_passes_as_small_as_was_asked_for(processes, ramp):
    windows = 16 * processes  # 8 windows in a pass of a process fit, and 16 do not
    recipe = changed(GPU, (f"batch_size={windows}", f"batch_ramp={ramp}"))
    room = 10 * recipe.model.context_length * (saved_bytes_per_token(recipe) + 16 * 32_000)
    parted = in_passes_that_fit(recipe, 0, 32_000, int(room / 0.8), processes=processes)
    assert parted.batches.batch_size == 8
    for (_, count), times in zip(
        parted.batches.batch_ramp, [times for _, times in recipe.batches.batch_ramp] or [1], strict=True
    ):
        assert count * 8 == times * windows
        assert count % processes == 0


def test_a_model_for_which_no_pass_is_small_enough_is_refused():
    with pytest.raises(
        ValueError, match=r"smallest forward pass need about 6\.\d GiB, but 1\.0 GiB .* are free: give a"
    ):
        in_passes_that_fit(GPU, 400_000_000, 32_000, 2**30)
