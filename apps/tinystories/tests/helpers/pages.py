"""Commands and programs that Markdown pages show."""

import contextlib
import io
import re
import shlex
from importlib import import_module
from pathlib import Path

from tinystories import run

ROOT = Path(__file__).resolve().parents[4]


def commands(text):
    """Every command line: in backquotes, and indented ones."""
    code = re.findall(r"(?<!`)`((?:python|nox) [^`\n]+)`", text) + re.findall(
        r"^(?:    |\$ )(python .+)$", text, re.MULTILINE
    )
    return [shlex.split(line) for line in code]


def command_lines(text):
    """Every command in a block of code, without comments."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^(?:    |\$ )?((?:python -m |python \w+/|nox -s ).+)$", joined, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


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
    elif words[2].partition(".")[0] == "owt_leaderboard":  # the other app, which need not be installed
        folder = ROOT / "apps/owt-leaderboard/src/owt_leaderboard"
        assert (folder / f"{words[2].partition('.')[2] or '__main__'}.py").is_file(), words
        source = "\n".join(path.read_text("utf-8") for path in sorted(folder.rglob("*.py")))
        for flag in re.findall(r"--([\w-]+)", " ".join(words)):
            assert re.search(rf'^    {flag.replace("-", "_")}: |arg\(name="{flag}"\)', source, re.MULTILINE), (
                words,
                flag,
            )
    else:
        assert words[2] in ("bpe", "nnscratch.accounting"), words
        parser = import_module(f"{words[2]}.__main__").build_parser()
        if words[2:] in (["bpe", "train"], ["bpe", "encode"]):  # the command's name, without an example
            words = [*words, *{"train": ["--vocab-size", "1", "-o", "x"], "encode": ["x", "x", "-t", "x"]}[words[3]]]
        parser.parse_args(words[3:])


def programs(page):
    """The programs of a page with the output shown below them, without their indent."""
    found = re.findall(
        r"^( *)```python\n(.*?)^\1```\n\n\1```text\n(.*?)^\1```", page.read_text("utf-8"), re.DOTALL | re.M
    )
    return [tuple(re.sub(f"^{indent}", "", part, flags=re.M) for part in parts) for indent, *parts in found]


def printed_by(code, name):
    """Run a program and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, name, "exec"), {})
    return printed.getvalue()


def accounting_lines(page):
    """The options and the lines shown of each call of the accounting on a page."""
    text = page.read_text("utf-8")
    shown = re.findall(r"```console\n\$ python -m nnscratch.accounting ?(.*)\n((?:.+\n)+)```", text)
    assert len(shown) == text.count("```console")
    return [(options.split(), lines.splitlines()) for options, lines in shown]
