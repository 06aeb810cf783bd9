"""`evaluate --task`: any of the tasks, alone or together, in one report; what the labels do not allow is refused or left out in words."""

import json
from pathlib import Path

import pytest

from mmtool.common.errors import UsageError
from mmtool.common.output import OutputPath
from mmtool.evaluation.tasks import TASKS, possible_tasks


def test_help_names_every_task(mmtool) -> None:
    shown = " ".join(mmtool("evaluate", "-h").out.replace("│", " ").split())
    assert f"{', '.join(TASKS)}, or all" in shown


@pytest.mark.figures
@pytest.mark.slow
def test_all_tasks_make_one_report(mmtool, toy: Path, tmp_path: Path) -> None:
    runs = [toy / "commutative", toy / "contrastive"]
    command = ["evaluate", *runs, toy / "shards", "--task", "all", "--candidates", 20, "--contact-samples", 2, "--label", "class"]
    done = mmtool(*command, "-o", tmp_path / "report", "--json")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    left_out = ("reconstruct", "predict")  # which need runs that hide tokens, or have a head
    assert report["meta"]["tasks"] == [name for name in TASKS if name not in left_out]
    assert report["rows"] == json.loads(done.out.splitlines()[-1])["results"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in report["rows"])
    text = (tmp_path / "report" / "report.md").read_text()
    figures = {part.split(")")[0] for part in text.split("](")[1:]}
    assert figures == {path.name for path in (tmp_path / "report").glob("*.png")}
    OutputPath(tmp_path / "report", force=True).check_directory()  # nothing in it is foreign
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    shown = ["Retrieval", "Linear probes", "Robustness", "Confidence", "Donors", "Out-of-distribution detection", "Contact sheet"]
    assert headings[-7:] == [f"## {name}" for name in shown]


@pytest.mark.thorough
def test_a_task_may_be_asked_alone(mmtool, toy: Path, tmp_path: Path) -> None:
    done = mmtool("evaluate", toy / "commutative", toy / "shards", "--task", "probe,robustness", "-o", tmp_path / "report")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["meta"]["tasks"] == ["probe", "robustness"] and report["meta"]["upper_bounds"] == {
        "accuracy": {},
        "c_index": {},
        "c_index_stratified": {},
    }
    assert not (tmp_path / "report" / "contact_sheet.png").exists()


def test_an_unknown_task_is_refused(mmtool, toy: Path, tmp_path: Path) -> None:
    done = mmtool("evaluate", toy / "commutative", toy / "shards", "--task", "guess", "-o", tmp_path / "report")
    assert done.code == 2 and "retrieval" in done.err and not (tmp_path / "report").exists()


def test_without_a_label_the_rest_is_measured(capsys) -> None:
    assert possible_tasks(["all"], None, False) == ["impute", "retrieval", "donors"]
    assert "probe is left out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--label"):
        possible_tasks(["confidence"], None, False)
    assert possible_tasks(["all"], "age", True) == ["impute", "retrieval", "probe", "donors"]
    assert possible_tasks(["all"], "age", True, {"ood_samples", "head"}) == ["impute", "retrieval", "probe", "donors", "ood", "predict"]
