"""Measure one library at one task, in this process, and print the result as JSON in the last line.

    python worker.py library=… task=array|list|file|train|specials mode=start|steady text=FILE threads=N vocabulary=NAME
                     vocab_size=N alphabet=N other=FILE folder=FOLDER

"start" counts from the first line of this file: import, load the vocabulary, read the text, encode; or import and
train. "steady" comes after the same work on another text with another tokenizer. Its first call ("cold") uses a new
tokenizer; later calls ("warm") use the same tokenizer and text. Before them the text has been read, and CPython has
cached its UTF-8.
"""

# Nothing is imported before the clock starts, nor anything that a library may need.
# ruff: noqa: E402, PTH108, PTH110, PTH118, PTH123

import time

BEGIN = time.perf_counter()

import os
import sys

SLOW_SECONDS = 5.0
"""A library that takes longer is called twice, not three times."""


def seconds_of(call):
    """Return the seconds of a call and what it returned."""
    begin = time.perf_counter()
    made = call()
    return time.perf_counter() - begin, made


def cache_utf8(text):
    """Let CPython cache the UTF-8 of a string, which libraries that take bytes get ready-made."""
    import ctypes

    function = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
    function.restype = ctypes.c_void_p
    function(ctypes.py_object(text), None)


def ids_of(made):
    """Return ids in any of the forms of `libraries` as an array (uint32)."""
    import numpy as np

    if isinstance(made, str):
        ids = np.load(made)
        os.unlink(made)
        return ids.astype(np.uint32)
    if hasattr(made, "layout"):  # of awkward
        import awkward

        return np.asarray(awkward.flatten(made), dtype=np.uint32)
    if isinstance(made, list) and len(made) and not isinstance(made[0], int):
        made = np.concatenate([np.asarray(part, dtype=np.uint32) for part in made])
    return np.asarray(made, dtype=np.uint32)


def encode(library, task, mode, options, threads):
    """Return the seconds of encoding, and the ids."""
    from libraries import ENCODERS, TAKE_BYTES, read, read_bytes

    load, vocabulary, path = ENCODERS[library], options["vocabulary"], options["text"]
    takes_bytes = task == "array" and library in TAKE_BYTES
    given = str if task == "file" else read_bytes if takes_bytes else read
    if mode == "start":
        call = load(task, vocabulary, threads)
        made = call(given(path))
        return {"start": [time.perf_counter() - BEGIN]}, made
    load(task, vocabulary, threads)(given(options["other"]))
    call = load(task, vocabulary, threads)
    text = given(path)
    if given is read:
        cache_utf8(text)
    cold, made = seconds_of(lambda: call(text))
    warm = []
    while len(warm) < (2 if cold < SLOW_SECONDS else 1):
        del made
        seconds, made = seconds_of(lambda: call(text))
        warm.append(seconds)
    return {"cold": [cold], "warm": warm}, made


def train(library, mode, options, threads):
    """Return the seconds of training, and the call that gives the tokens learned."""
    from libraries import TRAINERS

    call, size, alphabet = TRAINERS[library], int(options["vocab_size"]), int(options["alphabet"])
    if mode == "start":
        made = call(options["text"], size, threads, alphabet)
        return {"start": [time.perf_counter() - BEGIN]}, made
    call(options["other"], 1000, threads, alphabet)
    seconds, made = seconds_of(lambda: call(options["text"], size, threads, alphabet))
    return {"warm": [seconds]}, made


def specials(library, options):
    """Return the seconds of each step with thousands of special tokens, and the ids."""
    from libraries import SPECIALS, read

    names = read(f"{options['text']}.specials").split("\n")
    steps = ["load", "encode"] if library == "tokenizers-rc" else ["train", "save", "load", "encode"]
    __import__("bpe" if library == "bpe" else "tokenizers")
    seconds, made = {}, None
    for step in steps:
        begin = time.perf_counter()
        done = SPECIALS[library](step, options["text"], int(options["vocab_size"]), names, made)
        seconds[step] = [time.perf_counter() - begin]
        made = made if step == "save" else done
    return seconds, made


def peak_megabytes():
    """Return the peak memory of this process in MB; 0 where the system does not report it in /proc.

    `resource` would include what the parent process held when it started this one.
    """
    if not os.path.exists("/proc/self/status"):
        return 0.0
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024 / 1e6


def main():
    """Run one measurement."""
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    library, task, mode, threads = options["library"], options["task"], options["mode"], int(options["threads"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    if task == "train":
        seconds, made = train(library, mode, options, threads)
    elif task == "specials":
        seconds, made = specials(library, options)
    else:
        seconds, made = encode(library, task, mode, options, threads)
    result = {"seconds": seconds, "peak_mb": peak_megabytes(), "compiler": "numba" in sys.modules}
    import json

    if task == "train":
        result["learned"] = [token.hex() for token in made()]
    else:
        from hashlib import sha256

        import numpy as np

        ids = ids_of(made)
        if task != "specials":  # some libraries get documents, without the separators
            ids = ids[ids != int(options["separator"])]
        result |= {"tokens": len(ids), "digest": sha256(ids.tobytes()).hexdigest()}
        saved = os.path.join(options["folder"], result["digest"] + ".npy")
        if not os.path.exists(saved):
            np.save(saved, ids)
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
