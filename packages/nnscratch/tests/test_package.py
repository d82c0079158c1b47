import subprocess
import sys

import pytest

import nnscratch


def test_importing_the_package_does_not_import_torch():
    code = "import sys, nnscratch; dir(nnscratch); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", nnscratch.__all__)
def test_public_names_are_documented(name):
    value = getattr(nnscratch, name)
    assert value is getattr(nnscratch, name)
    assert name in dir(nnscratch)
    assert name == "__version__" or value.__doc__


def test_submodules_are_reachable_after_a_plain_import():
    code = "import nnscratch as n; print(n.accounting.presets, n.generation.decoding, n.optimizers.muon, n.functional)"
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_star_import_gives_all_public_names():
    names = {}
    exec("from nnscratch import *", names)
    assert set(nnscratch.__all__) <= names.keys()
    assert {"AdamW", "TransformerLM", "generate", "linear_cross_entropy"} < names.keys()


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Adam'; it has AdamW, CausalSelfAttention"):
        nnscratch.Adam  # noqa: B018
