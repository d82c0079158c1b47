"""The commands that use a trained model: text, exports, and the web page."""

import http.client
import json
import threading
from pathlib import Path

import pytest
import torch
from small_runs import TINY, write_articles

from nnscratch import complete, import_huggingface
from nnscratch.speedrun.language_model import SpeedrunLM
from owt_leaderboard.commands import evaluate, export, fixed_steps, generate, play, train
from owt_leaderboard.run.trained_run import load
from trainer import load_weights


@pytest.fixture(scope="module")
def speedrun(tmp_path_factory):
    """A run of the speedrun, whose architecture is no Llama's."""
    folder = tmp_path_factory.mktemp("speedrun")
    data = ["--dataset", str(write_articles(folder / "articles.txt")), "--data-dir", str(folder / "data")]
    words = ["--steps", "2", "--out", str(folder / "run"), *data, "--device", "cpu", "--set", *TINY]
    assert fixed_steps.main(words) == 0
    return folder / "run"


@pytest.mark.parametrize("recipe", ["run", "speedrun"])
def test_text_is_that_of_the_model(recipe, request, capsys):
    """A11: a run of either recipe writes; a text longer than the context, too."""
    run = request.getfixturevalue(recipe)
    model, tokenizer, _ = load(run, "cpu")
    prompt, settings = "The town", {"temperature": 0.8, "top_p": 0.95, "max_new_tokens": 24}
    texts = [
        prompt + tokenizer.decode([token for token in row if token != tokenizer.eot_id])
        for seed in (3, 4)
        for row in complete(model, [tokenizer.encode(prompt)], **settings, seed=seed, eos_id=tokenizer.eot_id)
    ]
    capsys.readouterr()
    words = [str(run), "--prompt", prompt, "--max-new-tokens", "24", "--seed", "3", "--samples", "2", "--device", "cpu"]
    assert generate.main(words) == 0
    assert capsys.readouterr().out == f"--- 1 of 2\n{texts[0]}\n--- 2 of 2\n{texts[1]}\n"


def test_a_plain_recipe_is_exported_as_a_llama(run, tmp_path, capsys):
    """A11."""
    assert export.main([str(run), str(tmp_path / "exported")]) == 0
    assert f"from_pretrained({str(tmp_path / 'exported')!r})" in capsys.readouterr().out
    model, tokenizer, _ = load(run, "cpu")
    ids = torch.tensor([tokenizer.encode("The town of Number 3")[:16]])
    with torch.no_grad():
        assert torch.allclose(import_huggingface(tmp_path / "exported")(ids), model(ids), atol=1e-5)


@pytest.mark.parametrize("form", ["huggingface", "gguf"])
def test_an_option_that_no_llama_has_is_named(speedrun, tmp_path, form, capsys):
    """A11."""
    capsys.readouterr()
    assert export.main([str(speedrun), str(tmp_path / "exported"), "--format", form]) == 2
    assert "error: ffn='relu_squared' is not a Llama" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("recipe", ["run", "speedrun"])
def test_every_model_has_the_native_format(recipe, request, tmp_path, capsys):
    run, out = request.getfixturevalue(recipe), tmp_path / "exported"
    assert export.main([str(run), str(out), "--format", "native"]) == 0
    assert f"nnscratch.speedrun.language_model.SpeedrunLM.from_pretrained({str(out)!r})" in capsys.readouterr().out
    model, _, _ = load(run, "cpu")
    found = SpeedrunLM.from_pretrained(out)
    assert found.config == model.config
    other = SpeedrunLM(model.config)
    load_weights(other, out)
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
        assert torch.equal(other.state_dict()[name], tensor)


def test_a_run_is_not_damaged_by_its_export(run, capsys):
    for form in ("huggingface", "gguf", "native"):
        assert export.main([str(run), str(run), "--format", form]) == 2
        assert "holds a training run, which an export would damage" in capsys.readouterr().err


def test_the_page_writes_with_the_model(speedrun, monkeypatch, capsys):
    """A11: the server answers with the facts and a text of the run's model."""
    answers = {}

    def serve(server, listener):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            for path, body in (("/model", None), ("/story", {"prompt": "The town", "max_new_tokens": 20, "seed": 3})):
                connection = http.client.HTTPConnection(*listener.getsockname(), timeout=300)
                headers = {"Content-Type": "application/json"}
                connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
                answers[path] = [json.loads(line) for line in connection.getresponse().read().splitlines()]
                connection.close()
        finally:
            server.should_exit = True
            thread.join()

    monkeypatch.setattr("trainer.experiments.playground.server.serve", serve)
    assert play.main([str(speedrun), "--port", "0", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert generate.main([str(speedrun), "--prompt", "The town", "--max-new-tokens", "20", "--seed", "3"]) == 0
    written = "".join(line["token"]["text"] for line in answers["/story"][:-1])
    assert capsys.readouterr().out == f"The town{written}\n"
    (facts,) = answers["/model"]
    summary = json.loads((speedrun / "summary.json").read_text("utf-8"))
    assert (facts["valid_loss"], facts["parameters"]) == (summary["final_valid_loss"], summary["parameters"])
    assert (facts["run"], facts["settings"]["prompt"]) == ("run", "The")


@pytest.mark.parametrize("command", [generate, export, play, evaluate])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model": {"class": "TransformerLM"}, "recorded": {"recipe": {"d_model": 16}}},
            "story is a run of tinystories, not of owt_leaderboard: use that app's commands, such as "
            "python -m tinystories.run generate story",
        ),
        ({"model": {"class": "MLP"}, "recorded": {}}, "story is no run of owt_leaderboard"),
    ],
)
def test_a_run_of_another_program_is_refused_with_the_right_command(command, config, message, tmp_path, capsys):
    """A11."""
    Path("story").mkdir()
    Path("story/config.json").write_text(json.dumps(config))
    words = ["story", "out"] if command is export else ["story", "--port", "0"] if command is play else ["story"]
    assert command.main(words) == 2
    assert message in capsys.readouterr().err


def test_no_training_in_a_run_of_tinystories(tmp_path, capsys):
    """A10."""
    Path("story").mkdir()
    config = {"model": {"class": "TransformerLM"}, "recorded": {"recipe": {"d_model": 16}}}
    Path("story/config.json").write_text(json.dumps(config))
    words = ["--dataset", str(write_articles(tmp_path / "articles.txt")), "--out", "story", "--device", "cpu"]
    assert train.main([*words, "--set", *TINY]) == 2
    assert "story holds a run of another program" in capsys.readouterr().err
    assert [path.name for path in Path("story").iterdir()] == ["config.json"]
