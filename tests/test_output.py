"""`--force` replaces what the toolkit wrote, and empty places: nobody's other files, nothing behind a link, nothing that is read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_storage import contents, crash_at, listed

from mmtool.artefacts import ARTEFACTS, CHECKPOINT, MARKS, TOKENIZER, TOKENS
from mmtool.common.artefact_files import KINDS, is_tokenizer
from mmtool.common.errors import UsageError
from mmtool.common.output import OutputPath, begin_or_continue
from mmtool.common.storage import PARTIAL, write_json

Mmtool = Callable[..., object]
RECORD = {"format": "mmtool-comparison/1", "data": "abc"}


def directory(path: Path, force: bool = True, inputs: tuple[Path, ...] = ()) -> None:
    with OutputPath(path, force, inputs).directory() as folder:
        (folder / "new").write_text("new")


def file(path: Path, force: bool = True, inputs: tuple[Path, ...] = ()) -> None:
    with OutputPath(path, force, inputs).file() as opened:
        opened.write(b"new")


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of the project, to be damaged."""
    return Path(shutil.copytree(project, tmp_path / "project"))


# files


def test_a_file_of_ours_is_replaced_with_force_alone(copied: Path) -> None:
    (copied / "rejects").write_text('{"file":"a.png","key":null,"reason":"cut"}\n')
    (copied / "empty").touch()
    for path in (copied / "text.tar", copied / "run/tokenizers/text.safetensors", copied / "rejects", copied / "empty"):
        before = path.read_bytes()
        with pytest.raises(UsageError, match=r"exists already.*pass --force"):
            file(path, force=False)
        assert path.read_bytes() == before
        file(path)
        assert path.read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"a novel", b"\x93NUMPY", b'{"file": "mine"}\n', b"{}", b"[" * 100_000, bytes(600)])
def test_a_file_of_somebody_else_is_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kept.tar"
    path.write_bytes(content)
    for force in (False, True):
        with pytest.raises(UsageError, match=r"not written by mmtool.*--force"):
            file(path, force)
    assert path.read_bytes() == content and listed(tmp_path) == ["kept.tar"]


def test_other_models_weights_are_no_tokenizer(tmp_path: Path) -> None:
    from safetensors.numpy import save

    (tmp_path / "model.safetensors").write_bytes(save({}, {"format": "pt"}))
    assert not is_tokenizer(tmp_path / "model.safetensors")


def test_a_file_replaces_no_folder_link_or_pipe(tmp_path: Path, copied: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.tar").symlink_to(copied / "text.tar")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "folder", "link.tar", "dangling"):
        with pytest.raises(UsageError, match="--force"):
            file(tmp_path / name)
    assert (tmp_path / "link.tar").is_symlink() and not (tmp_path / "nothing").exists()


def test_a_list_beside_the_tokens_that_is_not_ours_is_kept(tmp_path: Path, raw, mmtool) -> None:
    notes = tmp_path / "lab.tar.rejects.jsonl"
    notes.write_text("my own notes\n")
    done = mmtool("tokenize", "table", raw.values, "--fit", "-o", tmp_path / "lab.tar")
    assert done.code == 2 and str(notes) in done.err
    assert notes.read_text() == "my own notes\n" and not (tmp_path / "lab.tar").exists()


# directories


def test_an_artefact_is_replaced_with_force_alone(copied: Path, toy: Path, tmp_path: Path) -> None:
    gallery = Path(shutil.copytree(toy / "contrastive", tmp_path / "contrastive"))
    split = Path(shutil.copytree(copied / "shards/train", tmp_path / "train"))
    for path in (copied / "run", copied / "shards", split, gallery):
        before = contents(path)
        with pytest.raises(UsageError, match=r"exists already.*pass --force"):
            directory(path, force=False)
        assert contents(path) == before
        directory(path)
        assert listed(path) == ["new"]


def test_what_was_only_begun_is_replaced(copied: Path, tmp_path: Path) -> None:
    for name in ("checkpoints", "tokenizers"):
        shutil.rmtree(copied / "run" / name)
    (copied / "run/metrics.jsonl").unlink()
    (copied / f"run/.values.safetensors{PARTIAL}1").write_bytes(b"half")
    begin_or_continue(OutputPath(tmp_path / "comparison"), "comparison.json", RECORD)
    shutil.copytree(copied / "run", tmp_path / "comparison/runs/cm3/seed-0")
    only_left = tmp_path / "left"
    only_left.mkdir()
    (only_left / f".comparison.json{PARTIAL}1").write_bytes(b"half")
    for path in (copied / "run", tmp_path / "comparison", only_left):
        directory(path)
        assert listed(path) == ["new"]


@pytest.mark.parametrize("name", ["thesis.tex", "tokenizers/mine.txt", "checkpoints/00000002/notes/a.md", ".hidden"])
def test_a_foreign_file_in_an_artefact_is_named_and_kept(copied: Path, name: str) -> None:
    (copied / "run" / name).parent.mkdir(parents=True, exist_ok=True)
    (copied / "run" / name).write_text("mine")
    before = contents(copied / "run")
    with pytest.raises(UsageError, match=f"{name}.*did not write.*Move that file away"):
        directory(copied / "run")
    assert contents(copied / "run") == before


@pytest.mark.parametrize("name", ["train/00007.tar", "test/00001.tar"])
def test_a_foreign_file_with_the_name_of_a_shard_is_kept(copied: Path, name: str) -> None:
    path = copied / "shards" / name
    for content in (b"my own photographs", (copied / "text.tar").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"holds {name}, which mmtool did not write"):
            directory(copied / "shards")
        assert path.read_bytes() == content


def test_a_shard_that_somebody_replaced_is_kept(copied: Path) -> None:
    path = copied / "shards/train/00000.tar"
    path.write_bytes(b"my own photographs")
    with pytest.raises(UsageError, match=r"train/00000\.tar"):
        directory(copied / "shards")
    assert path.read_bytes() == b"my own photographs"


def test_foreign_weights_among_the_tokenizers_of_a_run_are_kept(copied: Path) -> None:
    path = copied / "run/tokenizers/mine.safetensors"
    path.write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"tokenizers/mine\.safetensors"):
        directory(copied / "run")
    assert path.read_bytes() == b"weights"


