"""Every command and program of the guides runs, except those listed here, on small inputs and without a network."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from shown_code import ROOT, SESSION, TINY_FLAGS, blocks, commands, make_inputs, run_command, small_machine

DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted(DOCS.glob("use/*.md")), *sorted(DOCS.glob("contribute/*.md"))]
NOT_RUN = {
    "contribute/variant.md": ["python -m tinystories.run ablations --variants baseline no_weight_decay --seeds 3"],
    "use/export.md": ["python -m owt_leaderboard.export runs/two-minutes exported-speedrun --format native"],
    "use/learning-rate.md": ["python -m owt_leaderboard.tune --dataset stories.txt --minutes 15"],
    "use/minutes.md": [
        "python -m owt_leaderboard.preflight --dataset owt --time-limit 1.5h",
        "python -m owt_leaderboard --dataset owt --time-limit 1.5h",
    ],
    "use/published-model.md": ["hf download HuggingFaceTB/SmolLM2-135M --local-dir SmolLM2-135M"],
    "use/several-gpus.md": [
        "torchrun --nproc-per-node 8 -m tinystories.run train --dataset tinystories --out runs/eight",
        "torchrun --nproc-per-node 8 -m owt_leaderboard --dataset owt --time-limit 1.5h",
        "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
        "-m tinystories.run train --dataset tinystories --out /shared/runs/sixteen",
    ],
    "use/watch.md": [
        "pip install starlette uvicorn -c constraints.txt",
        "python -m tinystories.run play runs/watched",
        'pip install "packages/trainer[wandb]" -c constraints.txt',
        "python -m tinystories.run train --out runs/logged --wandb auto",
    ],
}
"""Commands that need a GPU, a network, an account or more than a minute; the page gives the reason of each."""


def name_of(page):
    return page.relative_to(DOCS).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@every_page
def test_commands_and_programs_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_inputs(tmp_path)
    names = {"__name__": page.stem}
    with small_machine(monkeypatch):
        for block in blocks(page):
            if block.language == "python":
                code = "\n" * (block.line - 1) + block.code  # errors name lines of the page
                capsys.readouterr()
                exec(compile(code, str(page), "exec"), names)
                assert capsys.readouterr().out or "print(" not in block.code
            elif block.reason is None:
                for line in commands(block.code):
                    run_command(line)


def test_commands_that_do_not_run_are_those_of_the_list():
    found = {
        name_of(page): [
            re.sub(" +", " ", line) for block in blocks(page) if block.reason for line in commands(block.code)
        ]
        for page in PAGES
    }
    assert {name: lines for name, lines in found.items() if lines} == NOT_RUN


@every_page
def test_no_block_is_overlooked(page):
    fences = re.findall(r"^ *```(\w*)", page.read_text("utf-8"), re.MULTILINE)
    assert set(fences) <= {"bash", "python", ""}
    assert fences.count("bash") + fences.count("python") == len(blocks(page))
    assert not re.findall(r"^ {4,}(?:\$ )?(?:python|nox|pip|torchrun) .*", page.read_text("utf-8"), re.MULTILINE)


@every_page
def test_commands_in_sentences_exist(page):
    text = page.read_text("utf-8")
    for module in re.findall(r"`python -m ([\w.]+)", text):
        assert find_spec(module), module
    sessions = SESSION.findall((ROOT / "noxfile.py").read_text("utf-8"))
    for session in re.findall(r"`nox\s+-s\s+\"?(\w+)", text):
        assert session in sessions


def test_the_example_of_an_ablation_is_one_entry_of_the_table(tmp_path, monkeypatch):
    """In a copy of the app with that entry, the command of the page runs, and the report has the hypothesis."""
    program, command = blocks(DOCS / "contribute" / "variant.md")
    copy = shutil.copytree(ROOT / "apps/tinystories/src/tinystories", tmp_path / "tinystories")
    table = (copy / "variants.py").read_text("utf-8")
    entry = program.code.partition(" = ")[2].strip()
    assert table.count("\n)\n\nVARIANTS") == 1
    (copy / "variants.py").write_text(table.replace("\n)\n\nVARIANTS", f"\n    {entry},\n)\n\nVARIANTS"), "utf-8")
    make_inputs(tmp_path)
    words = [sys.executable, *shlex.split(command.code)[1:], "--dataset", "stories.txt", *TINY_FLAGS, "--seeds", "1"]
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run(words, check=True, cwd=tmp_path, env=environment)
    report = (tmp_path / "runs" / "ablations-stories" / "report.md").read_text("utf-8")
    assert "Runs this short do not overfit" in report
