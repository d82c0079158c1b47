"""Fine-tune a trained model on prompts with answers: only the tokens of the answers have a loss.

    python -m tinystories.run train --out runs/pretrained
    python apps/tinystories/examples/fine_tune.py runs/pretrained --out runs/answers
    python -m tinystories.run generate runs/answers --prompt "Where does the fox live?"

The pairs are questions about the animals of the composed stories, or those of a file of JSON lines, such as
`{"prompt": "Where does the fox live?", "answer": " In a den."}`. An answer begins with the space that separates it from
its prompt. Every fifth pair is held out.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinystories.texts.words import SPECIES
from tinystories.writing import load, write_story
from trainer.experiments.runs import Sampling, recorded_of
from trainer.experiments.texts import TOKENIZER_FOLDER, tokenizer_of

if TYPE_CHECKING:
    from torch import Tensor

    from bpe import Tokenizer
    from nnscratch import LanguageModel
    from trainer import Examples

QUESTIONS = {
    "home": ("Where does the {name} live?", "Where is the {name} at home?", "In which place does the {name} sleep?"),
    "look": ("What does the {name} look like?", "How do you know the {name}?", "What do you see on the {name}?"),
}
ANSWERS = {"home": " The {name} lives in {home}.", "look": " The {name} has {look}."}


class Pair(NamedTuple):
    """A prompt and the answer to it."""

    prompt: str
    answer: str


def animal_pairs() -> list[Pair]:
    """Return three questions about the home, and three about the look, of each animal of the composed stories."""
    return [
        Pair(question.format(**animal), ANSWERS[fact].format(**animal))
        for animal in SPECIES
        for fact, questions in QUESTIONS.items()
        for question in questions
    ]


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs from JSON lines with a prompt and an answer each."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [Pair(row["prompt"], row["answer"]) for row in rows]


def make_examples(pairs: Sequence[Pair], tokenizer: "Tokenizer") -> "Examples":
    """Encode each pair as one sequence, of which the answer and the end of the text count as targets."""
    from trainer import Examples

    prompts = [tokenizer.encode(pair.prompt) for pair in pairs]
    answers = [[*tokenizer.encode(pair.answer), tokenizer.eot_id] for pair in pairs]
    both = list(zip(prompts, answers, strict=True))
    return Examples(
        [prompt + answer for prompt, answer in both],
        [[False] * len(prompt) + [True] * len(answer) for prompt, answer in both],
    )


def answer_loss(model: "LanguageModel", inputs: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the sum of the losses in nats and the number of targets that count; prompts and padding are -100."""
    count = (targets != -100).sum()
    return model.loss(inputs, targets) * count, count


def fine_tune(pretrained: Path, out: Path, pairs: Sequence[Pair], steps: int, rate: float, device: str) -> None:
    """Train the weights of a run on pairs, of which every fifth is held out, and print some of its answers.

    The new run has the recipe and the tokenizer of the first one, so that all commands for runs can open it.
    """
    from nnscratch import AdamW
    from trainer import TrainConfig, Trainer, schedules

    model, tokenizer, _ = load(pretrained, "cpu")
    held_out = pairs[::5]
    seen = make_examples([pair for number, pair in enumerate(pairs) if number % 5], tokenizer)
    tested = make_examples(held_out, tokenizer)
    longest = max(seen.lengths.max(), tested.lengths.max())
    Trainer(
        model,
        AdamW(model.parameters(), lr=rate),
        answer_loss,
        seen,
        tested,
        TrainConfig(
            steps=steps,
            batch_size=16,
            context_length=min(model.config.context_length, int(longest) - 1),  # no more padding than needed
            sampling="shuffled",
            eval_interval=max(1, steps // 5),
            device=device,
        ),
        schedules.cosine(rate, steps=steps, warmup_steps=steps // 10),
        out,
        recorded=recorded_of(pretrained, "tinystories"),
    ).fit()
    shutil.copytree(tokenizer_of(pretrained), out / TOKENIZER_FOLDER, dirs_exist_ok=True)
    model, tokenizer, _ = load(out, device)
    written = [write_story(model, tokenizer, pair.prompt, Sampling(temperature=0)) for pair in held_out]
    right = sum(text == pair.prompt + pair.answer for text, pair in zip(written, held_out, strict=True))
    print("\n".join(written[:5]))
    print(f"{right} of {len(held_out)} answers that were held out are right, word for word")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune as the arguments say, by default those of the process."""
    parser = argparse.ArgumentParser(description="Fine-tune a model of tinystories on prompts with answers.")
    parser.add_argument("pretrained", type=Path, help="run directory of the trained model")
    parser.add_argument("--out", type=Path, default=Path("runs/answers"), help="run directory (default: %(default)s)")
    parser.add_argument("--pairs", type=Path, help="JSON lines with prompt and answer (default: questions on animals)")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    options = parser.parse_args(arguments)
    pairs = animal_pairs() if options.pairs is None else read_pairs(options.pairs)
    fine_tune(options.pretrained, options.out, pairs, options.steps, options.rate, options.device)


if __name__ == "__main__":
    main()
