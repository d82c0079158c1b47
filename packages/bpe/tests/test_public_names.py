"""Public names and submodules of the package, imported at their first use, and its import time."""

import pytest
from helpers import CORPUS, run_python

import bpe


def test_import_and_help_load_no_heavy_library():
    heavy = "{'datatrove', 'numba', 'numpy', 'regex', 'torch'} & set(sys.modules)"
    result = run_python("-c", f"import sys, bpe; bpe.Tokenizer; print({heavy})")
    assert (result.stdout, result.stderr) == ("set()\n", "")
    code = f"import sys, bpe.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: print({heavy})"
    result = run_python("-c", code)
    assert result.stdout.endswith("set()\n")


def test_little_text_is_handled_without_numba(tmp_path):
    (tmp_path / "text.txt").write_text(CORPUS, "utf-8")
    code = "import sys, bpe; t = bpe.train(sys.argv[1], 500); t.encode('the cat'); print('numba' in sys.modules)"
    assert run_python("-c", code, str(tmp_path / "text.txt")).stdout == "False\n"


def test_public_names():
    assert set(bpe.__all__) <= set(dir(bpe))
    for name in bpe.__all__:
        assert getattr(bpe, name) is not None
    with pytest.raises(AttributeError, match="module 'bpe' has no attribute 'tokenise'"):
        bpe.tokenise  # noqa: B018


def test_submodules_are_found_after_a_plain_import():
    code = "import bpe; print(bpe.reference.learn_merges({b'ab': 1}, 1), bpe.text.GPT2_PATTERN == bpe.GPT2_PATTERN)"
    result = run_python("-c", code)
    assert (result.stdout, result.stderr) == ("[(b'a', b'b')] True\n", "")


def test_a_star_import_brings_the_public_names():
    result = run_python("-c", "from bpe import *; print(Tokenizer.__name__, 'annotations' in globals())")
    assert (result.stdout, result.stderr) == ("Tokenizer False\n", "")
