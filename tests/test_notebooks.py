"""Every notebook runs from top to bottom."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.notebook
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")  # of the kernel; warnings of the notebook are in its output
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("conf", "docs/pretrained", "docs/lab"):  # settings, photos, and the tables of the studies
        shutil.copytree(ROOT / needed, tmp_path / needed)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook's plots go to its output
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    images = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert images, "the notebook has no plots"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_exists(path: Path) -> None:
    """A renamed function is noticed without running the notebook."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("captioner"):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


def test_there_are_notebooks_with_their_figures() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs), f"{path.name}: commit it executed"
