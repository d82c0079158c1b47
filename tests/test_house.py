"""The house check finds what it is for, and nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checks"))
from house import violations


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of a small repository, and return its path relative to the repository."""
    monkeypatch.chdir(tmp_path)

    def write(name, text=""):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("call", "is_found"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", False),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, 'rb')", False),
        ("open(path, mode)", False),
        ("open(path, encoding='ascii')", False),
        ("path.open('a')", True),
        ("path.open('ab')", False),
        ("path.open('w', encoding='utf-8')", False),
        ("reporter.open(3)", False),
        ("os.open(path, os.O_RDONLY)", False),
    ],
)
def test_texts_have_an_encoding(write, call, is_found):
    found = violations([write("packages/a/src/a/b.py", call), write("packages/a/tests/test_b.py", call)])
    expected = "packages/a/src/a/b.py:1: a text is opened in the encoding of the system; name one, such as utf-8"
    assert found == ([expected] if is_found else [])


def test_thirteen_modules_in_one_folder_are_too_many(write):
    files = [write(f"packages/a/src/a/room/module_{i}.py") for i in range(12)] + [
        write("packages/a/src/a/room/__init__.py"),
        *(write(f"packages/a/tests/test_{i}.py") for i in range(20)),
    ]
    assert violations(files) == []
    files.append(write("packages/a/src/a/room/one_more.py"))
    (line,) = violations(files)
    assert line.startswith("packages/a/src/a/room: 13 modules; at most 12")


@pytest.mark.parametrize("word", ["What", "How", "Which", "Where", "Whether", "That", "Those", "Whose"])
def test_docstrings_must_not_begin_with_a_relative_clause(write, word):
    path = write("a.py", f'"""{word} a module is."""\n\n\nclass A:\n    def f():\n        """{word} it does."""\n')
    assert [line.split(": ")[0] for line in violations([path])] == ["a.py:1", "a.py:5"]


def test_other_docstrings_are_left_alone(write):
    docstrings = ("Show whether this holds.", "Howling wolves.", "Thatch a roof.")
    text = "".join(f'def f{i}():\n    """{docstring}"""\n' for i, docstring in enumerate(docstrings))
    assert violations([write("a.py", text)]) == []


@pytest.mark.parametrize("name", ["README.md", "packages/a/README.md"])
def test_a_readme_has_at_most_150_lines(name, write):
    assert violations([write(name, "line\n" * 150), write("docs/a.md", "line\n" * 400)]) == []
    (line,) = violations([write(name, "line\n" * 151)])
    assert line.startswith(f"{name}: 151 lines; at most 150")
