"""`mmtool bench`: every limit and stage has a rate, shares are of the limit that is named, and nothing is left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result

from mmtool.bench import bench as module
from mmtool.bench.bench import BenchConfig, bench
from mmtool.common.errors import UsageError

TINY = BenchConfig(seconds=0.01, copy_bytes=1 << 20, disk_bytes=1 << 20, samples=600, batch_tokens=256, steps=2, rows=2, prompt=4, drawn=3)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    report = bench(TINY, folder)
    assert not list(folder.iterdir()), "nothing is left behind"
    return report


def test_every_limit_and_stage_has_a_rate(report: dict[str, Any]) -> None:
    assert set(report["limits"]) == {"products_fp32", "products_bf16", "memory", "disk_write", "disk_read"}
    assert all(rate > 0 for rate in report["limits"].values())
    assert list(report["stages"]) == ["load", "train", "decode", "tokenize"]
    for stage in report["stages"].values():
        assert all(rate > 0 for name, rate in stage.items() if name.endswith("_per_s"))
        assert stage["share"] > 0 and all(name in report["limits"] for name in stage["limit"].split(" and "))
    assert 0 <= report["stages"]["train"]["loading_share"] <= 1


def test_shares_are_of_the_limit_that_is_named(report: dict[str, Any]) -> None:
    for name in ("load", "tokenize"):
        stage = report["stages"][name]
        assert stage["share"] == pytest.approx(stage["bytes_per_s"] / report["limits"][stage["limit"]])


def test_the_command_prints_a_table_or_json(
    report: dict[str, Any], mmtool: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bench", lambda config, folder: report)
    done = mmtool("bench", "--json", "--folder", tmp_path)
    assert done.code == 0 and json.loads(done.out) == json.loads(json.dumps(report))
    shown = mmtool("bench", "--folder", tmp_path).out
    assert all(word in shown for word in ("products fp32", "disk read", "load", "train", "decode", "tokenize", "tokens/s", "%"))


def test_a_preset_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no preset 'huge'"):
        bench(BenchConfig(preset="huge"), tmp_path)
