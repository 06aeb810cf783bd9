"""Promise: the notebooks run from top to bottom, on data made in them, and show what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "examples/notebooks"


def run(path: Path) -> dict[str, Any]:
    """The names that are defined when all code cells have run."""
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), names)
    return names


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
def test_omics() -> None:
    names = run(NOTEBOOKS / "omics.ipynb")
    assert names["imputer"].method_ == "loretta" and all(frame.notna().all().all() for frame in names["complete"].values())
    assert min(names["scores"].values()) > 0.5 and names["r2"] > 0.5, "of a pair that was never seen together"
    assert 0.5 < names["inside"] < 0.98


@pytest.mark.slow
def test_images_sounds_and_texts() -> None:
    names = run(NOTEBOOKS / "images_sounds_texts.ipynb")
    assert names["trained"].method == "loretta" and set(names["shards"].combinations["train"]) == {"image+sound", "image+text"}
    assert min(names["right_texts"], names["right_sounds"]) > 0.5, "of a pair that was never seen together, by chance 0.25"
    assert names["rows"][0].shape == names["rows"][1].shape == (8, 64)
