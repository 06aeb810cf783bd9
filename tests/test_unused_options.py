"""An option that has no effect on what is asked for is refused, by its name, and defaults are not: nothing is passed over in silence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Raw, Result
from test_errors_cli import assert_refused

from mmtool.training.config import FinetuneConfig
from mmtool.training.finetune import finetune

Mmtool = Callable[..., Result]


@pytest.fixture(scope="module")
def finetuned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finetuned") / "run"
    finetune(FinetuneConfig(label="colour", steps=2), project / "run", project / "shards", out)
    return out


def options_of(*words: object) -> list[str]:
    return [word for word in map(str, words) if word.startswith("--")]


@pytest.mark.parametrize("unused", [
    ["--preset", "tiny"], ["--batch-tokens", 512], ["--task", "probe"], ["--train-limit", 9], ["--contact-samples", 1], ["--max-donors", 9],
    ["--ood", "class=1"], ["--reconstructions"], ["--mask-ratio", 0.5], ["--raw", "a=a.csv"], ["--key-column", "id"], ["--draws", 2],
    ["--temperature", 0.3], ["--top-k", 3], ["--guidance", 2],
])  # fmt: skip
def test_compare_of_adapters(mmtool: Mmtool, tmp_path: Path, unused: list[object]) -> None:
    command = ["compare", "shards", "--encoder", "a=run", "--label", "class", "--methods", "zeros", "-o", tmp_path / "out"]
    assert_refused(mmtool(*command, *unused), 2, f"{unused[0]} has no effect with --encoder. Leave it out.")


def test_several_are_named_at_once_and_a_default_that_is_given_counts(mmtool: Mmtool, tmp_path: Path) -> None:
    done = mmtool("compare", "shards", "--encoder", "a=run", "--draws", 1, "--top-k", 3, "--preset", "tiny", "-o", tmp_path / "out")
    assert_refused(done, 2, "--preset, --draws and --top-k have no effect with --encoder. Leave them out.")


@pytest.mark.parametrize("unused", [["--kind", "single"], ["--missing-rate", 0.5], ["--missing", "a"], ["--num-missing", 2]])
def test_compare_of_runs(mmtool: Mmtool, tmp_path: Path, unused: list[object]) -> None:
    command = ["compare", "shards", "--methods", "causal", "-o", tmp_path / "out"]
    assert_refused(mmtool(*command, *unused), 2, f"{unused[0]} has no effect without --encoder")
    assert_refused(mmtool(*command, "--key-column", "id"), 2, "--key-column has no effect without --raw")


@pytest.mark.parametrize(("asked", "unused", "reason"), [
    (["DATA"], ["--format", "npz"], "without --space embedding"),
    (["DATA"], ["--encoder", "text=run"], "without --space embedding"),
    (["DATA"], ["--key-column", "id"], "without --raw"),
    (["DATA"], ["--text-column", "note"], "without --raw"),
    (["DATA"], ["--clip", 3], "without --raw"),
    (["DATA"], ["--max-donors", 9], "without --donors"),
    (["DATA", "--donors", "DATA"], ["--temperature", 1], "with --donors"),
    (["--raw", "text=NOTES"], ["--split", "test"], "with --raw"),
    *((["DATA", "--space", "embedding"], unused, "with --space embedding") for unused in (
        ["--raw", "text=notes.csv"], ["--draws", 8], ["--seed", 1], ["--no-confidence"], ["--donors", "DATA"], ["--max-donors", 9],
        ["--temperature", 0.3], ["--top-k", 3], ["--guidance", 2], ["--key-column", "id"], ["--text-column", "note"], ["--clip", 3],
    )),
    (["DATA"], ["--only-missing"], "without --want"),
])  # fmt: skip
def test_impute(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path, asked: list[str], unused: list[object], reason: str) -> None:
    known = {"DATA": str(project / "shards"), "text=NOTES": f"text={raw.notes}"}
    words = [known.get(str(word), word) for word in (*asked, *unused)]
    assert_refused(mmtool("impute", project / "run", *words, "-o", tmp_path / "out"), 2, f"{unused[0]} has no effect {reason}")
    assert not (tmp_path / "out").exists()


def test_impute_of_a_label(mmtool: Mmtool, project: Path, finetuned: Path, tmp_path: Path) -> None:
    command = ["impute", finetuned, project / "shards", "--have", "lab", "-o", tmp_path / "out"]
    drawn = ["--draws", 8, "--temperature", 0.3, "--guidance", 2, "--top-k", 3, "--no-confidence", "--seed", 1]
    done = mmtool(*command, "--want", "colour", *drawn)
    assert_refused(done, 2, *options_of(*drawn), "have no effect where only a label is wanted")
    assert mmtool(*command, "--want", "text", *drawn).code == 0, "a modality is drawn"
    assert mmtool(*command, "--want", "colour", "--force").code == 0


@pytest.mark.parametrize(("asked", "unused", "reason"), [
    ([], ["--missing-rate", 0.5], "where no adapter is evaluated"),
    ([], ["--encoder", "text=run"], "where no adapter is evaluated"),
    ([], ["--key-column", "id"], "without --raw"),
    ([], ["--mask-ratio", 0.5], "without --task reconstruct"),
    (["--task", "impute,probe"], ["--ood", "colour=red"], "without --task ood"),
    (["--reconstructions"], ["--candidates", 9], "without --task retrieval"),
    (["--task", "ood"], ["--max-donors", 9], "without --task donors"),
])  # fmt: skip
def test_evaluate_of_runs(mmtool: Mmtool, tmp_path: Path, asked: list[str], unused: list[object], reason: str) -> None:
    done = mmtool("evaluate", "run", "shards", *asked, *unused, "-o", tmp_path / "out")
    assert_refused(done, 2, f"{unused[0]} has no effect {reason}")


def test_evaluate_of_adapters(mmtool: Mmtool, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter.json").write_text("{}")
    unused = ["--task", "probe", "--label", "class", "--raw", "a=a.csv", "--survival", "days,event", "--draws", 2, "--train", "shards"]
    done = mmtool("evaluate", tmp_path / "adapter", "shards", *unused, "-o", tmp_path / "out")
    assert_refused(done, 2, *options_of(*unused), "have no effect where adapters are evaluated")


@pytest.mark.parametrize(("asked", "unused", "reason"), [
    ([], ["--keep-unpaired"], "without --pair"),
    (["--align", "colour", "--pair", "text,lab"], ["--keep-unpaired"], "with --align"),
    ([], ["--num-missing", 1], "without --missing-rate RATE"),
    (["--missing-rate", "text=0.5"], ["--num-missing", 1], "without --missing-rate RATE"),
    ([], ["--apply-to", "test"], "without --pair or --missing-rate"),
    ([], ["--pairs-per-class", 9], "without --align"),
    ([], ["--aligned-per-class", 9], "without --align"),
    ([], ["--key-column", "id"], "without --labels"),
])  # fmt: skip
def test_shard(mmtool: Mmtool, project: Path, tmp_path: Path, asked: list[str], unused: list[object], reason: str) -> None:
    command = ["shard", project / "text.tar", project / "lab.tar", *asked]
    assert_refused(mmtool(*command, *unused, "-o", tmp_path / "out"), 2, f"{unused[0]} has no effect {reason}")
    done = mmtool(*command, "--samples-per-shard", 9, "-o", tmp_path / "out.tar")
    assert_refused(done, 2, "--samples-per-shard has no effect where no directory is written")
    assert not list(tmp_path.iterdir())


def test_what_has_an_effect_is_taken(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    tars = [project / "text.tar", project / "lab.tar"]
    assert mmtool("shard", *tars, "--missing-rate", 0.5, "--num-missing", 1, "--apply-to", "train", "-o", tmp_path / "holes").code == 0
    assert mmtool("shard", *tars, "--pair", "text,lab", "--keep-unpaired", "--samples-per-shard", 9, "-o", tmp_path / "pairs").code == 0
    command = ["evaluate", "no-run", project / "shards", "--candidates", 9, "--max-donors", 9, "--ood", "colour=red"]
    done = mmtool(*command, "--task", "all", "--mask-ratio", 0.5, "-o", tmp_path / "report")
    assert_refused(done, 1, "no-run")