def test_a_link_in_an_artefact_is_foreign(copied: Path, tmp_path: Path) -> None:
    shutil.move(copied / "run/checkpoints", tmp_path / "scratch")
    (copied / "run/checkpoints").symlink_to(tmp_path / "scratch")
    with pytest.raises(UsageError, match="the folder holds checkpoints, "):
        directory(copied / "run")
    assert listed(tmp_path / "scratch")


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "mine"},
        {"config.json": '{"model_type": "bert"}', "tokenizer.json": "{}"},
        {"config.json": '{"model_type": "bert"}'},
        {"report.json": "{}", "report.md": "mine"},
        {"imputed.jsonl": "mine"},
        {"run/config.json": '{"format": "mmtool-run/1"}'},
    ],
)
def test_a_folder_of_somebody_else_is_kept(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    before = contents(tmp_path)
    for force in (False, True):
        with pytest.raises(UsageError, match="--force"):
            directory(tmp_path / "out", force)
    assert contents(tmp_path) == before


def test_imputed_files_are_those_that_their_list_names(tmp_path: Path) -> None:
    folder = tmp_path / "filled"
    (folder / "image").mkdir(parents=True)
    lines = [{"modality": "image", "key": key, "files": [f"image/{key}.png"]} for key in "ab"]
    (folder / "imputed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for key in "abc":
        (folder / "image" / f"{key}.png").touch()
    with pytest.raises(UsageError, match=r"image/c\.png"):
        directory(folder)
    (folder / "image/c.png").unlink()
    directory(folder)
    assert listed(folder) == ["new"]


def test_a_directory_replaces_no_file_and_no_link(tmp_path: Path, copied: Path) -> None:
    (tmp_path / "run").symlink_to(copied / "run")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    for path in (copied / "text.tar", tmp_path / "run", tmp_path / "nowhere", Path()):
        with pytest.raises(UsageError):
            directory(path)
    assert (copied / "text.tar").is_file() and (copied / "run/config.json").is_file() and not (tmp_path / "nothing").exists()


def test_free_and_empty_places_are_written_without_force(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new/parents/too"):
        directory(path, force=False)
        assert listed(path) == ["new"]


def test_what_came_into_the_folder_during_the_work_is_kept(copied: Path) -> None:
    with pytest.raises(UsageError, match=r"notes\.txt"), OutputPath(copied / "run", force=True).directory():
        (copied / "run/notes.txt").write_text("mine")
    assert (copied / "run/notes.txt").read_text() == "mine" and (copied / "run/config.json").exists()


def test_beginning_anew_keeps_the_old_until_the_new_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    begin_or_continue(OutputPath(path), "comparison.json", RECORD)
    write_json(path / "seeds/0/asked.json", {})
    before, number, begun = contents(path), 0, False
    while not begun:
        number += 1
        with crash_at(monkeypatch, number):
            begin_or_continue(OutputPath(path, force=True), "comparison.json", {**RECORD, "data": "def"})
            begun = True
        if not begun:
            assert contents(path) in (before, {name: contents(path)[name] for name in ["comparison.json"]})
    assert number > 3 and json.loads((path / "comparison.json").read_text())["data"] == "def" and listed(path) == ["comparison.json"]


# inputs


def test_an_output_that_is_or_holds_an_input_is_refused(copied: Path, tmp_path: Path) -> None:
    comparison = tmp_path / "comparison"
    begin_or_continue(OutputPath(comparison), "comparison.json", RECORD)
    shutil.copytree(copied / "run", comparison / "runs/cm3/seed-0")
    (tmp_path / "elsewhere").symlink_to(comparison / "runs/cm3/seed-0")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/linked").symlink_to(comparison / "runs/cm3")
    for source, output in (
        (copied / "run", copied / "run"),
        (copied / "run/../run", copied / "shards/../run"),
        (comparison / "runs/cm3/seed-0", comparison),
        (tmp_path / "elsewhere", comparison),
        (tmp_path / "sources", comparison),
    ):
        before = contents(output)
        with pytest.raises(UsageError) as refused:
            directory(output, inputs=(source,))
        assert str(source) in str(refused.value) and str(output) in str(refused.value)
        assert contents(output) == before
    for source in (copied / "text.tar", tmp_path / "linked.tar"):
        if not source.exists():
            source.symlink_to(copied / "text.tar")
        with pytest.raises(UsageError, match=r"is the input .*\.tar"):
            file(copied / "text.tar", inputs=(source,))


def test_a_part_of_an_input_is_kept_and_a_place_beside_its_files_is_free(copied: Path) -> None:
    shards, run = copied / "shards", copied / "run"
    for output, source in ((shards / "train", shards), (run / "checkpoints", run)):
        with pytest.raises(UsageError):
            directory(output, inputs=(source,))
    with pytest.raises(UsageError, match="a part of the input"):
        file(run / "tokenizers/text.safetensors", inputs=(run,))
    for _ in range(2):  # a report within the shards it is of
        with OutputPath(shards / "validation/report", True, (run, shards / "validation")).directory() as folder:
            write_json(folder / "report.json", {"format": "mmtool-report/1"})
    with pytest.raises(UsageError, match=r"validation/report/report\.json"):
        directory(shards)


def test_no_verb_replaces_what_it_reads(copied: Path, raw, mmtool, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    shutil.copytree(copied, thesis)
    shutil.copy(raw.values, thesis / "values.csv")
    run, shards, before = thesis / "run", thesis / "shards", contents(thesis)
    for command in (
        ("tokenize", "table", thesis / "values.csv", "--fit"),
        ("tokenize", "table", thesis / "values.csv", "--fit", "--save-tokenizer", thesis),
        ("shard", thesis / "text.tar", thesis / "lab.tar"),
        ("pretrain", shards, "--method", "cm3"),
        ("finetune", run, shards, "--label", "colour"),
        ("adapt", shards, "--encoder", f"text={run}", "--label", "colour"),
        ("impute", run, shards, "--have", "text", "--want", "lab"),
        ("impute", run, "--raw", f"lab={thesis / 'values.csv'}", "--want", "text"),
        ("evaluate", run, shards),
        ("compare", shards, "--methods", "cm3"),
    ):
        output = tmp_path / "new.tar" if "--save-tokenizer" in command else thesis
        done = mmtool(*command, "-o", output, "--force")
        assert done.code == 2 and str(thesis) in done.err and "--force" in done.err, command
        assert contents(thesis) == before, command
    for command in (("finetune", run, shards, "--label", "colour"), ("impute", run, shards), ("evaluate", run, shards)):
        done = mmtool(*command, "-o", run, "--force")
        assert done.code == 2 and f"the input {run}" in done.err and contents(thesis) == before, command


def test_raw_tables_in_the_output_are_kept(copied: Path, raw, mmtool, tmp_path: Path) -> None:
    filled = tmp_path / "filled"
    assert mmtool("impute", copied / "run", copied / "shards", "--have", "text", "--want", "lab", "-o", filled).code == 0
    before, raw_table = contents(filled), f"lab={filled / 'lab.csv'}"
    for command in (("evaluate", copied / "run", copied / "shards"), ("compare", copied / "shards", "--methods", "cm3")):
        done = mmtool(*command, "--raw", raw_table, "-o", filled, "--force")
        assert done.code == 2 and "lab.csv" in done.err and contents(filled) == before


def test_every_artefact_that_info_knows_has_its_files_listed() -> None:
    marks = {Path(mark).name for kind in KINDS for mark in kind.marks}
    assert {mark for mark, sort in MARKS.items() if sort != CHECKPOINT} <= marks
    assert set(ARTEFACTS) == {*MARKS.values(), TOKENIZER, TOKENS}


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_what_is_no_name_is_no_output(tmp_path: Path, mmtool, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "values.csv").write_text("key,a,b\nx,1,2\ny,3,5\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = mmtool("tokenize", "table", tmp_path / "values.csv", "--fit", "-o", name)
    assert done.code == 2 and "no name of an output" in done.err


def test_a_url_with_a_slash_too_few_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for check in (OutputPath(Path("s3:/bucket/a.tar")).check_file, OutputPath(Path("file:/tmp/run")).check_directory):
        with pytest.raises(UsageError, match="a slash too few"):
            check()
    (tmp_path / "s3:").mkdir()
    OutputPath(Path("s3:/a.tar")).check_file()
