"""Numbers that a change of names, folders or interfaces leaves as they are: losses, draws and reports on tiny data.

`GOLDEN=write pytest -n 0 tests/test_golden.py` writes them anew; only a change that is meant to change numbers does that, and says why.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_training import CLASSES, make_shards, sample, settings

from mmtool.imputation.imputer import Imputer
from mmtool.methods import METHODS
from mmtool.training.pretrain import pretrain

GOLDEN = Path(__file__).with_suffix(".json")
TRANSITIVE = {"warmup": 0.25, "transitive_share": 0.5, "draws": 2}  # real and transitive steps among the eight
OPTIONS = {name: TRANSITIVE if name == "loretta" else {} for name in METHODS}
ADAPTED = "joint,ridge,late"
RELATIVE, ABSOLUTE = 2e-3, 1e-5  # processors round otherwise; another batch, mask or seed moves these numbers by far more
THEIRS = "chained equations"  # of scikit-learn, whose forests grow otherwise where a processor rounds otherwise
SHARES, MOVED = ("recall@", "class recall@", "accuracy, "), 2  # of few samples, of which rounding may move so many past another


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards of (a, b) and (b, c); a run of every method after eight steps, each of them recorded."""
    folder = tmp_path_factory.mktemp("golden")
    make_shards(folder / "shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmtool.training.loop.REPORT_EVERY", 1)
        for method, options in OPTIONS.items():
            pretrain(settings(method=method, method_options=options, steps=8, precision="fp32"), folder / "shards", folder / method)
    return folder


def check(name: str, measured: Any) -> None:
    """Compare with what is kept under this name, or keep it."""
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    measured = json.loads(json.dumps(measured), parse_float=lambda text: float(f"{float(text):.6g}"))
    if os.environ.get("GOLDEN") == "write":
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted({**kept, name: measured}.items())]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    differing = list((row_differences if rows_of_report(measured) else differences)(kept[name], measured, name))
    assert not differing, "\n".join(differing[:20])


def differences(kept: Any, measured: Any, where: str) -> Iterator[str]:
    if isinstance(kept, dict) and isinstance(measured, dict) and kept.keys() == measured.keys():
        for key in kept:
            yield from differences(kept[key], measured[key], f"{where}.{key}")
    elif isinstance(kept, list) and isinstance(measured, list) and len(kept) == len(measured):
        for i, pair in enumerate(zip(kept, measured, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif isinstance(kept, float) and isinstance(measured, float):
        if not math.isclose(kept, measured, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{where}: {kept} was {measured}"
    elif kept != measured:
        yield f"{where}: {kept} was {measured}"


def rows_of_report(measured: Any) -> bool:
    return isinstance(measured[0], list) and isinstance(measured[0][0], str)


def row_differences(kept: list[Any], measured: list[Any], where: str) -> Iterator[str]:
    """The same of the rows of a report: shares may differ by MOVED samples, median ranks by MOVED places."""
    yield from differences([row[:-1] for row in kept], [row[:-1] for row in measured], where)
    for i, (before, now) in enumerate(zip(kept, measured, strict=True)):
        metric, count, value = before[1], before[5], before[6]
        moved = MOVED / count if metric.startswith(SHARES) else MOVED if "median rank" in metric else ABSOLUTE
        if not math.isclose(value, now[6], rel_tol=RELATIVE, abs_tol=moved + ABSOLUTE):
            yield f"{where}[{i}] {before[:-1]}: {value} was {now[6]}"


@pytest.mark.parametrize("method", OPTIONS)
def test_losses_of_eight_steps(world: Path, method: str) -> None:
    lines = [json.loads(line) for line in (world / method / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 8
    check(f"losses of {method}", [*losses, *(line["validation"] for line in lines if "validation" in line)])


@pytest.mark.parametrize("method", [method for method in OPTIONS if method != "m3ae"])
def test_draws(world: Path, method: str) -> None:
    samples = [sample(f"v-{i:03d}", i % CLASSES, "a", "validation") for i in range(6)]
    imputer = Imputer.open(world / method, device="cpu")
    made = imputer.impute(samples, ["a"], "c", draws=2, consistency=True)
    check(
        f"draws of {method}",
        [[[codes.tolist() for codes in each.tokens], each.log_likelihood, each.consistency] for each in made],
    )


def rows(report: Path) -> list[list[Any]]:
    names = ("run", "metric", "given", "target", "at", "n", "value")
    found = json.loads((report / "report.json").read_text())["rows"]
    return [[row.get(name) for name in names] for row in found if row["run"] != THEIRS]


def test_a_report_of_evaluate(world: Path, tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    done = mmtool(
        *("evaluate", world / "commutative", world / "loretta", world / "shards/validation", "--label", "class"),
        *("--task", "impute", "--task", "retrieval", "--task", "probe", "--limit", 24, "-o", tmp_path / "report"),
    )
    assert done.code == 0, done.err
    check("evaluate", rows(tmp_path / "report"))


def test_a_report_of_adapt(world: Path, tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    make_shards(tmp_path / "complete", pairs=("ab",))
    for name in "ab":
        make_shards(tmp_path / f"only-{name}", pairs=(name,))
        pretrain(settings(method="masked", steps=8, precision="fp32"), tmp_path / f"only-{name}", tmp_path / name)
    encoders = [part for name in "ab" for part in ("--encoder", f"{name}={tmp_path / name}")]
    done = mmtool(
        *("compare", tmp_path / "complete", *encoders, "--label", "class", "--eta", "0.7", "--missing", "both"),
        *(
            "--methods",
            ADAPTED,
            "--seeds",
            "0",
            "--steps",
            8,
            "--set",
            "batch=16",
            "--set",
            "precision=fp32",
            "--limit",
            20,
            "-o",
            tmp_path / "out",
        ),
    )
    assert done.code == 0, done.err
    check("adapt", rows(tmp_path / "out"))
