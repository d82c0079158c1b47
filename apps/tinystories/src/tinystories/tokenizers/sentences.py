"""What the measurements of tokenizers say, in sentences; a difference within its spread is called none."""

from itertools import combinations
from operator import itemgetter

from tinystories.tokenizers.findings import Findings, longest_tokens
from tinystories.tokenizers.measurements import LEAST_DOCUMENTS, PILE_BYTES, Ratio, Speed, tokens_in_common
from tinystories.tokenizers.tables import duration, shown

PYTHON_BYTES = 1 << 20
"""Texts below this size are encoded by bpe in plain Python."""


def setting(findings: Findings) -> str:
    """On what and when it was measured."""
    machine = findings.machine
    load = machine["load_average"]
    busy = "" if load is None else f" Load average when it began: {load:g}."
    return (
        f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, bpe {machine['bpe']}, numba "
        f"{machine['numba']}, numpy {machine['numpy']}; begun {machine['begun'][:16].replace('T', ' ')} UTC.{busy}"
    )


def about_compression(findings: Findings) -> list[str]:
    """How far each corpus is compressed by its own tokenizers and by others."""
    sentences = []
    for corpus in findings.corpora:
        parts = []
        for own in findings.of_corpus(corpus.name):
            found = findings.compression(own.name, corpus.name)
            parts.append(
                f"`{own.name}` has {found.sample_mean:.2f} ± {found.sample_deviation:.2f} bytes per token on the "
                f"{findings.documents} documents drawn, {found.whole:.2f} on all {len(found.bytes):,}."
            )
        smallest, *larger = sorted(findings.of_corpus(corpus.name), key=lambda tokenizer: tokenizer.size)
        for tokenizer in larger:
            ratio = findings.tokens_against(tokenizer.name, smallest.name, corpus.name)
            parts.append(_comparison(tokenizer.name, ratio, smallest.name))
        for tokenizer in findings.tokenizers:
            if tokenizer.corpus != corpus.name:
                reference = findings.own(tokenizer, corpus.name)
                ratio = findings.tokens_against(tokenizer.name, reference.name, corpus.name)
                parts.append(_comparison(tokenizer.name, ratio, reference.name))
        sentences.append(f"**{corpus.name}**: " + " ".join(parts))
    return sentences


def about_training(findings: Findings) -> list[str]:
    """Where the time goes."""
    sentences = []
    for tokenizer in findings.tokenizers:
        if (training := tokenizer.training) is not None:
            larger, seconds = max(
                ("pre-tokenising", training.seconds_pretokenising),
                ("merging", training.seconds_merging),
                key=itemgetter(1),
            )
            load = "" if training.load_average is None else f", at a load average of {training.load_average:g}"
            sentence = (
                f"`{tokenizer.name}`: {seconds / training.seconds:.0%} of the time went into {larger}; measured once, "
                f"{training.measured[:16].replace('T', ' ')} UTC, with {training.threads} threads on "
                f"{training.processor}{load}."
            )
            if tokenizer.tokenizer.vocab_size < training.vocab_size:
                sentence += (
                    f" No pair was left to merge at {tokenizer.tokenizer.vocab_size:,} entries, before the "
                    f"{training.vocab_size:,} that were asked for."
                )
            sentences.append(sentence)
    return sentences


def about_vocabularies(findings: Findings) -> list[str]:
    """The longest token of each, and how much vocabularies of one size share."""
    sentences = []
    for tokenizer in findings.tokenizers:
        if longest := longest_tokens(tokenizer):
            token = longest[0][1]
            sentences.append(f"The longest token of `{tokenizer.name}` is {shown(token)} ({len(token)} bytes).")
    for one, other in combinations(findings.tokenizers, 2):
        if one.size == other.size:
            common = tokens_in_common(one.tokenizer, other.tokenizer)
            share = common / min(one.tokenizer.vocab_size, other.tokenizer.vocab_size)
            sentences.append(f"`{one.name}` and `{other.name}` have {common:,} tokens in common ({share:.0%}).")
    return sentences


