"""A small text, and settings small enough to learn from it within seconds."""

TINY = (
    "vocab_size=300",
    "context_length=16",
    "d_model=16",
    "num_layers=1",
    "num_heads=2",
    "d_ff=40",
    "batch_size=2",
    "evaluations=2",
    "evaluated_windows=5",
)


def write_articles(path, number=300):
    articles = [f"The town of Number {i} opened its {i % 7}th bridge on day {i * 3}." for i in range(number)]
    path.write_text("".join(f"{article}\n<|endoftext|>\n" for article in articles), "utf-8")
    return path
