"""Promise: what the guide shows for people's own tables and training loops in Python runs as printed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

PAGE = Path(__file__).parents[1] / "examples/guide/pages/howto/python.md"
SECTIONS = ("Tables as scikit-learn has them", "Data frames into a run, and out of it", "Your own training loop")
SHORT = (  # what keeps a test short, and holds out enough of few patients to correct bounds by; the code is the page's otherwise
    "steps=500, validation_fraction=0.5, "
    'preset="tiny", bins=4, settings={"steps": 2, "batch_tokens": 256, "compile": "off", "value_epochs": 0, '
    '"shape": {"depth": 1, "width": 32}}'
)


def code_of(section: str) -> str:
    """The Python blocks below a heading, one behind the other."""
    (body,) = re.findall(rf"\n## {re.escape(section)}\n(.*?)(?=\n## |\Z)", PAGE.read_text(), re.DOTALL)
    return "\n".join(re.findall(r"```python\n(.*?)```", body, re.DOTALL)).replace("steps=500", SHORT)


def write_tables(folder: Path) -> None:
    """Three tables of 120 patients, of whom each has mirna and one of the others."""
    random = np.random.default_rng(0)
    factor = random.normal(size=(120, 1))
    index = pd.Index([f"p{number:03d}" for number in range(120)], name="patient")
    for name, width, held in (("mrna", 3, slice(0, 90)), ("mirna", 2, slice(0, 120)), ("rppa", 2, slice(60, 120))):
        values = factor + random.normal(0, 0.1, (120, width))
        pd.DataFrame(values, index, [f"{name}{column}" for column in range(width)]).iloc[held].to_csv(folder / f"{name}.csv")


def test_the_page_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for section in SECTIONS:
        exec(compile(code_of(section), f"{PAGE.name}: {section}", "exec"), names)
    assert names["complete"]["rppa"].shape == (120, 2) and names["complete"]["rppa"].notna().all().all()
    assert names["proteins"].index.equals(names["tables"]["mirna"].index) and set(names["bounds"]) == {0.05, 0.95}
    assert names["vocabulary"].keys() == {"mrna", "rppa"} and len(names["samples"]) == 120
    assert {len(batch) for batch in (names["batch"]["key"],)} <= set(range(1, 17)), "the last batch of the pipeline"
