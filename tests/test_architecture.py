"""The walls of the house: imports run one way, and the command line starts without the heavy rooms."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmtool

PACKAGE = Path(mmtool.__file__).parent
BELOW = {
    "common": set(),
    "kinds": set(),
    "metrics": set(),
    "tokenizers": set(),
    "data": {"tokenizers"},
    "model": {"data", "tokenizers"},
    "methods": {"model", "data", "tokenizers"},
    "preprocessing": {"data", "tokenizers"},
    "training": {"methods", "model", "data", "tokenizers", "metrics"},
    "encoders": {"training", "preprocessing", "methods", "model", "data", "tokenizers"},
    "exports": {"training", "methods", "model", "data", "tokenizers"},
    "imputation": {"training", "preprocessing", "methods", "model", "data", "tokenizers"},
    "evaluation": {"imputation", "training", "methods", "model", "data", "tokenizers", "metrics"},
    "adaptation": {"encoders", "evaluation", "preprocessing", "training", "model", "data", "tokenizers", "metrics"},
    "comparison": {"adaptation", "encoders", "evaluation", "imputation", "training", "methods", "model", "data", "metrics"},
    "bench": {"training", "preprocessing", "methods", "model", "data", "tokenizers"},
    "artefacts": {"adaptation", "evaluation", "training", "data", "tokenizers"},
}
BELOW["api"] = BELOW["verbs"] = {*BELOW}
BELOW["sklearn"] = {*BELOW}
BELOW["cli"] = {*BELOW} - {"sklearn"}
BELOW["__main__"] = {"cli"}
BELOW["__init__"] = {"common", "data", "api", "verbs", "exports"}
STAGES = ("tokenize", "shard", "pretrain", "finetune", "adapt", "impute", "evaluate", "compare", "export")
VERBS = (*STAGES, "info", "peek", "lint", "bench", "settings")
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "sentencepiece", "soundfile", "pyarrow", "safetensors", "webdataset")
HEAVY += ("h5py", "transformers", "anndata", "mudata", "pandas", "pydicom", "nibabel", "ray", "fsspec")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions, as an absolute dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_used(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path)]
    used = {name[1] for name in parts if name[0] == "mmtool" and len(name) > 1}
    return {name for name in used if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    assert rooms_used(path) <= {"common", "kinds", "__init__", here} | BELOW[here]


def test_no_arrow_leads_upward() -> None:
    order = list(BELOW)
    assert all(order.index(below) < order.index(name) for name, rooms in BELOW.items() for below in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_can_run_code_from_data(path: Path) -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "joblib"}
    assert not {name.split(".")[0] for name in imports(path)} & forbidden
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            assert (node.func.value.id, node.func.attr) != ("torch", "load")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            assert start is not None and node.end_lineno - start < 50, f"{node.name} is too long"


def test_help_imports_nothing_heavy() -> None:
    pages = [["--help"], ["--version"], *([verb, "-h"] for verb in VERBS)]
    code = (
        "import sys; from mmtool.cli.main import app\n"
        f"for arguments in {pages!r}:\n"
        "    try: app(arguments, prog_name='mmtool')\n"
        "    except SystemExit as stop: assert not stop.code, arguments\n"
        f"    print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], 'for', *arguments)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("HEAVY ")]
    assert said == [f"HEAVY [] for {' '.join(arguments)}" for arguments in pages]
