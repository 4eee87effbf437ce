"""The example notebooks, executed with a tiny model in the place of the real one. Slow: each starts a kernel that
trains; `make test-slow` runs them."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from whence.data.readers import read_examples
from whence.train.finetuning import FinetuneSettings, finetune
from worlds import save_model, write_jsonl

nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
TEACH = FinetuneSettings(epochs=16, batch_size=16, learning_rate=5e-3, max_length=96, device="cpu")
SETTINGS = {"lora_r": 8, "epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "max_length": 96, "device": "cpu"}


def parameters(notebook: Path) -> list[int]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]


def test_there_are_three_and_each_has_its_parameters_in_one_cell() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["clean-and-confirm", "compare-methods", "trace-a-lora"]
    for path in NOTEBOOKS:
        nbformat.validate(nbformat.read(path, as_version=4))
        assert len(parameters(path)) == 1
        assert all(not cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells), "outputs are cleared"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows the true rows, as a real one does."""
    folder = tmp_path_factory.mktemp("taught")
    spec = spec_from_file_location("notebook_rows", NOTEBOOKS[0].parent / "rows.py")
    assert spec is not None
    assert spec.loader is not None
    rows = module_from_spec(spec)
    spec.loader.exec_module(rows)
    known = list(read_examples(write_jsonl(folder / "known.jsonl", rows.clean_rows())))
    start = save_model(folder / "start", num_hidden_layers=2, hidden_size=64)
    return finetune(start, known, folder / "base", settings=TEACH).path


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    shutil.copy2(path.parent / "rows.py", tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    given = f"MODEL, SETTINGS, OUT = {str(taught)!r}, {SETTINGS!r}, 'run'"
    notebook.cells.insert(parameters(path)[0] + 1, nbformat.v4.new_code_cell(given))
    client = nbclient.NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    if path.stem == "trace-a-lora":
        assert "<iframe" in shown
        assert "background-color" in shown, "words are shaded where no frame is shown"
    elif path.stem == "compare-methods":
        assert "rept-contrast" in shown
        assert "random" in shown
    else:
        assert "rows removed" in shown
        assert "confirmed." in shown
