"""The notebooks: committed without outputs, and executed with small settings (`nox -s docs_tests`)."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {"STORIES": "600", "STEPS": "8", "SEEDS": "2", "STAND_IN": "1", "HF_HUB_OFFLINE": "1"}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@every_notebook
def test_outputs_are_stripped_and_the_first_cell_installs(path):
    cells = code_cells(path)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    first = "".join(cells[0]["source"])
    for project in ("packages/bpe", "packages/nnscratch", "packages/trainer", "apps/tinystories"):
        assert f'"{project}' in first
        assert (ROOT / project / "pyproject.toml").is_file()
    assert "REPOSITORY" in first


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder outside of the repository, in which the notebooks share their data."""
    return tmp_path_factory.mktemp("notebooks")


@every_notebook
def test_a_notebook_runs_from_top_to_bottom(path, folder, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("tinystories")
    for name, value in SMALL.items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    errors = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in errors if output.output_type == "error"]
