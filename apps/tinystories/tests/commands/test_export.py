"""Exported models, opened by the programs they are written for."""

import json

import pytest
import torch

from bpe import Tokenizer
from nnscratch import TransformerLM
from tinystories.run import main
from tinystories.writing import load

transformers = pytest.importorskip("transformers")


def test_transformers_opens_it_and_computes_the_same(trained, tmp_path, capsys):
    out = tmp_path / "exported"
    assert main(["export", str(trained), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    ours, tokenizer, _ = load(trained, "cpu")
    ids = tokenizer.encode("Mia had 3 red balls.")
    assert their_tokenizer.encode("Mia had 3 red balls.") == ids
    batch = torch.tensor([ids[:16]])
    with torch.no_grad():
        assert torch.allclose(theirs(batch).logits, ours(batch), atol=1e-4)


def test_gguf_is_one_file(trained, tmp_path):
    gguf = pytest.importorskip("gguf")
    out = tmp_path / "model.gguf"
    assert main(["export", str(trained), str(out), "--format", "gguf"]) == 0
    names = {tensor.name for tensor in gguf.GGUFReader(out).tensors}
    assert {"token_embd.weight", "output.weight", "blk.1.ffn_gate.weight"} <= names


def test_native_is_a_directory_of_save_pretrained(trained, tmp_path, capsys):
    assert main(["export", str(trained), str(tmp_path / "out"), "--format", "native"]) == 0
    assert "TransformerLM.from_pretrained(" in capsys.readouterr().out
    ours, tokenizer, _ = load(trained, "cpu")
    found = TransformerLM.from_pretrained(tmp_path / "out")
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert Tokenizer.from_pretrained(tmp_path / "out").sha256 == tokenizer.sha256


def test_other_architectures_than_llama_are_refused(flags, tmp_path, capsys, quick):
    run = tmp_path / "nope"
    assert main(["train", "--out", str(run), "--variant", "nope", *flags]) == 0
    out = tmp_path / "exported"
    assert main(["export", str(run), str(out)]) == 2
    assert "position" in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_tokenizer_is_named(run, tmp_path, capsys):
    (run / "tokenizer").rename(tmp_path / "moved")
    assert main(["export", str(run), str(tmp_path / "exported")]) == 2
    assert f"{run} lacks its tokenizer: expected the folder 'tokenizer' in it" in capsys.readouterr().err


@pytest.mark.parametrize("format_name", ["huggingface", "gguf"])
def test_a_run_is_not_damaged_by_its_export(run, format_name, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["export", str(run), str(run), "--format", format_name]) == 2
    assert "holds a training run, which an export would damage" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_of_another_app_is_refused(run, flags, tmp_path, capsys):
    """A11: the message names the other app's command."""
    config = json.loads((run / "config.json").read_text("utf-8"))
    config["recorded"]["recipe"]["batch_ramp"] = []
    (run / "config.json").write_text(json.dumps(config))
    assert main(["export", str(run), str(tmp_path / "out")]) == 2
    assert "has a recipe of another app or version" in capsys.readouterr().err
    config["model"]["class"] = "SpeedrunLM"
    (run / "config.json").write_text(json.dumps(config))
    assert main(["generate", str(run)]) == 2
    message = f"{run} is a run of owt_leaderboard, not of tinystories: use that app's commands, such as python -m "
    assert f"{message}owt_leaderboard.generate {run}" in capsys.readouterr().err
    assert main(["train", "--out", str(run), *flags]) == 2
    assert message in capsys.readouterr().err
    (run / "config.json").write_text('{"model": {}}')
    assert main(["generate", str(run)]) == 2
    assert "is no run of tinystories" in capsys.readouterr().err