def about_ids(findings: Findings) -> list[str]:
    """Why 16 bits hold the ids, or do not."""
    sizes = {tokenizer.name: tokenizer.tokenizer.vocab_size for tokenizer in findings.tokenizers}
    fitting = [size for size in sizes.values() if size <= 1 << 16]
    sentences = []
    if fitting:
        sentences.append(
            f"An unsigned integer of 16 bits holds 0 to 65,535, and the largest id here is {max(fitting) - 1:,}: token "
            "files are uint16, two bytes per token, half of what uint32 takes, and none of their range is negative."
        )
    for name, size in sizes.items():
        if size > 1 << 16:
            sentences.append(f"`{name}` has ids up to {size - 1:,}, which need uint32: four bytes per token.")
    for corpus in findings.corpora:
        tokenizer = findings.of_corpus(corpus.name)[0]
        found = findings.compression(tokenizer.name, corpus.name)
        width = 2 if tokenizer.tokenizer.vocab_size <= 1 << 16 else 4
        sentences.append(
            f"The validation documents of {corpus.name}, {sum(found.bytes) / 1e6:,.2f} MB, become "
            f"{width * sum(found.tokens) / 1e6:,.2f} MB with `{tokenizer.name}`."
        )
    return sentences


def about_speed(findings: Findings) -> list[str]:
    """Rates in words, where they can be told apart."""
    own = [speed for speed in findings.speeds if _is_own(findings, speed)]
    sentences = [_pile(speed) + _threads(speed) for speed in own]
    if all(speed.round_trip for speed in findings.speeds):
        sentences.append("Decoding gave every text back, byte for byte.")
    sentences += [
        f"Decoding with `{speed.tokenizer}` did not give the text of {speed.corpus} back: it changes text."
        for speed in findings.speeds
        if not speed.round_trip
    ]
    small = sorted({speed.corpus for speed in findings.speeds if speed.text_bytes < PYTHON_BYTES})
    if small:
        sentences.append(
            f"The text of {', '.join(small)} is below 1 MB, which bpe encodes in plain Python rather than load its "
            "kernels: the rates, and the time for The Pile, are not those of large texts."
        )
    return sentences


def _pile(speed: Speed) -> str:
    warm = duration(PILE_BYTES / speed.rate(speed.encode_all_threads))
    cold = duration(PILE_BYTES / speed.rate([speed.first_call]))
    return (
        f"`{speed.tokenizer}` on {speed.corpus}: at the median rate The Pile, 825 GB, takes {warm} on this machine, "
        f"and {cold} at the rate of the first call, to which text that always brings new words is nearer."
    )


def _threads(speed: Speed) -> str:
    if speed.threads == 1:
        return ""
    slowest, _ = speed.rate_range(speed.encode_all_threads)
    _, fastest_of_one = speed.rate_range(speed.encode_one_thread)
    times = speed.rate(speed.encode_all_threads) / speed.rate(speed.encode_one_thread)
    if slowest > fastest_of_one:
        return f" {speed.threads} threads are {times:.1f} times as fast as one."
    return f" {speed.threads} threads and one cannot be told apart: the ranges of their calls overlap."


def _comparison(name: str, ratio: Ratio, reference: str) -> str:
    """What the ratio of tokens says of two tokenizers: a number only where it is told apart from none."""
    if ratio.half_width is None:
        return f"`{name}` and `{reference}` are not compared: fewer than {LEAST_DOCUMENTS} documents give no interval."
    percent, half = 100 * (ratio.value - 1), 100 * ratio.half_width
    digits = 1 if half >= 0.1 else 2
    if not ratio.differs_from_one:
        difference = f"{percent:+.{digits}f} % ± {half:.{digits}f}"
        return f"`{name}` and `{reference}` cannot be told apart: the difference in tokens is {difference}."
    more = "more" if percent > 0 else "fewer"
    return f"`{name}` needs {abs(percent):.{digits}f} % ± {half:.{digits}f} {more} tokens than `{reference}`."


def _is_own(findings: Findings, speed: Speed) -> bool:
    return any(tokenizer.name == speed.tokenizer for tokenizer in findings.of_corpus(speed.corpus))
