"""`info` describes every artefact, `lint` finds what is wrong with one and names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Raw, Result

from mmtool.common.seal import sealed
from mmtool.common.storage import canonical_json

Mmtool = Callable[..., Result]


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may damage."""
    return Path(shutil.copytree(project, tmp_path / "project"))


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_shards(mmtool: Mmtool, project: Path) -> None:
    described = json.loads(mmtool("info", project / "shards", "--json").out)
    assert described["samples"] == 40 and sum(described["splits"].values()) == 40
    assert described["together"] == {"lab + text": 40}
    unlinked = json.loads(mmtool("info", project / "unlinked", "--json").out)
    assert unlinked["samples"] == 80 and unlinked["together"] == {}
    train = json.loads(mmtool("info", project / "shards" / "train", "--json").out)
    assert train["samples"] == described["splits"]["train"]


def test_pairs_are_shown_as_pairs(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    text, lab = project / "text.tar", project / "lab.tar"
    done = mmtool("shard", text, lab, "--pair", "text,lab", "-o", tmp_path / "shards")
    assert not done.code, done.err
    assert "pairs: (text, lab)" in mmtool("info", tmp_path / "shards").out


def test_run_and_checkpoint(mmtool: Mmtool, project: Path) -> None:
    described = json.loads(mmtool("info", project / "run", "--json").out)
    assert described["artefact"] == "run" and described["method"] == "cm3" and described["checkpoints"] == [2]
    assert set(described["modalities"]) == {"lab", "text"}
    checkpoint = project / "run" / "checkpoints" / "00000002"
    assert json.loads(mmtool("info", checkpoint, "--json").out)["step"] == 2
    assert mmtool("lint", project / "run", checkpoint).out == f"ok: {project / 'run'}\nok: {checkpoint}\n"


def test_a_run_tells_how_long_it_trained_and_how_fast(mmtool: Mmtool, project: Path, copy: Path) -> None:
    (record,) = [json.loads(line) for line in (project / "run/metrics.jsonl").read_text().splitlines() if "tokens_per_s" in line]
    told = json.loads(mmtool("info", project / "run", "--json").out)["training"]
    assert told["tokens_per_s"] == round(record["tokens_per_s"]) and told["seconds"] == pytest.approx(record["elapsed_s"], abs=0.01)
    records = [{"step": 20 * (i + 1), "elapsed_s": 500.0 * (i + 1), "tokens_per_s": 100.0 + i, "loss": {"text": 1.0}} for i in range(3)]
    log = [canonical_json(sealed(record)) for record in [*records, {"step": 60, "elapsed_s": 1500.0, "validation": {"text": 2.0}}]]
    (copy / "run/metrics.jsonl").write_text("\n".join(log) + "\n")
    assert "training\n  seconds: 1,500\n  tokens_per_s: 101\n" in mmtool("info", copy / "run").out
    (copy / "run/metrics.jsonl").unlink()
    assert "training: none" in mmtool("info", copy / "run").out


def test_imputed_files_and_report(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    filled, report = tmp_path / "filled", tmp_path / "report"
    assert mmtool("impute", project / "run", project / "shards", "--have", "text", "--want", "lab", "-o", filled).code == 0
    assert json.loads(mmtool("info", filled, "--json").out)["directions"] == {"text -> lab": 40}
    done = mmtool("evaluate", project / "run", project / "shards", "-o", report, "--json")
    assert done.code == 0, done.err
    results = json.loads(done.out.splitlines()[-1])["results"]
    assert {"method", "given", "target", "seen", "metric", "value", "n"} <= set(results[0])
    assert json.loads(mmtool("info", report, "--json").out)["results"]
    assert mmtool("lint", filled, report).code == 0
    (filled / "lab.csv").unlink()
    assert str(filled / "lab.csv") in mmtool("lint", filled).out


def test_token_sets_of_a_manifest(mmtool: Mmtool, tmp_path: Path) -> None:
    rows = "".join(f"k{i:02},{'a thing' if i % 3 else ''},{'noise' if i % 2 else ''}\n" for i in range(24))
    (tmp_path / "data.csv").write_text(f"key,one,two\n{rows}")
    columns = ("--column", "first:text=one", "--column", "second:text=two")
    assert mmtool("tokenize", "--manifest", tmp_path / "data.csv", *columns, "--fit", "-o", tmp_path / "tokens").code == 0
    described = json.loads(mmtool("info", tmp_path / "tokens", "--json").out)
    assert described["samples"] == 24 and described["presence"] == {"none of them": 4, "first": 8, "first+second": 8, "second": 4}
    assert mmtool("lint", tmp_path / "tokens").out == f"ok: {tmp_path / 'tokens'}\n"
    shutil.copy(tmp_path / "tokens" / "second.tar", tmp_path / "saved.tar")
    shutil.copy(tmp_path / "tokens" / "first.tar", tmp_path / "tokens" / "second.tar")
    assert "0 samples of second, not 12" in mmtool("lint", tmp_path / "tokens").out
    shutil.move(tmp_path / "saved.tar", tmp_path / "tokens" / "second.tar")
    flip(tmp_path / "tokens" / "first.tar")
    assert "first.tar" in mmtool("lint", tmp_path / "tokens").out
    (tmp_path / "tokens" / "first.tar").unlink()
    assert "first.tar" in mmtool("lint", tmp_path / "tokens").out


def test_a_comparison_that_was_interrupted(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    shutil.copytree(project / "run", folder / "runs" / "cm3" / "seed-0")
    (folder / "comparison.json").write_text(json.dumps({"format": "mmtool-comparison/1"}))
    assert json.loads(mmtool("info", folder, "--json").out)["runs"] == {"cm3/seed-0": "step 2"}
    (folder / "runs/cm3/seed-0/config.json").write_text("x")
    done = mmtool("lint", folder)
    assert done.code == 1 and "seed-0" in done.out and "the same `mmtool compare` command again" in done.out


@pytest.mark.parametrize("name", ["presence.json", "comparison.json", "peek.json"])
@pytest.mark.parametrize("text", ["{}", '{"alice": ["mon"]}', "[]", "x"])
def test_files_of_others_under_such_names_are_no_artefacts(mmtool: Mmtool, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert mmtool("info", tmp_path).code == 1
    done = mmtool("lint", tmp_path)
    assert done.code == 1 and name in done.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "mmtool-presence/9"}, "the format 'mmtool-presence/9' is unknown; this version reads mmtool-presence/1"),
        ({"files": ["../../etc/passwd"]}, "`files` is no list of names of files in this folder"),
        ({"files": ["a.tar", ".."]}, "`files` is no list of names of files in this folder"),
        ({"files": "a.tar"}, "`files` is no list of names of files in this folder"),
        ({"files": None}, "`files` is no list of names of files in this folder"),
        ({"presence": ["text"]}, "`presence` is no table of numbers of samples"),
        ({"presence": {"text": "many"}}, "`presence` is no table of numbers of samples"),
        ({"presence": {"text": -1}}, "`presence` is no table of numbers of samples"),
    ],
)
def test_a_record_of_token_sets_that_cannot_be_one(mmtool: Mmtool, tmp_path: Path, change: dict[str, object], said: str) -> None:
    record = {"format": "mmtool-presence/1", "presence": {"text": 3}, "files": []}
    (tmp_path / "presence.json").write_text(json.dumps(record))
    assert mmtool("lint", tmp_path).code == 0
    (tmp_path / "presence.json").write_text(json.dumps(record | change))
    done = mmtool("lint", tmp_path)
    assert done.code == 1 and said in done.out and "Tokenize the manifest again" in done.out and "object" not in done.out
    assert mmtool("info", tmp_path).code == 1


