"""The map of the course: every problem is named, commands parse, links exist, programs print what is shown."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pages import accounting_lines, check_command, commands, printed_by, programs

from tinystories import run

APP = Path(__file__).resolve().parents[1]
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


def test_every_program_of_the_answers_has_its_output():
    assert len(programs(ANSWERS)) == ANSWERS.read_text("utf-8").count("```python") == 3


@pytest.mark.parametrize("program", range(3))
def test_programs_of_the_answers_print_what_they_say(program):
    code, expected = programs(ANSWERS)[program]
    assert printed_by(code, str(ANSWERS)) == expected


def test_accounting_prints_what_the_answers_say(capsys):
    from nnscratch.accounting.__main__ import main

    shown = accounting_lines(ANSWERS)
    assert len(shown) == 4
    for options, expected in shown:
        assert main(options) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in expected if line not in printed] == []


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
