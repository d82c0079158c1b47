"""From a recipe and prepared data to a finished run directory, and from a run directory back to a model that writes."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from tinystories.recipes import Recipe

if TYPE_CHECKING:
    from bpe import Preparation, Tokenizer
    from nnscratch import TransformerConfig, TransformerLM
    from trainer import Summary, TrainConfig

SAMPLE_PROMPT = "Once upon a time"
SAMPLE_TOKENS = 256
CompileMode = Literal["auto", "on", "off"]
WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class Machine:
    """Where and how to compute: this does not belong to a recipe."""

    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as "cpu", "mps", "cuda:1"."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the matrix products; "auto" takes what is fast and safe on the device."""
    compile: CompileMode = "auto"
    """torch.compile; "auto" only on CUDA."""


def model_config(recipe: Recipe, vocab_size: int) -> "TransformerConfig":
    """The recipe's architecture for a tokenizer of `vocab_size` entries."""
    from nnscratch import TransformerConfig

    return TransformerConfig(
        vocab_size=vocab_size,
        context_length=recipe.context_length,
        d_model=recipe.d_model,
        num_layers=recipe.num_layers,
        num_heads=recipe.num_heads,
        d_ff=recipe.d_ff,
        rope_theta=recipe.rope_theta,
        norm=recipe.norm,
        position=recipe.position,
        ffn=recipe.ffn,
        tie_embeddings=recipe.tie_embeddings,
    )


def train_config(recipe: Recipe, machine: Machine) -> "TrainConfig":
    """The recipe's training loop on a machine."""
    from trainer import TrainConfig

    interval = max(1, recipe.steps // recipe.evaluations)
    return TrainConfig(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        context_length=recipe.context_length,
        max_grad_norm=recipe.max_grad_norm,
        eval_interval=interval,
        log_interval=max(1, interval // 2),
        checkpoint_interval=interval,
        checkpoint_seconds=60.0,
        seed=recipe.seed,
        device=machine.device,
        dtype=machine.dtype,
        compile=machine.compile,
    )


def learning_rate_schedule(recipe: Recipe) -> Callable[[int], float]:
    """Linear warm-up, then a cosine that is at its minimum at the last step."""
    from nnscratch import cosine_schedule

    def schedule(step: int) -> float:
        return cosine_schedule(
            step + 1,  # step 0 is the first update, and a rate of zero would waste it
            max_lr=recipe.learning_rate,
            min_lr=recipe.learning_rate * recipe.final_learning_rate_fraction,
            warmup_steps=round(recipe.steps * recipe.warmup_fraction),
            decay_steps=recipe.steps,
        )

    return schedule


def train(
    recipe: Recipe,
    preparation: "Preparation",
    run_dir: Path,
    machine: Machine,
    *,
    quiet: bool = False,
    wandb: WandbMode = "disabled",
) -> "Summary":
    """Train one model into a run directory; a run that was interrupted goes on, one that is finished is only read.

    Raises:
        ModuleNotFoundError: wandb is asked for and not installed.
        ValueError: the directory holds a run of another recipe, or the data do not fit the recipe.
        trainer.TrainingInterrupted: SIGINT or SIGTERM came; everything is saved.
    """
    import torch
    from torch import nn

    from nnscratch import AdamW, TransformerLM, flops_per_token
    from trainer import ConsoleLogger, Logger, TokenDataset, Trainer, WandbLogger

    loggers: list[Logger] = [] if quiet else [ConsoleLogger()]
    if wandb != "disabled":
        loggers.append(WandbLogger(wandb, project=os.environ.get("WANDB_PROJECT", "tinystories")))
    tokenizer = preparation.tokenizer
    torch.manual_seed(recipe.seed)
    model = TransformerLM(model_config(recipe, tokenizer.vocab_size))
    optimizer = AdamW(model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)

    def sample(module: nn.Module, step: int) -> list[str]:
        return (
            [write_story(cast(TransformerLM, module), tokenizer, SAMPLE_PROMPT, seed=recipe.seed)]
            if step == recipe.steps
            else []
        )

    trainer = Trainer(
        model,
        optimizer,
        lambda module, inputs, targets: cast(TransformerLM, module).loss(inputs, targets),
        TokenDataset(preparation.train_tokens),
        TokenDataset(preparation.valid_tokens),
        train_config(recipe, machine),
        learning_rate_schedule(recipe),
        run_dir,
        loggers=loggers,
        sample=sample,
        recorded={"recipe": asdict(recipe), "tokenizer": str(preparation.tokenizer_directory.resolve())},
        flops_per_token=flops_per_token(model.config, backward=True),
    )
    return trainer.fit()


def load(run_dir: Path, device: str = "auto") -> "tuple[TransformerLM, Tokenizer]":
    """The best model of a run, ready to write, and its tokenizer.

    Raises:
        FileNotFoundError: this is no run directory, or it has no checkpoint yet.
    """
    from bpe import Tokenizer
    from nnscratch import TransformerLM
    from trainer import load_weights, read_config, resolve_device

    recorded = read_config(run_dir)["recorded"]
    tokenizer = Tokenizer.from_pretrained(Path(recorded["tokenizer"]))
    recipe = Recipe(**recorded["recipe"])
    model = TransformerLM(model_config(recipe, tokenizer.vocab_size))
    load_weights(model, run_dir)
    return model.to(resolve_device(device)).eval(), tokenizer


def write_story(
    model: "TransformerLM",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    max_new_tokens: int = SAMPLE_TOKENS,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    seed: int | None = 0,
) -> str:
    """Continue a prompt up to the end-of-text token or `max_new_tokens`; the prompt is part of what is returned."""
    import torch

    from nnscratch import generate

    prompt_ids = torch.tensor([tokenizer.encode(prompt)], device=next(model.parameters()).device)
    token_ids = generate(
        model,
        prompt_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        eos_id=tokenizer.eot_id,
        seed=seed,
    )[0].tolist()
    written = token_ids[prompt_ids.shape[1] :]
    if tokenizer.eot_id in written:
        written = written[: written.index(tokenizer.eot_id)]
    return prompt + tokenizer.decode(written)
