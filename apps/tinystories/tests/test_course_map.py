"""The map of the course: every problem is named, commands parse, links exist, programs print what is shown."""

import contextlib
import io
import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from tinystories import run

APP = Path(__file__).resolve().parents[1]
ROOT = APP.parents[1]
README, MAP, ANSWERS = APP / "README.md", APP / "docs" / "course-map.md", APP / "docs" / "course-answers.md"
PROBLEMS = """
    unicode1 unicode2 train_bpe train_bpe_tinystories train_bpe_expts_owt tokenizer tokenizer_experiments
    linear embedding rmsnorm positionwise_feedforward rope softmax scaled_dot_product_attention
    multihead_self_attention transformer_block transformer_lm transformer_accounting
    cross_entropy learning_rate_tuning adamw adamwAccounting learning_rate_schedule gradient_clipping
    data_loading checkpointing training_together decoding
    experiment_log learning_rate batch_size_experiment generate layer_norm_ablation pre_norm_ablation no_pos_emb
    swiglu_ablation main_experiment leaderboard
""".split()
TO_COME = "TO BE MEASURED"
COMMANDS = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", command.__name__).lower() for command in get_args(run.Command)}


def course_map():
    """The rows of the table: (problem, answer, measurement)."""
    lines = MAP.read_text("utf-8").splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    return [tuple(cell.strip() for cell in row) for row in rows]


def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(text):
    """Every command line: in backquotes, and indented ones."""
    code = re.findall(r"`((?:python|nox) [^`]+)`", text) + re.findall(r"^(?:    |\$ )(python .+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in code]


def check_command(words):
    """Fail unless the program of a command line accepts it."""
    if words[0] == "nox":
        assert words[1] == "-s"
        session = words[2].partition("(")[0]
        assert re.search(rf"^def {session}\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE), words
    elif words[1] != "-m":
        assert (ROOT / words[1]).is_file(), words
    elif words[2] == "tinystories.run":
        assert type(run.parse(words[3:])).__name__.lower() == words[3].replace("-", "")
    elif words[2] == "owt_leaderboard":  # the other app, which need not be installed
        folder = ROOT / "apps/owt-leaderboard/src/owt_leaderboard"
        source = "\n".join(path.read_text("utf-8") for path in sorted(folder.rglob("*.py")))
        for flag in re.findall(r"--([\w-]+)", " ".join(words)):
            assert re.search(rf"^    {flag.replace('-', '_')}: ", source, re.MULTILINE), (words, flag)
    else:
        assert words[2] in ("bpe", "nnscratch.accounting"), words
        parser = import_module(f"{words[2]}.__main__").build_parser()
        if words[2:] in (["bpe", "train"], ["bpe", "encode"]):  # the command's name, without an example
            words = [*words, *{"train": ["--vocab-size", "1", "-o", "x"], "encode": ["x", "x", "-t", "x"]}[words[3]]]
        parser.parse_args(words[3:])


def test_the_map_names_every_problem_in_order():
    assert [problem.strip("`") for problem, _, _ in course_map()] == PROBLEMS
    assert len(set(PROBLEMS)) == 38
    assert all(answer and measured for _, answer, measured in course_map())


@pytest.mark.parametrize("row", course_map(), ids=lambda row: row[0].strip("`"))
def test_commands_of_the_map_parse(row):
    lines = commands(" ".join(row))
    assert lines or "](" in row[1]
    for words in lines:
        subcommand = words[3] if words[1:3] == ["-m", "tinystories.run"] else None
        if subcommand is None or subcommand in COMMANDS or TO_COME not in row[2]:
            check_command(words)


def test_commands_of_the_answers_parse():
    text = ANSWERS.read_text("utf-8")
    for words in commands(re.sub(rf"^.*{TO_COME}.*$", "", text, flags=re.MULTILINE)):
        check_command(words)


@pytest.mark.parametrize("page", [README, MAP, ANSWERS], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    assert links
    for link in links:
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def programs():
    """The programs of the answers with the output shown below them."""
    return re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", ANSWERS.read_text("utf-8"), re.DOTALL)


def test_every_program_of_the_answers_has_its_output():
    assert len(programs()) == ANSWERS.read_text("utf-8").count("```python") == 3


@pytest.mark.parametrize("program", range(3))
def test_programs_of_the_answers_print_what_they_say(program):
    code, expected = programs()[program]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(ANSWERS), "exec"), {})
    assert printed.getvalue() == expected


def test_accounting_prints_what_the_answers_say(capsys):
    from nnscratch.accounting.__main__ import main

    shown = re.findall(
        r"```console\n\$ python -m nnscratch.accounting ?(.*)\n((?:.+\n)+)```", ANSWERS.read_text("utf-8")
    )
    assert len(shown) == ANSWERS.read_text("utf-8").count("```console") == 4
    for options, expected in shown:
        assert main(options.split()) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected.splitlines() if line not in printed] == []


def test_numbers_of_the_map_are_those_of_the_accounting(capsys):
    from nnscratch.accounting.__main__ import main

    assert main(["--model", "gpt2-xl", "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    largest = record["models"]["gpt2-xl"]
    training = record["training"]["gpt2-xl"]
    listed = training["activations"][-1]  # by the assignment's list
    measured = {problem.strip("`"): result for problem, _, result in course_map()}
    for number in (
        f"{largest['parameters']:,} parameters, {largest['parameter_bytes'] / 1e9:.2f} GB",
        f"{largest['forward_flops'] / 1e12:.3f} TFLOP, {largest['forward_share_by_part']['ffn']:.1%} of it".replace(
            "%", " %"
        ),
    ):
        assert number in measured["transformer_accounting"]
    memory = f"{listed['bytes_per_sequence'] / 1e9:.1f} GB · batch + {training['fixed_bytes'] / 1e9:.1f} GB"
    for number in (memory, f"{listed['largest_batch_size']} sequences", f"{training['training_days']:,.0f} days"):
        assert number in measured["adamwAccounting"]
