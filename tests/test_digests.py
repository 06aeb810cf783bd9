"""Every artefact carries a digest that `lint` and every reader verify: one changed byte is refused, in words, wherever it lies."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from test_training import make_shards, same, settings, weights

from mmtool.artefacts import lint
from mmtool.common.errors import DataError
from mmtool.common.seal import DIGEST, read_json, sealed, write_sealed
from mmtool.data.shards import open_token_set
from mmtool.evaluation.report import write_document
from mmtool.evaluation.report_file import read_report
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.training.checkpoint import list_checkpoints, newest_checkpoint
from mmtool.training.metrics import MetricsLog, read_metrics
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run

STRIDE = 37  # bytes between those that are changed in turn, which visits every sort of place in a second
CHANGES = (1, 0x10, 0xFF)


def changed(data: bytes, stride: int = 1) -> Iterator[bytes]:
    """The bytes with one of them changed, in many places."""
    for number, place in enumerate(range(0, len(data), stride)):
        yield data[:place] + bytes([data[place] ^ CHANGES[number % len(CHANGES)]]) + data[place + 1 :]


@pytest.fixture
def run(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project / "run", tmp_path / "run"))


@pytest.fixture(scope="session")
def tokenizer(project: Path) -> bytes:
    return open_token_set(project / "lab.tar").tokenizers["lab"]


def same_content(data: bytes, other: bytes) -> bool:
    return to_bytes(from_bytes(data)) == other


def test_a_changed_tokenizer_is_never_another_tokenizer(tokenizer: bytes) -> None:
    accepted = 0
    for damaged in changed(tokenizer, STRIDE):
        try:
            assert same_content(damaged, tokenizer)  # a space in the header means nothing
            accepted += 1
        except DataError as error:
            assert str(error)
    assert accepted < 3


def test_a_tokenizer_of_an_earlier_version_is_read_and_written_as_it_was(tokenizer: bytes) -> None:
    old = from_bytes(tokenizer)
    old.file_format = "mmtool-tokenizer/1"  # type: ignore[attr-defined]
    data = to_bytes(old)
    assert data != tokenizer and b"mmtool-tokenizer/1" in data and DIGEST.encode() not in data
    assert to_bytes(from_bytes(data)) == data
    claimed = data.replace(b"mmtool-tokenizer/1", b"mmtool-tokenizer/2")
    with pytest.raises(DataError, match="digest"):
        from_bytes(claimed)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoints/00000002/state.json"])
def test_lint_finds_every_changed_byte_of_a_run(run: Path, name: str) -> None:
    pretrained = (run / name).read_bytes()
    assert lint(run) == []
    for damaged in changed(pretrained, STRIDE):
        (run / name).write_bytes(damaged)
        if _means_the_same(damaged, pretrained):
            continue
        problems = lint(run)
        assert problems and all(str(run) in problem for problem in problems), damaged


def _means_the_same(damaged: bytes, whole: bytes) -> bool:
    try:
        return [json.loads(line) for line in _values(damaged)] == [json.loads(line) for line in _values(whole)]
    except (ValueError, RecursionError):
        return False


def _values(data: bytes) -> list[bytes]:
    return [data] if data.startswith(b"{\n") else data.splitlines()


CONSUMED = b'"consumed": '


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(CONSUMED, CONSUMED + b"1"),
        lambda data: b"",
        lambda data: b"null",
        lambda data: b"[" * 100_000,
        lambda data: b'{"sha256": 1}',
        lambda data: b'{"sha256": {"../../../../etc/passwd": "0"}}',
        lambda data: b'{"sha256": {}, "step": 3}',
        lambda data: data.replace(b'"digest"', b'"digezt"'),
        lambda data: data.replace(b'"format"', b'"formal"'),
        lambda data: re.sub(rb'"digest".*"format"', b'"formal"', data, flags=re.DOTALL),
        lambda data: b"\xff\xfe" + data,
        None,
    ],
)
def test_a_newest_checkpoint_whose_state_is_damaged_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes] | None, trained: Path
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    newest = list_checkpoints(run / "checkpoints")[-1]
    state = newest / "state.json"
    if damage is None:
        state.unlink()
        state.mkdir()
    else:
        state.write_bytes(damage(state.read_bytes()))
    before = newest_checkpoint(run / "checkpoints")
    said = capsys.readouterr().err.splitlines()
    assert before is not None and before.path < newest
    assert len(said) == 1 and "passing over" in said[0] and str(newest) in said[0]


def test_what_follows_a_checkpoint_that_was_passed_over_is_the_same(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = list_checkpoints(run / "checkpoints")[-1] / "state.json"
    state.write_bytes(state.read_bytes().replace(CONSUMED, CONSUMED + b"1"))
    pretrain(settings(), trained / "shards", run)
    assert same(weights(run), weights(trained / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_shards(folder / "shards")
    pretrain(settings(), folder / "shards", folder / "run")
    return folder


def test_a_checkpoint_of_an_earlier_version_is_read(run: Path) -> None:
    state = run / "checkpoints/00000002/state.json"
    record = json.loads(state.read_bytes())
    state.write_text(json.dumps({name: value for name, value in record.items() if name not in ("format", DIGEST)}))
    assert lint(run) == [] and newest_checkpoint(run / "checkpoints") is not None


def test_a_run_of_an_earlier_version_is_read_and_one_without_its_digest_is_not(run: Path) -> None:
    config = run / "config.json"
    record = {name: value for name, value in json.loads(config.read_bytes()).items() if name != DIGEST}
    config.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"config\.json: it was changed or damaged"):
        open_run(run)
    config.write_text(json.dumps({**record, "format": "mmtool-run/1"}))
    assert open_run(run).config.method == "cm3"


@pytest.mark.parametrize(
    "change",
    [
        {"shape": {"depth": 4_000_000_000, "width": 32}},
        {"shape": {"depth": 1, "width": 1 << 20, "head_width": 32}},
        {"shape": {"depth": 1.5}},
        {"shape": None},
        {"modalities": None},
        {"modalities": [{"name": "../../etc/x"}]},
        {"co_occurrence": 3},
        {"config": []},
        {"config": {"steps": "many"}},
        {"finetune": {}},
        {"batch": None, "data": None, "method_options": None, "co_occurrence": [{}]},
    ],
)
def test_a_run_with_a_hostile_record_is_refused_before_anything_is_allocated(run: Path, change: dict[str, Any]) -> None:
    record = json.loads((run / "config.json").read_bytes())
    write_sealed(run / "config.json", {**record, **change})
    assert lint(run), "with a right digest"


def test_names_of_modalities_build_no_paths(run: Path) -> None:
    record = json.loads((run / "config.json").read_bytes())
    record["modalities"][0]["name"] = "../../etc/x"
    write_sealed(run / "config.json", record)
    with pytest.raises(DataError, match="needs another name"):
        open_run(run)


def test_damaged_records_of_metrics_are_dropped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3):
        log.append({"step": step, "loss": {"a": 0.5}})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"step":2', b'"step":1') + b'{"step": 4, "lo')
    MetricsLog(path, 9)
    assert "1 damaged records are dropped" in capsys.readouterr().err
    assert [record["step"] for _, record in read_metrics(path.read_bytes()) if record] == [1, 3]
    path.write_bytes(b'{"loss":{"a":1},"step":1}\n' + whole)
    assert [None if record is None else record["step"] for _, record in read_metrics(path.read_bytes())] == [1, 1, 2, 3], "begun before"


def test_a_changed_report_is_refused(tmp_path: Path) -> None:
    row = {"run": "a", "given": ["x"], "target": "y", "seen": True, "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    write_document(tmp_path, [row], {"runs": []}, ["# Report"])
    report = tmp_path / "report.json"
    assert read_report(tmp_path)["rows"][0]["value"] == 0.5
    report.write_bytes(report.read_bytes().replace(b"0.5", b"0.9"))
    with pytest.raises(DataError, match=r"report\.json: it was changed"):
        read_report(tmp_path)


def test_changed_imputed_files_are_found(project: Path, tmp_path: Path, mmtool: Callable[..., Result]) -> None:
    folder = tmp_path / "imputed"
    done = mmtool("impute", project / "run", project / "shards", "--have", "text", "--want", "lab", "-o", folder, "--limit", 3)
    assert done.code == 0 and lint(folder) == []
    table = folder / "lab.csv"
    table.write_bytes(table.read_bytes() + b"\n")
    assert str(table) in lint(folder)[0]
    listing = folder / "imputed.jsonl"
    listing.write_bytes(listing.read_bytes().replace(b"case", b"cage", 1))
    assert "line 1" in lint(folder)[0]


def test_a_seal_covers_tensors_and_ignores_the_order_of_fields() -> None:
    tensors = {"a": np.arange(3), "b": np.zeros((2, 0))}
    digest = sealed({"x": 1, "y": [None, "ü"]}, tensors)[DIGEST]
    assert digest == sealed({"y": [None, "ü"], "x": 1, DIGEST: "old"}, dict(reversed(tensors.items())))[DIGEST]
    assert digest != sealed({"x": 1, "y": [None, "ü"]}, {**tensors, "a": np.arange(3) + 1})[DIGEST]
    assert digest != sealed({"x": 1, "y": [None, "ü"]}, {**tensors, "a": np.arange(3, dtype=np.int32)})[DIGEST]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff", b"[]", b"1e400", b""])
def test_whatever_is_no_object_is_an_error_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(DataError, match=r"record\.json: it (is damaged|holds no JSON object)"):
        read_json(tmp_path / "record.json", "Write it again.")