def test_long_keys_get_files_of_their_own(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    keys = [f"病院/{'撮影' * 40}/{i}" for i in range(3)]
    (tmp_path / "new.csv").write_text("key,a,b,c\n" + "".join(f"{key},1,2,3\n" for key in keys), encoding="utf-8")
    command = ["impute", project / "run", "--raw", f"lab={tmp_path / 'new.csv'}", "--want", "text", "--draws", 2]
    done = mmtool(*command, "-o", tmp_path / "filled")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "filled" / "imputed.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == keys
    files = {file for line in lines for file in line["files"]}
    assert len(files) == 6 and all((tmp_path / "filled" / file).is_file() for file in files)


def test_a_report_shows_every_point_of_its_curves(mmtool: Mmtool, tmp_path: Path) -> None:
    row = {"run": "ours", "given": ["text"], "target": "lab", "seen": True, "metric": "accuracy at rank"}
    rows = [{**row, "at": 0.1, "value": 0.5}, {**row, "at": 2, "value": 0.25}, {**row, "metric": "perplexity", "value": 3.0}]
    meta = {"runs": [{"name": "ours"}], "label": "colour", "samples": 9}
    (tmp_path / "report.json").write_text(json.dumps({"format": "mmtool-report/1", "meta": meta, "rows": rows}))
    results = json.loads(mmtool("info", tmp_path, "--json").out)["results"]["text -> lab (seen)"]
    assert results == {"ours, accuracy at rank, at 0.1": 0.5, "ours, accuracy at rank, at 2": 0.25, "ours, perplexity": 3.0}


@pytest.mark.parametrize(
    "name",
    ["shards/train/00000.tar", "run/checkpoints/00000002/model.safetensors", "run/checkpoints/00000002/optimizer.safetensors", "text.tar"],
)
def test_a_flipped_bit_is_found_and_the_file_named(mmtool: Mmtool, copy: Path, name: str) -> None:
    flip(copy / name)
    done = mmtool("lint", copy / name.split("/")[0])
    assert done.code == 1
    assert done.out.startswith(f"problem: {copy / name}")


def test_a_missing_shard_is_found(mmtool: Mmtool, copy: Path) -> None:
    (copy / "shards" / "train" / "00000.tar").unlink()
    assert mmtool("lint", copy / "shards").out.startswith(f"problem: {copy / 'shards' / 'train'}")


def test_a_swapped_tokenizer_of_a_run_is_found(mmtool: Mmtool, copy: Path) -> None:
    tokenizers = copy / "run" / "tokenizers"
    shutil.copy(tokenizers / "lab.safetensors", tokenizers / "text.safetensors")
    assert "text.safetensors" in mmtool("lint", copy / "run").out


def test_a_torn_line_of_the_metrics_is_found(mmtool: Mmtool, copy: Path) -> None:
    with open(copy / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
    done = mmtool("lint", copy / "run")
    assert done.code == 1 and "metrics.jsonl" in done.out
    assert mmtool("info", copy / "run").code == 0


def test_a_description_is_plain_text(mmtool: Mmtool, project: Path) -> None:
    shown = mmtool("info", project / "run").out
    assert shown.startswith(f"artefact: run\npath: {project / 'run'}\n")
    assert "\033" not in shown
