"""Checks of the repository as a whole that no tool makes: versions, licences, the tree in the README."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))
PACKAGES = {"bpe", "nnscratch", "trainer"}
APPS = {"tinystories", "owt_leaderboard"}

every_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)


def metadata(project):
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]


def import_name(project):
    return next((project / "src").iterdir()).name


def modules(project):
    return sorted((project / "src").rglob("*.py"))


def imported(path):
    """The top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def test_the_five_projects_are_found():
    assert {import_name(project) for project in PROJECTS} == PACKAGES | APPS


@every_project
def test_project_has_what_its_users_expect(project):
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert len((project / "README.md").read_text("utf-8").splitlines()) > 10
    assert (project / "src" / import_name(project) / "py.typed").exists()
    assert list((project / "tests").glob("test_*.py"))
    assert metadata(project)["requires-python"] == ">=3.11"


@every_project
def test_changelog_has_unreleased_changes_on_top_and_agrees_with_the_version(project):
    headings = re.findall(r"^## \[(.+?)\]", (project / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    if len(headings) > 1:
        assert headings[1] == metadata(project)["version"]


@every_project
def test_imports_go_from_apps_to_packages_only(project):
    own = import_name(project)
    allowed = {own} | (PACKAGES if own in APPS else set())
    for path in modules(project):
        strangers = imported(path) & (PACKAGES | APPS) - allowed
        assert not strangers, f"{path} imports {strangers}"


@every_project
def test_sibling_ranges_admit_the_siblings(project):
    versions = {metadata(other)["name"]: metadata(other)["version"] for other in PROJECTS}
    for requirement in metadata(project)["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", requirement).groups()
        if name in versions:
            lower, upper = re.fullmatch(r">=(\d+\.\d+),<(\d+\.\d+)", bounds).groups()
            release = [int(part) for part in versions[name].split(".")[:2]]
            assert [int(part) for part in lower.split(".")] <= release < [int(part) for part in upper.split(".")]


def test_readme_tree_names_every_module_and_no_other():
    tree = re.search(r"```\n(README\.md.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL).group(1)
    listed, folders = set(), []
    for line in tree.splitlines():
        match = re.match(r"( *)(\S+)", line)
        if match is None:
            continue
        depth, name = len(match[1]) // 2, match[2]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        elif name.endswith(".py") and any("src/" in folder for folder in folders):
            listed.add("".join(folders) + name)
    tracked = {path.relative_to(ROOT).as_posix() for project in PROJECTS for path in modules(project)}
    assert listed == {path for path in tracked if not path.endswith(("/__init__.py",))}


def test_readme_names_only_sessions_that_exist():
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE))
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(project / "README.md" for project in PROJECTS)]
    for document in documents:
        for name in re.findall(r"nox -s \"?(\w+)", document.read_text("utf-8")):
            assert name in sessions, f"{document} names the session {name}"


def test_constraints_pin_one_version_each():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines)
    assert any(line.startswith("torch==") for line in lines)
