"""The scheme, the method and the task that the guide adds are whole: they run as they stand there, each with the line it names."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmtool.evaluation.tasks import TASKS
from mmtool.kinds import KINDS
from mmtool.methods import METHODS

PAGE = Path(__file__).parents[1] / "examples/guide/pages/howto/extend.md"
SMALL = ("--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32", "--steps", 2, "--batch-tokens", 256, "--no-compile")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """The page's files as modules, path -> module, each importable."""
    modules = {}
    for path, code in re.findall(r"```python\n# (mmtool/\S+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = path.removesuffix(".py").replace("/", ".")
        modules[path] = module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        source = tmp_path / f"{name}.py"
        source.write_text(code)
        module.__file__ = str(source)
        exec(compile(code, source, "exec"), module.__dict__)
    return modules


def test_a_scheme(added, raw, mmtool, monkeypatch, tmp_path: Path) -> None:
    assert "mmtool/tokenizers/characters.py" in added
    monkeypatch.setitem(KINDS["text"].schemes, "characters", "mmtool.tokenizers.characters:CharacterTokenizer")
    fitted = ("--fit", "--scheme", "characters", "--label", "colour", "-o", tmp_path / "text.tar")
    assert mmtool("tokenize", "text", raw.notes, *fitted).code == 0
    assert mmtool("shard", tmp_path / "text.tar", "-o", tmp_path / "shards").code == 0
    assert mmtool("pretrain", tmp_path / "shards", *SMALL, "-o", tmp_path / "run").code == 0
    other = tmp_path / "other.csv"
    other.write_text("key,text\na,\u00fc\n")
    refused = mmtool("tokenize", "text", other, "--tokenizer", tmp_path / "text.tar", "-o", tmp_path / "other.tar")
    assert refused.code == 1 and "'\u00fc'" in refused.err


def test_a_method_and_a_task(added, toy: Path, mmtool, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(METHODS, "mirrored", added["mmtool/methods/mirrored.py"].Mirrored)
    monkeypatch.setitem(TASKS, "lengths", "lengths")
    assert "Share of documents in reverse order." in mmtool("settings", "mirrored").out
    trained = mmtool("pretrain", toy / "shards", "--method", "mirrored", "--set", "method.reverse=0.3", *SMALL, "-o", tmp_path / "run")
    assert trained.code == 0, trained.err
    done = mmtool("evaluate", tmp_path / "run", toy / "shards", "--task", "lengths", "-o", tmp_path / "report")
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "report/report.json").read_text())["rows"]
    assert {row["metric"] for row in rows} == {"length error"} and all(row["value"] == 0 for row in rows)  # tables have one length
    assert "## Lengths" in (tmp_path / "report/report.md").read_text()
