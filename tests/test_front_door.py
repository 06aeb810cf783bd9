"""The Python front door: `import mmtool` is light, a run imputes, scores and represents samples in memory, verbs are functions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mmtool
from mmtool import DataError, UsageError
from mmtool.cli.main import app
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.files import impute_files


def test_importing_is_light_and_every_name_is_there() -> None:
    code = "import sys, mmtool; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(*mmtool.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(getattr(mmtool, name) is not None for name in done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mmtool.nonsense  # noqa: B018


def test_the_estimator_is_there_when_it_is_asked_for_and_names_of_verbs_stay_functions_whatever_is_imported() -> None:
    code = "import sys, mmtool, mmtool.cli.main, mmtool.verbs; assert 'sklearn' not in sys.modules; "
    code += "print(*(callable(getattr(mmtool, name)) for name in mmtool.__all__[7:]), mmtool.sklearn.MultimodalImputer.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *verbs, estimator = done.stdout.split()
    assert set(verbs) == {"True"} and estimator == "MultimodalImputer"


def test_a_run_imputes_scores_and_represents(project: Path) -> None:
    run = mmtool.load(project / "run")
    samples = [sample for sample in mmtool.open_shards(project / "shards", split="test") if {"text", "lab"} <= set(sample.tokens)]
    imputed = run.impute(samples, have="text", want="lab", draws=3)
    assert [each.key for each in imputed] == [sample.key for sample in samples]
    assert all(len(each.values) == 3 and each.values[0].shape == (3,) and each.consistency is not None for each in imputed)
    assert all(each.consistency == sorted(each.consistency, reverse=True) for each in imputed if each.consistency)
    assert run.impute(samples, have=["text"], want="lab", draws=3)[0].log_likelihood == imputed[0].log_likelihood, "the same seed"
    nats = run.score(samples, have="text", target="lab")
    assert nats.shape == (len(samples),) and (nats > 0).all()
    assert run.features(samples, have="text").shape[0] == len(samples)
    assert len(mmtool.open_shards(project / "shards")) > len(mmtool.open_shards(project / "shards", split="test"))


def test_raw_values_need_no_files(project: Path) -> None:
    run = mmtool.load(project / "run")
    samples = run.encode({"text": ["a red thing", None], "lab": [None, {"a": 1.0, "b": 2.0, "c": 0.5}]}, keys=["p1", "p2"])
    assert [sample.present for sample in samples] == [("text",), ("lab",)]
    (row,) = run.impute(samples[:1], have="text", want="lab")
    assert row.key == "p1" and row.values[0].dtype == np.float32
    with pytest.raises(DataError, match=r"p2.*no text"):
        run.impute(samples, have="text", want="lab")
    with pytest.raises(UsageError, match="no modality 'image'"):
        run.encode({"image": [np.zeros((8, 8, 3), np.uint8)]})
    with pytest.raises(DataError, match="text has 1 values for 2 samples"):
        run.encode({"text": ["one"]}, keys=["a", "b"])


@pytest.mark.parametrize(("asked", "said"), [({"draws": 0}, "draws is 0"), ({"draws": -2}, "draws is -2"), ({"top_k": 0}, "top_k is 0")])
def test_numbers_out_of_bounds_are_refused(project: Path, asked: dict[str, int], said: str) -> None:
    run = mmtool.load(project / "run")
    samples = run.encode({"text": ["a red thing"]})
    with pytest.raises(UsageError, match=f"{said}. Give a whole number from 1 on"):
        run.impute(samples, have="text", want="lab", **asked)


def test_samples_that_hold_what_is_wanted_may_keep_it(project: Path) -> None:
    run = mmtool.load(project / "run")
    row = {"a": 1.0, "b": 2.0, "c": 0.5}
    samples = run.encode({"text": ["a red thing", "a blue thing", None], "lab": [None, row, row]}, keys=["p1", "p2", "p3"])
    assert [each.key for each in run.impute(samples[:2], have="text", want="lab")] == ["p1", "p2"]
    assert [each.key for each in run.impute(samples, have="text", want="lab", only_missing=True)] == ["p1"]
    with pytest.raises(UsageError, match=r"no sample lacks lab\. Leave it out"):
        run.impute(samples[1:], have="text", want="lab", only_missing=True)


def test_files_are_written_of_samples_that_lack_what_is_wanted(project: Path, tmp_path: Path) -> None:
    run = mmtool.load(project / "run")
    texts = [None if i % 4 == 0 else "a red thing" for i in range(8)]
    rows = [{"a": 1.0, "b": 2.0, "c": 0.5} if i % 2 == 0 else None for i in range(8)]
    samples, options = run.encode({"text": texts, "lab": rows}), {"have": ("text",), "want": ("lab",)}
    every = impute_files(project / "run", samples, tmp_path / "all", ImputeOptions(**options))
    lacking = impute_files(project / "run", samples, tmp_path / "lacking", ImputeOptions(**options, only_missing=True))
    assert every.imputed == {"lab": 6} and lacking.imputed == {"lab": 4} and lacking.complete == 4 == lacking.skipped
    keys = [json.loads(line).get("key") for line in (tmp_path / "lacking/imputed.jsonl").read_text().splitlines()]
    assert [key for key in keys if key] == ["1", "3", "5", "7"]
    with pytest.raises(UsageError, match="no sample lacks lab"):
        impute_files(project / "run", samples[::2], tmp_path / "none", ImputeOptions(**options, only_missing=True))
    assert not (tmp_path / "none").exists()
    first = impute_files(project / "run", samples, tmp_path / "first", ImputeOptions(**options, only_missing=True, limit=1))
    assert first.imputed == {"lab": 1} and first.skipped == 0, "a limit counts the samples that lack something"


def test_verbs_are_functions(project: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("id,note\n" + "".join(f"p{i},note number {i % 7}\n" for i in range(60)))
    (tmp_path / "lab.csv").write_text("id,a,b\n" + "".join(f"p{i},{i % 7},{i % 5}\n" for i in range(60)))
    mmtool.tokenize("text", tmp_path / "notes.csv", tmp_path / "text.tar", source={"text_column": "note"})
    mmtool.tokenize("table", str(tmp_path / "lab.csv"), tmp_path / "lab.tar", name="lab", n_bins=4)
    mmtool.shard([tmp_path / "text.tar", tmp_path / "lab.tar"], tmp_path / "shards")
    tiny = {"preset": "tiny", "batch_tokens": 256, "compile": "off", "shape": {"depth": 1, "width": 32}}
    mmtool.pretrain(tmp_path / "shards", tmp_path / "run", steps=2, **tiny)
    summary = mmtool.impute(tmp_path / "run", tmp_path / "shards", tmp_path / "imputed", split="test", have="text", want="lab", draws=2)
    assert summary.imputed["lab"] > 0 and (tmp_path / "imputed/lab.csv").exists()
    report = mmtool.evaluate(tmp_path / "run", tmp_path / "shards/test", tmp_path / "report", tasks=("retrieval",), candidates=4)
    assert report.rows and (tmp_path / "report/report.md").exists()


def test_shard_takes_what_the_command_line_takes(project: Path, tmp_path: Path) -> None:
    rows = [f"p{i},{i % 7},{i % 5}\n" for i in range(60)]
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.csv").write_text("id,x,y\n" + "".join(rows))
        mmtool.tokenize("table", tmp_path / f"{name}.csv", tmp_path / f"{name}.tar", name=name, n_bins=4)
    inputs = [tmp_path / f"{name}.tar" for name in "abc"]
    options = {"pairs": ["a,b", ("b", "c")], "fractions": (0.6, 0.2, 0.2), "seed": 3}
    done = mmtool.shard(inputs, tmp_path / "python", **options)
    flags = ["--pair", "a,b", "--pair", "b,c", "--fractions", "0.6", "0.2", "0.2", "--seed", "3"]
    command = ["shard", *map(str, inputs), *flags, "-o", str(tmp_path / "command"), "--json"]
    same = CliRunner().invoke(app, command)
    assert done.fingerprint == json.loads(same.stdout)["fingerprint"] and set(done.combinations["train"]) == {"a+b", "b+c"}
    assert mmtool.shard(inputs, tmp_path / "one", pairs="a,c").left_out == 0
    lost = mmtool.shard(inputs, tmp_path / "rates", missing_rate={"a": 1.0}, apply_to="train")
    assert set(lost.combinations["train"]) == {"b+c"} and set(lost.combinations["test"]) == {"a+b+c"}
    with pytest.raises(UsageError, match=r"no setting 'pair'\. Did you mean 'pairs'"):
        mmtool.shard(inputs, tmp_path / "never", pair="a,b")
    with pytest.raises(UsageError, match="pairs_per_class is of use with align alone"):
        mmtool.shard(inputs, tmp_path / "never", pairs_per_class=3)
    assert not (tmp_path / "never").exists()
