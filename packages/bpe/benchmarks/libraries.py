"""Calls of each library: encoders, trainers, and tokenizers with many special tokens; `worker.py` times them.

Nothing is imported before the call that needs it, because the clock counts imports. Threads of Rust's libraries follow
RAYON_NUM_THREADS. Vocabularies are tokenizer.json files, except that `tiktoken` gets a dictionary of ranks, made from
the same file or from a .tiktoken file, and `quicktok` brings its own files of cl100k_base and o200k_base.
"""

# pathlib and typing are not imported here, because the clock would count that.
# ruff: noqa: ANN202, PTH119, PTH123

import os

EOT = "<|endoftext|>"
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
PATTERNS = {  # as in tiktoken, whose possessive quantifiers are the fastest for it
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "cl100k_base": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"""
    r"""\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
    "o200k_base": "|".join(
        [
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""",
            r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
            r"""\s*[\r\n]+""",
            r"""\s+(?!\S)""",
            r"""\s+""",
        ]
    ),
}

SPECIAL_IDS = {
    "cl100k_base": {
        EOT: 100_257,
        "<|fim_prefix|>": 100_258,
        "<|fim_middle|>": 100_259,
        "<|fim_suffix|>": 100_260,
        "<|endofprompt|>": 100_276,
    },
    "o200k_base": {EOT: 199_999, "<|endofprompt|>": 200_018},
}


def read(path):
    """Return a text with its line ends unchanged."""
    return read_bytes(path).decode("utf-8")


def read_bytes(path):
    """Return the bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def byte_of_character():
    """Return the byte of each character of GPT-2's printable alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def tokens_of(merges):
    """Return the tokens made by merges in GPT-2's printable alphabet."""
    table = byte_of_character()
    return [bytes(table[character] for character in left + right) for left, right in merges]


# --- encoding: each function loads a vocabulary and returns the call to be timed, which takes a text, or for the task
# "file" a path, and returns ids in any form, or the path of a .npy file ----------------------------------------


def encode_bpe(task, vocabulary, threads):
    """This package."""
    import bpe

    tokenizer = bpe.Tokenizer.from_huggingface(f"{vocabulary}.json")
    if task == "file":

        def encode_file(path):
            tokenizer.encode_file(path, f"{path}.bpe.npy", threads)
            return f"{path}.bpe.npy"

        return encode_file
    if task == "list":
        return tokenizer.encode  # which chooses its threads itself, within the cores of the process
    return lambda text: tokenizer.encode_to_numpy(text, threads=threads)


def encode_gigatoken(task, vocabulary, threads):
    """`gigatoken` with one text; files are flushed to the disk, like those of this package."""
    import gigatoken

    tokenizer = gigatoken.Tokenizer(f"{vocabulary}.json")
    if task == "file":
        import numpy as np

        def encode_file(path):
            ids = np.asarray(tokenizer.encode_files(gigatoken.TextFileSource([path]))[0])
            with open(f"{path}.gigatoken.npy", "wb") as file:
                np.save(file, ids.astype(np.uint16))
                file.flush()
                os.fsync(file.fileno())
            return f"{path}.gigatoken.npy"

        return encode_file
    if task == "list":
        return lambda text: tokenizer.encode_batch_list([text])[0]
    return tokenizer.encode


def encode_gigatoken_batch(task, vocabulary, threads):
    """`gigatoken` with documents of one bytes object, which it encodes in parallel; separators get no id."""
    import gigatoken

    tokenizer = gigatoken.Tokenizer(f"{vocabulary}.json")
    return lambda text: tokenizer.encode_batch(gigatoken.BytesSource(text, separator=EOT))


def encode_tiktoken(task, vocabulary, threads):
    """`tiktoken` with one text on one thread; with documents on several, to lists."""
    import tiktoken

    name = os.path.basename(vocabulary)
    if name in SPECIAL_IDS:
        import base64

        with open(f"{vocabulary}.tiktoken", "rb") as file:
            ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, file)}
        special_ids = SPECIAL_IDS[name]
    else:
        import json

        table = byte_of_character()
        ids = json.loads(read(f"{vocabulary}.json"))["model"]["vocab"]
        special_ids = {EOT: ids.pop(EOT)}
        ranks = {bytes(table[character] for character in token): id_ for token, id_ in ids.items()}
    encoding = tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens=special_ids)
    if threads > 1:
        return lambda text: encoding.encode_batch(text.split(EOT), num_threads=threads, allowed_special="all")
    call = encoding.encode if task == "list" else encoding.encode_to_numpy
    return lambda text: call(text, allowed_special="all")


