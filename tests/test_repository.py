"""Checks of the repository as a whole that no tool makes: versions, licences, the tree in the README."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))
PACKAGES = {"bpe", "nnscratch", "trainer"}
APPS = {"tinystories", "owt_leaderboard"}

every_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)


def metadata(project):
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]


def import_name(project):
    return next((project / "src").iterdir()).name


def test_the_five_projects_are_found():
    assert {import_name(project) for project in PROJECTS} == PACKAGES | APPS


@every_project
def test_project_has_what_its_users_expect(project):
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert len((project / "README.md").read_text("utf-8").splitlines()) > 10
    assert (project / "src" / import_name(project) / "py.typed").exists()
    assert list((project / "tests").rglob("test_*.py"))
    assert metadata(project)["requires-python"] == ">=3.11"


@every_project
def test_changelog_has_unreleased_changes_on_top_and_agrees_with_the_version(project):
    headings = re.findall(r"^## \[(.+?)\]", (project / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    version = metadata(project)["version"]
    if ".dev" not in version and len(headings) > 1:
        assert headings[1] == version


@every_project
def test_sibling_ranges_admit_the_siblings(project):
    versions = {metadata(other)["name"]: metadata(other)["version"] for other in PROJECTS}
    for requirement in metadata(project)["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", requirement).groups()
        if name in versions:
            assert versions[name] in SpecifierSet(bounds, prereleases=True), requirement


def test_readme_tree_names_every_folder_of_modules_and_no_other():
    tree = re.search(r"```\nscratchlm/\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL).group(1)
    listed, parents = set(), []
    for indent, folder in re.findall(r"^( *)(\S+/)", tree, re.MULTILINE):
        parents = [*parents[: len(indent) // 2 - 1], folder]
        listed.add("".join(parents).rstrip("/"))
    assert not [folder for folder in listed if not (ROOT / folder).is_dir()]
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("*/*/src/*/*/__init__.py")}
    assert {folder for folder in listed if folder.count("/") == 4} == rooms


def test_readme_names_only_sessions_that_exist():
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE))
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(project / "README.md" for project in PROJECTS)]
    for document in documents:
        for name in re.findall(r"nox -s \"?(\w+)", document.read_text("utf-8")):
            assert name in sessions, f"{document} names the session {name}"


def test_constraints_pin_one_version_each():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines)
    assert any(line.startswith("torch==") for line in lines)


def test_commits_are_checked_with_the_pinned_ruff():
    pinned = re.search(r"^ruff==.*$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE).group()
    assert set(re.findall(r"ruff==[\d.]+", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))) == {pinned}


def test_the_citation_has_the_latest_version_of_a_project():
    version = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE).group(1)
    assert version == max((metadata(project)["version"] for project in PROJECTS), key=Version)
