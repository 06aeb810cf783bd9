"""One command compares methods over seeds: it keeps what is finished, continues what is not, and averages honestly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_training import make_shards, settings

from mmtool.cli.compare import read_seeds, read_variant
from mmtool.common.errors import DataError, UsageError
from mmtool.common.output import OutputPath
from mmtool.comparison import grid as stage
from mmtool.comparison.grid import compare
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.report import heading, write_document
from mmtool.metrics.seeds import gap_closed, mean_of_seeds, over_seeds, paired_differences

pytestmark = pytest.mark.usefixtures("quick_baselines")

SHORT: dict[str, Any] = {"label": "class", "contact_samples": 0, "limit": 12, "train_limit": 40}
TINY = ["--batch-tokens", "512", "--steps", "4", "--set", "compile=off", "--set", "shape.depth=1", "--set", "shape.width=32"]


def variants(*methods: str):
    return {method: settings(method=method, steps=4, checkpoint_every=0) for method in methods}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were really trained, in order."""
    made: list[str] = []
    real = stage.pretrain

    def noting(config, data, output, **options):
        made.append(f"{output.parent.name}/{output.name}")
        return real(config, data, output, **options)

    monkeypatch.setattr(stage, "pretrain", noting)
    return made


@pytest.mark.thorough
def test_a_grid_is_trained_evaluated_and_averaged(mmtool, tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", ("ab",))
    command = ["compare", shards, "--methods", "causal,commutative", "--seeds", "0,1", "--label", "class", *TINY]
    command += ["--variant", "ordered:commutative:commutative=false,mean_spans=2", "--contact-samples", 2]
    command += ["--limit", 12, "--train-limit", 40, "--json"]
    done = mmtool(*command, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    summary = json.loads(done.out.splitlines()[-1])
    assert set(summary) == {"results", "report"}
    assert {(row["run"], row["seed"]) for row in summary["results"] if row["seed"] is not None} == {
        (name, seed) for name in ("causal", "commutative", "ordered") for seed in (0, 1)
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["results"] == summary["results"]
    assert all(row["seeds"] == (2 if row["run"] in ("causal", "commutative", "ordered") else 1) for row in report["rows"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| direction | causal | commutative | ordered | marginal sample | nearest neighbour |" in text
    assert "## ordered against the others" in text and "Perplexity, ratio:" in text
    assert {row["run"] for row in report["differences"]} == {"causal", "commutative"}
    assert "causal (seeds 0, 1)" in text and "contact_sheet.png" in text
    assert (tmp_path / "out" / "contact_sheet.png").exists() and (tmp_path / "out" / "perplexity.png").exists()
    assert "The samples are those of the runs with seed 0." in " ".join((tmp_path / "out" / "report.html").read_text().split())
    OutputPath(tmp_path / "out", force=True).check_directory()  # nothing in it is foreign
    again = mmtool(*command, "-o", tmp_path / "out")
    assert again.code == 0 and again.err.count("trained already") == 6 and again.err.count("evaluated already") == 2
    assert json.loads(again.out.splitlines()[-1]) == summary
    led = mmtool(*command, "--guidance", "2,b=0", "-o", tmp_path / "out")
    assert led.code == 0 and led.err.count("trained already") == 6 and "evaluated already" not in led.err
    sampling = json.loads((tmp_path / "out" / "report.json").read_text())["meta"]["config"]["params"]
    assert (sampling["temperature"], sampling["top_k"], sampling["guidance"]) == (1.0, None, {"*": 2.0, "b": 0.0})


@pytest.mark.thorough
def test_an_interrupted_grid_continues_and_a_finished_one_grows(tmp_path: Path, monkeypatch, trained: list[str]) -> None:
    shards, config = make_shards(tmp_path / "shards", ("ab",)), EvaluationConfig(**SHORT)
    noting = stage.pretrain

    def interrupted(config, data, output, **options):
        if trained:
            raise KeyboardInterrupt
        return noting(config, data, output, **options)

    monkeypatch.setattr(stage, "pretrain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(variants("causal", "cm3"), [0], shards, tmp_path / "out", config)
    monkeypatch.setattr(stage, "pretrain", noting)
    compare(variants("causal", "cm3"), [0], shards, tmp_path / "out", config)
    assert trained == ["causal/seed-0", "cm3/seed-0"]
    done = compare(variants("causal", "cm3"), [0, 1], shards, tmp_path / "out", config)
    assert trained[2:] == ["causal/seed-1", "cm3/seed-1"]
    assert {row["seed"] for row in done.results} == {0, 1, None}


@pytest.mark.thorough
def test_pictures_and_recordings_are_those_of_the_first_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, config, out = make_shards(tmp_path / "shards", ("ab",)), EvaluationConfig(**SHORT), tmp_path / "out"
    compare(variants("causal"), [0], shards, out, config)
    for old in ("audio/text-to-speech/00-old.wav", "reconstructions-old.png", "texts.tsv"):
        (out / old).parent.mkdir(parents=True, exist_ok=True)
        (out / old).write_bytes(b"old")
    new = out / "seeds" / "0" / "audio" / "text-to-speech" / "00-new.wav"
    new.parent.mkdir(parents=True)
    new.write_bytes(b"new")
    compare(variants("causal"), [0], shards, out, config)
    assert [path.name for path in (out / "audio").rglob("*.wav")] == ["00-new.wav"]
    assert not (out / "reconstructions-old.png").exists() and not (out / "texts.tsv").exists()

    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(stage.shutil, "copytree", broken)
    with pytest.raises(OSError, match="no space"):
        compare(variants("causal"), [0], shards, out, config)
    assert [path.name for path in out.glob("audio/**/*.wav")] == ["00-new.wav"]


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path, mmtool, trained: list[str]) -> None:
    shards = make_shards(tmp_path / "shards")
    with pytest.raises(UsageError, match=r"no task 'imputation'.*retrieval"):
        compare(variants("causal"), [0], shards, tmp_path / "out", EvaluationConfig(tasks=("imputation",)))
    with pytest.raises(DataError, match="no held-out split"):
        compare(variants("causal"), [0], shards, tmp_path / "out", split="test")
    with pytest.raises(UsageError, match="Methods: causal"):
        compare({"mine": settings(method="gpt5")}, [0], shards, tmp_path / "out")
    with pytest.raises(UsageError, match=r"shape\.width.*33"):
        compare({"causal": settings(), "odd": replace(settings(), shape={"width": 33})}, [0], shards, tmp_path / "out")
    with pytest.raises(UsageError, match=r"--temperature.*no modality 'x-ray'"):
        compare(variants("causal"), [0], shards, tmp_path / "out", EvaluationConfig.of(temperature={"x-ray": 0.5}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        compare(variants("causal"), [0], shards, tmp_path / "mine")
    assert mmtool("compare", shards, "-o", tmp_path / "out").code == 2
    assert trained == [] and not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_other_settings_under_the_same_name_are_refused(tmp_path: Path) -> None:
    shards, config = make_shards(tmp_path / "shards", ("ab",)), EvaluationConfig(**SHORT)
    compare(variants("causal"), [0], shards, tmp_path / "out", config)
    with pytest.raises(UsageError, match="steps was 4, now 5"):
        compare({"causal": settings(method="causal", steps=5, checkpoint_every=0)}, [0], shards, tmp_path / "out", config)


def test_means_over_seeds_carry_students_interval() -> None:
    mean, low, high = mean_of_seeds("accuracy", [0.4, 0.5, 0.6])
    assert (mean, low, high) == pytest.approx((0.5, 0.5 - 4.3027 * 0.1 / 3**0.5, 0.5 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert mean_of_seeds("accuracy", [0.1, 0.9])[1:] == (0, 1)
    assert mean_of_seeds("perplexity", [10, 1000])[0] == pytest.approx(100)
    assert mean_of_seeds("effective robustness", [-0.1, 0.1])[1] < -0.5
    row = {"run": "a", "given": ["x"], "target": "y", "metric": "accuracy", "value": 0.3, "low": 0.2, "high": 0.4, "n": 9, "seed": 0}
    assert over_seeds([row]) == [{**row, "seeds": 1}]
    baseline = {**row, "run": "marginal sample", "seed": None}
    assert over_seeds([baseline, baseline]) == [{**baseline, "seeds": 1}]


def test_runs_of_the_same_seed_are_compared_with_each_other() -> None:
    def row(run: str, seed: int | None, metric: str, value: float):
        return {"run": run, "seed": seed, "metric": metric, "value": value, "given": ["a"], "target": "b", "seen": False, "n": 9}

    shares = {"ours": (0.5, 0.7, 0.9), "theirs": (0.6, 0.8, 1.0), "lone": (0.1,)}
    results = [row(run, seed, "accuracy", value) for run, values in shares.items() for seed, value in enumerate(values)]
    results += [row(run, seed, "perplexity", value) for run, value in (("ours", 2.0), ("theirs", 8.0)) for seed in (0, 1)]
    results.append(row("nearest neighbour", None, "accuracy", 0.9))
    found = {(each["run"], each["metric"]): each for each in paired_differences(results, "ours")}
    assert set(found) == {("theirs", "accuracy, difference"), ("theirs", "perplexity, ratio")}
    difference, ratio = found["theirs", "accuracy, difference"], found["theirs", "perplexity, ratio"]
    assert (difference["value"], difference["low"], difference["high"]) == pytest.approx((-0.1, -0.1, -0.1))
    assert (ratio["value"], ratio["low"], ratio["high"], ratio["seeds"]) == pytest.approx((0.25, 0.25, 0.25, 2))
    uneven = paired_differences([row("ours", seed, "accuracy", value) for seed, value in enumerate((0.2, 0.7))] + results[3:6], "ours")
    assert uneven[0]["low"] < -1 < uneven[0]["high"]  # -0.25 ± 12.7 standard errors: not cut at 0 or 1


def test_the_share_of_the_gap_to_the_oracle_that_a_run_closes() -> None:
    def rows(run: str, metric: str, values: tuple[float, ...], seen: bool = False):
        common = {"run": run, "metric": metric, "given": ["a"], "target": "b", "seen": seen, "n": 9}
        return [{**common, "seed": seed, "value": value, "low": 0.9 * value, "high": 1.1 * value} for seed, value in enumerate(values)]

    results = rows("commutative", "accuracy", (0.1, 0.2)) + rows("oracle", "accuracy", (0.9, 0.8), seen=True)
    results += rows("ours", "accuracy", (0.5, 0.8)) + rows("nearest neighbour", "accuracy", (0.9,))
    results += (
        rows("commutative", "perplexity", (16.0, 16.0)) + rows("oracle", "perplexity", (4.0, 4.0)) + rows("ours", "perplexity", (8.0, 8.0))
    )
    results += rows("commutative", "r2", (0.3,)) + rows("oracle", "r2", (0.32,)) + rows("ours", "r2", (0.4,))
    closed = {(row["run"], row["metric"]): row for row in gap_closed(results, "commutative", "oracle")}
    accuracy = closed["ours", "accuracy, share of the gap closed"]
    assert accuracy["value"] == pytest.approx((0.65 - 0.15) / (0.85 - 0.15)) and accuracy["seeds"] == 2
    assert accuracy["low"] < 0.5 and accuracy["high"] > 1  # seed 0 closes a half, seed 1 all of it
    perplexity = closed["ours", "perplexity, share of the gap closed"]
    assert (perplexity["value"], perplexity["low"], perplexity["high"]) == pytest.approx((0.5, 0.5, 0.5))  # of logarithms
    assert not any(metric.startswith("r2") for _, metric in closed)  # the oracle is not clearly ahead: there is no gap
    assert not any(run in ("commutative", "oracle") for run, _ in closed)
    alone = gap_closed([row for row in results if row["seed"] == 0], "commutative", "oracle")
    assert alone[0]["value"] == pytest.approx(0.5) and alone[0]["low"] is None  # no interval from one seed


def test_a_report_of_one_seed_tells_the_share_of_the_gap_without_an_interval(tmp_path: Path) -> None:
    row = {"run": "ours", "given": ["a"], "target": "b", "seen": False, "n": 9, "seed": None, "value": 0.5, "low": None, "high": None}
    closed, meta = [{**row, "metric": "accuracy, share of the gap closed"}], {"runs": [{"name": "ours"}]}
    write_document(tmp_path, [], meta, [by_direction(closed[0]["metric"], closed, meta)], gap_closed=closed)
    assert "| 50.0% |" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["gap_closed"][0]["low"] is None


def test_variants_and_seeds_are_read() -> None:
    assert read_variant("half:loretta:transitive_share=0.5,shape.depth=2,learning_rate=0.01") == (
        "half", "loretta", ["method.transitive_share=0.5", "shape.depth=2", "learning_rate=0.01"],
    )  # fmt: skip
    assert read_variant("plain:causal") == ("plain", "causal", [])
    assert read_seeds("2,0,2") == [2, 0]
    for wrong in ("loretta", ":loretta:a=1", "half:loretta:fast"):
        with pytest.raises(UsageError, match="--variant"):
            read_variant(wrong)
    with pytest.raises(UsageError, match="--seeds"):
        read_seeds("one")


@pytest.mark.thorough
def test_an_oracle_that_saw_the_pair_stands_beside_all_others(tmp_path: Path) -> None:
    shards, oracle = make_shards(tmp_path / "shards"), make_shards(tmp_path / "oracle", ("ab", "bc", "ac"))
    config = EvaluationConfig(**SHORT)
    done = compare(variants("commutative", "loretta"), [0, 1], shards, tmp_path / "out", config, oracle=oracle)
    of_pair = [row for row in done.rows if (row["given"], row["target"], row["metric"]) == (["a"], "c", "perplexity")]
    assert {row["run"]: row["seen"] for row in of_pair} == {"commutative": False, "loretta": False, "oracle": True}
    record = json.loads((tmp_path / "out/runs/oracle/seed-1/config.json").read_text())
    assert record["config"]["method"] == "commutative" and record["config"]["seed"] == 1
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| direction | commutative | loretta | oracle |" in text and "## loretta against the others" in text
    assert text.count("| **a → c** |") == text.count("| a → c |") + text.count("| **a → c** |") > 0  # one line, as never seen
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {row["run"] for row in report["gap_closed"]} <= {"loretta"} and report["meta"]["oracle"]["data"] == str(oracle)
    again = compare(variants("commutative", "loretta"), [0, 1], shards, tmp_path / "out", config, oracle=oracle)
    assert again.results == done.results


def test_shards_that_are_no_oracle_are_refused(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards")
    config = EvaluationConfig(**SHORT)
    with pytest.raises(UsageError, match="every pair of modalities that occurs together"):
        compare(variants("commutative"), [0], shards, tmp_path / "out", config, oracle=shards)
    with pytest.raises(UsageError, match="no column 'commutative'"):
        compare(variants("loretta"), [0], shards, tmp_path / "out", config, oracle=make_shards(tmp_path / "oracle", ("ab", "bc", "ac")))
    assert not (tmp_path / "out").exists()


def test_differences_are_headed_by_the_names_of_metrics_as_people_write_them() -> None:
    assert heading("category_accuracy, difference") == "Category accuracy, difference"
    assert heading("r2, share of the gap closed") == "R², share of the gap closed"