def encode_tokenizers(task, vocabulary, threads):
    """`tokenizers` 0.23 with documents, to lists; one long text would take it longer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{vocabulary}.json")
    return lambda text: [encoding.ids for encoding in tokenizer.encode_batch_fast(text.split(EOT))]


def encode_tokenizers_rc(task, vocabulary, threads):
    """`tokenizers` 1.0 with documents, which takes it less time than one long text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{vocabulary}.json")
    attribute = "ids" if task == "list" else "ids_array"
    return lambda text: [getattr(encoding, attribute) for encoding in tokenizer.encode_batch(text.split(EOT))]


def encode_iree(task, vocabulary, threads):
    """`iree-tokenizer` with one text."""
    from iree.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(f"{vocabulary}.json")
    return tokenizer.encode if task == "list" else tokenizer.encode_to_array


def encode_quicktok(task, vocabulary, threads):
    """`quicktok-v1` with documents, 20 times as fast as one long text; it has no scanner for GPT-2's pattern."""
    import quicktok

    encoding = quicktok.get_encoding(os.path.basename(vocabulary))
    return lambda text: encoding.encode_batch(text.split(EOT), threads, True)[0]


# --- training: path of a text, size of the vocabulary, threads, distinct bytes of the text; all learn vocab_size - 257
# merges. Each function trains and returns a call that gives the tokens learned, after the clock has stopped ----


def train_bpe(path, vocab_size, threads, alphabet):
    """This package, which reads the file itself."""
    import bpe

    tokenizer = bpe.train(path, vocab_size, [EOT], threads=threads)
    return lambda: [left + right for left, right in tokenizer.merges]


def train_gigatoken(path, vocab_size, threads, alphabet):
    """`gigatoken`, which reads the file itself."""
    import gigatoken

    source = gigatoken.TextFileSource([path], separator=EOT)
    merges = gigatoken.train_bpe(source, vocab_size, [EOT])[1]
    return lambda: [left + right for left, right in merges]


def train_gigabpe(path, vocab_size, threads, alphabet):
    """`gigabpe`, which knows no separators, so its file has none; its alphabet is the bytes that occur."""
    import gigabpe

    _, merges = gigabpe.train_bpe(
        [f"{path}.plain"],
        vocab_size=vocab_size - 256 + alphabet,
        special_tokens=[EOT],
        pretokenizer="bytelevel",
        threads=threads,
    )
    return lambda: tokens_of(merges)


def train_rustbpe(path, vocab_size, threads, alphabet):
    """`rustbpe`, which takes documents and knows no special tokens."""
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(read(path).split(EOT), vocab_size - 1, pattern=GPT2)
    return lambda: [bytes(token) for token, rank in tokenizer.get_mergeable_ranks() if rank >= 256]


def trained_by_tokenizers(path, vocab_size, special_tokens):
    """Return a tokenizer of `tokenizers`, trained on documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read(path).split(EOT), trainer)
    return tokenizer


def train_tokenizers(path, vocab_size, threads, alphabet):
    """`tokenizers` 0.23, which takes documents; 1.0 has no training."""
    tokenizer = trained_by_tokenizers(path, vocab_size, [EOT])

    def tokens():
        import json

        return tokens_of(json.loads(tokenizer.to_str())["model"]["merges"])

    return tokens


# --- special tokens: train with them, save; then load the same tokenizer.json and encode a text full of them --


def specials_bpe(step, path, vocab_size, special_tokens, made):
    """This package."""
    import bpe

    if step == "train":
        return bpe.train(path, vocab_size, special_tokens)
    if step == "save":
        return made.save_huggingface(f"{path}.bpe.json")
    if step == "load":
        return bpe.Tokenizer.from_huggingface(f"{path}.json")
    return made.encode(read(path))


def specials_tokenizers(step, path, vocab_size, special_tokens, made):
    """`tokenizers`; 1.0 neither trains nor saves."""
    from tokenizers import Tokenizer

    if step == "train":
        return trained_by_tokenizers(path, vocab_size, special_tokens)
    if step == "save":
        return made.save(f"{path}.tokenizers.json")
    if step == "load":
        return Tokenizer.from_file(f"{path}.json")
    return made.encode(read(path)).ids


TAKE_BYTES = ["bpe", "gigatoken", "gigatoken-batch"]
"""Encoders that may be given the bytes of a file instead of a string, for arrays."""
ENCODERS = {
    "bpe": encode_bpe,
    "gigatoken": encode_gigatoken,
    "gigatoken-batch": encode_gigatoken_batch,
    "tokenizers-rc": encode_tokenizers_rc,
    "iree-tokenizer": encode_iree,
    "quicktok-v1": encode_quicktok,
    "tiktoken": encode_tiktoken,
    "tokenizers": encode_tokenizers,
}
TRAINERS = {
    "bpe": train_bpe,
    "gigabpe": train_gigabpe,
    "gigatoken": train_gigatoken,
    "rustbpe": train_rustbpe,
    "tokenizers": train_tokenizers,
}
SPECIALS = {"bpe": specials_bpe, "tokenizers-rc": specials_tokenizers, "tokenizers": specials_tokenizers}
