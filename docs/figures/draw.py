"""Draw the pictures of the pages in docs/learn from measured numbers: `python docs/figures/draw.py`.

The numbers are read from the tables of docs/experiments.md and docs/benchmarks.md, from the runs of the ablations, and
from a program whose output a test compares. The pictures have no background and grey text, legible on white and black.
"""

import csv
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "figures"
ABLATIONS = ROOT / "apps" / "tinystories" / "results" / "ablations-tinystories" / "runs.csv"
ANSWERS = ROOT / "apps" / "tinystories" / "docs" / "course-answers.md"

GREY, COLOURS = "#80868e", ("#2f7ed8", "#e07b39", "#3a9d6e", "#a35bc4")
WIDTH, LABELS, ROW, MARGIN = 480, 185, 26, 16  # in pixels; readable when the picture shrinks to a phone's 380

Rows = Sequence[tuple[str, Sequence[float]]]


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of each row of a table below docs/.

    Args:
        page: Name of the page.
        header: Beginning of the table's first line.
    """
    lines = iter((ROOT / "docs" / page).read_text("utf-8").splitlines())
    next(line for line in lines if line.startswith(header))
    next(lines)
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def number(cell: str) -> float:
    """Return the first number of a cell such as "3.1641 ± 0.0188" or "1,208"."""
    found = re.search(r"-?[\d,]*\.?\d+", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


def bits_per_byte(variants: Mapping[str, str]) -> Iterator[tuple[str, list[float]]]:
    """Yield label and bits per byte of the seeds of ablations on TinyStories; diverged ones are named in the label."""
    with ABLATIONS.open(encoding="utf-8", newline="") as file:
        runs = list(csv.DictReader(file))
    for variant, label in variants.items():
        found = [run["bits_per_byte"] for run in runs if run["group"] == variant]
        finished = [float(value) for value in found if value]
        missing = len(found) - len(finished)
        yield label + (f" ({missing} of {len(found)} diverged)" if missing else ""), finished


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = GREY) -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def svg(height: float, title: str, shapes: Sequence[str]) -> str:
    """Return a picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">\n<title>{escape(title)}</title>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers within a range."""
    step = 10.0 ** math.floor(math.log10(high - low))
    while (high - low) / step < 3:
        step /= 2
    return [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def dots(title: str, unit: str, rows: Rows) -> str:
    """Return a picture with one dot per seed and a stroke at each mean."""
    values = [value for _, seeds in rows for value in seeds]
    spread = max(values) - min(values)
    low, high = min(values) - 0.06 * spread, max(values) + 0.06 * spread
    at = lambda value: LABELS + (value - low) / (high - low) * (WIDTH - LABELS - MARGIN)  # noqa: E731
    bottom = MARGIN + ROW * len(rows)
    shapes = []
    for tick in ticks(low, high):
        shapes.append(
            f'<path d="M{at(tick):.1f} {MARGIN}V{bottom}" stroke="{GREY}" stroke-opacity="0.3"/>'
            + text(at(tick), bottom + 18, f"{tick:.4g}", "middle")
        )
    shapes.append(text(WIDTH - MARGIN, bottom + 36, unit, "end"))
    for index, (label, seeds) in enumerate(rows):
        y = MARGIN + ROW * (index + 0.5)
        colour = GREY if index == 0 else COLOURS[0]
        shapes.append(text(LABELS - 12, y + 4, label, "end"))
        mean = at(sum(seeds) / len(seeds))
        if len(seeds) > 1:
            shapes.append(f'<path d="M{mean:.1f} {y - 9:.1f}v18" stroke="{colour}" stroke-width="2"/>')
        shapes += [
            f'<circle cx="{at(value):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" fill-opacity="0.75"/>'
            for value in seeds
        ]
    return svg(bottom + 44, title, shapes)


def bars(title: str, unit: str, rows: Rows, series: Sequence[str] = ("",)) -> str:
    """Return a picture with a group of bars per row, one bar per series."""
    longest = max(value for _, values in rows for value in values)
    thick = 16  # as high as a line of text
    shapes, y = [], float(MARGIN)
    for label, values in rows:
        shapes.append(text(LABELS - 12, y + thick * len(series) / 2 + 4, label, "end"))
        for index, value in enumerate(values):
            length = value / longest * (WIDTH - LABELS - 70)
            shapes.append(
                f'<rect x="{LABELS}" y="{y:.1f}" width="{length:.1f}" height="{thick - 2}" fill="{COLOURS[index]}"/>'
                + text(LABELS + length + 6, y + thick / 2 + 4, f"{value:.3f}" if longest < 10 else f"{value:,.4g}")
            )
            y += thick
        y += ROW - 16
    has_names = len(series) > 1  # which leave no room at the right
    for index, name in enumerate(series if has_names else ()):
        shapes.append(text(LABELS + 84 * index, y + 10, name, colour=COLOURS[index]))
    shapes.append(text(LABELS - 12 if has_names else WIDTH - MARGIN, y + 10, unit, "end"))
    return svg(y + 20, title, shapes)


def lines(title: str, across: str, up: str, rows: Rows, bottom: float, top: float) -> str:
    """Return curves with a logarithmic axis from `bottom` to `top`; what lies outside is cut off."""
    left, right, height = 64, WIDTH - 90, 210
    count = max(len(values) for _, values in rows)
    at_x = lambda index: left + index / (count - 1) * (right - left)  # noqa: E731
    share = lambda value: (math.log10(value) - math.log10(bottom)) / math.log10(top / bottom)  # noqa: E731
    at_y = lambda value: MARGIN + (1 - share(value)) * height  # noqa: E731
    shapes = [
        f'<clipPath id="plot"><rect x="{left}" y="{MARGIN}" width="{right - left}" height="{height}"/></clipPath>'
    ]
    for exponent in range(math.ceil(math.log10(bottom)), math.floor(math.log10(top)) + 1):
        y = at_y(10.0**exponent)
        shapes.append(
            f'<path d="M{left} {y:.1f}H{right}" stroke="{GREY}" stroke-opacity="0.3"/>'
            + text(left - 6, y + 4, f"{10.0**exponent:,g}", "end")
        )
    shapes += [text(at_x(index), MARGIN + height + 18, str(index), "middle") for index in range(count)]
    shapes += [text(right, MARGIN + height + 36, across, "end"), text(4, MARGIN + height + 36, up)]
    for (label, values), colour in zip(rows, COLOURS, strict=True):
        points = [(at_x(index), at_y(value)) for index, value in enumerate(values) if value > 0]
        path = "L".join(f"{x:.1f} {max(-1e4, min(1e4, y)):.1f}" for x, y in points)
        shapes.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none" clip-path="url(#plot)"/>')
        inside = [(x, y) for x, y in points if MARGIN <= y <= MARGIN + height]
        x, y = inside[-1]
        shapes.append(
            text(
                min(x, right) + 6,
                y + (4 if len(inside) == len(values) else 14 if y < height / 2 else -6),
                label,
                colour=colour,
            )
        )
    return svg(MARGIN + height + 44, title, shapes)


def sgd_losses() -> Rows:
    """Return the losses of the assignment's SGD by rate, as the answers print them."""
    printed = re.findall(r"^ *(\d+): ([\d. e+-]+)$", ANSWERS.read_text("utf-8"), re.MULTILINE)
    return [(f"rate {rate}", [float(loss) for loss in losses.split()]) for rate, losses in printed]


def encodings() -> Rows:
    """Return the sizes of the stories in MB, as the answers name them."""
    found = re.search(
        r"([\d,]+) bytes of real stories become ([\d,]+) in UTF-16 and ([\d,]+)", ANSWERS.read_text("utf-8")
    )
    assert found
    return [
        (name, [number(size) / 1e6]) for name, size in zip(("UTF-8", "UTF-16", "UTF-32"), found.groups(), strict=True)
    ]


def pictures() -> Iterator[tuple[str, str]]:
    """Yield name and content of each picture."""
    for name, title, variants in (
        (
            "feed-forward",
            "Feed-forward networks",
            {"baseline": "SwiGLU", "silu": "SiLU", "relu_squared": "squared ReLU"},
        ),
        (
            "normalization",
            "Norms",
            {
                "baseline": "pre-norm",
                "no_rmsnorm": "none",
                "no_rmsnorm_low_lr": "none, ¼ of the rate",
                "post_norm": "post-norm",
            },
        ),
        ("positions", "Positions", {"baseline": "RoPE", "nope": "none"}),
        ("attention", "Queries and keys", {"baseline": "as they are", "qk_norm": "normalized"}),
        ("transformer", "Embedding and output layer", {"baseline": "two matrices", "tied_embeddings": "one matrix"}),
        (
            "vocabulary",
            "Vocabularies",
            {"baseline": "2,048 entries", "half_vocabulary": "1,024 entries", "double_vocabulary": "4,096 entries"},
        ),
        (
            "optimizers",
            "Optimizers",
            {"baseline": "AdamW", "muon": "Muon and AdamW", "speedrun": "and QK-norm, ReLU²"},
        ),
    ):
        yield name, dots(title, "bits per byte", list(bits_per_byte(variants)))
    yield "encodings", bars("Sizes of one text", "MB", encodings())
    compression = table("experiments.md", "| tokenizer | entries | TinyStories: 10 documents")
    yield (
        "tokenizers",
        bars(
            "Compression",
            "bytes per token",
            [(cells[0], [number(cells[3]), number(cells[6])]) for cells in compression],
            ("TinyStories", "OpenWebText"),
        ),
    )
    step = table("experiments.md", "| self time in a profile of the compiled step")
    parts = [(cells[0].partition(",")[0], [number(cell) for cell in cells[1:]]) for cells in step]
    yield "step", bars("Time of a training step", "ms", parts, ("nnscratch", "torch"))
    minutes = table("experiments.md", "| flags | steps | tokens | validation loss")
    names = ["cpu-quick", "compiled", "twice as wide, compiled", "speedrun", "speedrun, lower rate"]
    rows = [(name, [number(cells[4])]) for name, cells in zip(names, minutes, strict=True)]
    yield "two-minutes", bars("Two minutes of two cores", "bits per byte", rows)
    speeds = [cells for cells in table("benchmarks.md", "| tokens/s | base | small |") if "lengths" not in cells[0]]
    yield "decoding", bars("Generation", "tokens per second", [(cells[0], [number(cells[1])]) for cells in speeds])
    entries = table("experiments.md", "| recipe | seed | M tokens | validation loss | bits per byte | seconds of 600 |")
    recipes = [
        (recipe, [number(cells[4]) for cells in entries if cells[0] == recipe]) for recipe in ("baseline", "speedrun")
    ]
    yield "leaderboard", dots("Ten minutes of two cores", "bits per byte", recipes)
    yield "sgd", lines("SGD", "step", "loss", sgd_losses(), 0.1, 1e5)


def main() -> None:
    """Write all pictures."""
    for name, content in pictures():
        (FIGURES / f"learn-{name}.svg").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
