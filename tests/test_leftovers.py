"""Promise: what interrupted commands left behind is named by `lint` and removed by `lint --repair`; whatever else is there stays."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from conftest import Result
from test_lock import held, lock_of, write_lock
from test_storage import KILLED, contents, listed

import mmtool as package
from mmtool.common import storage
from mmtool.common.errors import UsageError
from mmtool.common.leftovers import leftovers
from mmtool.common.lock import locked
from mmtool.common.storage import PARTIAL

Mmtool = Callable[..., Result]
KILLED_WITH_LOCK = f"""
import sys
from mmtool.common.lock import locked
with locked(sys.argv[1]):
{indent(KILLED, "    ")}
"""
KILLED_IN_A_DELETION = """
import os, sys
from pathlib import Path
from mmtool.common import storage
def rmtree(path):
    (Path(path) / "model.safetensors").unlink()
    os.kill(os.getpid(), 9)
storage.shutil.rmtree = rmtree
storage.remove_directory(Path(sys.argv[1]))
"""


def killed(program: str, *arguments: object) -> None:
    assert subprocess.run([sys.executable, "-c", program, *map(str, arguments)]).returncode == -9


def dead_process() -> str:
    return subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder of outputs that were never finished, with brackets in their names, and a run with a checkpoint that is half deleted."""
    for name in ("text[1].tar", "run[a-z]"):
        killed(KILLED_WITH_LOCK, tmp_path / name, "file" if name.endswith("tar") else "directory")
    checkpoint = tmp_path / "other/checkpoints/00000001"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "state.json"):
        (checkpoint / name).write_text("{}")
    killed(KILLED_IN_A_DELETION, checkpoint)
    return tmp_path


def test_lint_names_what_was_left_and_repair_removes_it(damaged: Path, mmtool: Mmtool) -> None:
    before, left = contents(damaged), leftovers(damaged)
    assert len(left) == 5 and not (damaged / "other/checkpoints/00000001").exists()
    named = mmtool("lint", damaged)
    assert all(f"warning: {file}: " in named.err for file in left) and f"`mmtool lint --repair {damaged}` removes it" in named.err
    assert contents(damaged) == before
    repaired = mmtool("lint", "--repair", damaged)
    assert all(f"{file}: removed\n" in repaired.err for file in left) and "warning" not in repaired.err
    assert contents(damaged) == {} and listed(damaged) == ["other"] and listed(damaged / "other/checkpoints") == []


def test_what_stands_beside_an_output_is_named_with_it_alone(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = damaged / "text[1].tar"
    assert [file.name.startswith(".text[1].tar") for file in leftovers(output)] == [True, True]
    assert package.lint(output, repair=True) == [] and "removed" in capsys.readouterr().err
    assert package.lint(output, repair=True), "there is no such file"
    assert leftovers(output) == [] and len(leftovers(damaged)) == 3


def test_a_whole_artefact_stays_and_is_fine(project: Path, mmtool: Mmtool) -> None:
    before = contents(project / "run")
    left = project / f"run/checkpoints/.00000001{PARTIAL}{storage._host()}-{dead_process()}"
    left.mkdir()
    assert mmtool("lint", project / "run").code == 0 and left.exists()
    done = mmtool("lint", "--repair", project / "run", "--json")
    assert done.code == 0 and json.loads(done.out) == {str(project / "run"): []} and f"{left}: removed" in done.err
    assert contents(project / "run") == before and not left.exists()


def test_what_others_have_there_stays(tmp_path: Path, mmtool: Mmtool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of people, links, and what belongs to living processes or to another host."""
    dead = dead_process()
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/data").write_text("kept")
    (folder / f".link{PARTIAL}{storage._host()}-{dead}").symlink_to(tmp_path / "elsewhere")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    names = [f".x{PARTIAL}backup", f".x{PARTIAL}{dead}.txt", f"x{PARTIAL}{dead}", f".x{PARTIAL}00000000-{dead}"]
    for name in (*names, f"../elsewhere/.x{PARTIAL}{storage._host()}-{dead}"):
        (folder / name).write_text("kept")
    write_lock(folder / "y", "elsewhere", age_s=1e6)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        (folder / f".z{PARTIAL}{storage._host()}-{living.pid}").write_text("kept")
        before = contents(tmp_path)
        done = mmtool("lint", "--repair", folder)
        assert contents(tmp_path) == before and "removed" not in done.err and "warning" not in done.err
        living.communicate(b"\n")


def test_nothing_is_touched_below_what_is_being_written(tmp_path: Path, mmtool: Mmtool) -> None:
    """Not even what looks left over: the process that writes may be this one, under whose number another died before."""
    checkpoints = tmp_path / "run/checkpoints"
    checkpoints.mkdir(parents=True)
    mine = checkpoints / f".00000001{PARTIAL}{storage._host()}-{os.getpid()}"
    mine.write_text("half")
    with held(tmp_path / "run"):
        for path in (tmp_path, tmp_path / "run", checkpoints / "00000001"):
            assert "removed" not in mmtool("lint", "--repair", path).err and mine.exists() and lock_of(tmp_path / "run").exists()
    assert f"{mine}: removed" in mmtool("lint", "--repair", tmp_path).err and not mine.exists()


def test_what_was_set_aside_comes_back(tmp_path: Path, mmtool: Mmtool) -> None:
    old = tmp_path / f".shards{PARTIAL}old-{storage._host()}-{dead_process()}"
    old.mkdir()
    (old / "kept").write_text("kept")
    assert "put back as shards" in mmtool("lint", "--repair", tmp_path / "shards").err
    assert (tmp_path / "shards/kept").read_text() == "kept" and listed(tmp_path) == ["shards"]


def test_what_only_has_the_name_of_a_lock_or_a_temporary_file_is_somebodys(mmtool: Mmtool, tmp_path: Path) -> None:
    for name in (".y.partial-lock", ".notes.partial-2024", ".d.partial-99999999999999999999", ".q.partial-12"):
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.iterdir())
    mmtool("lint", tmp_path, "--repair")
    assert sorted(tmp_path.iterdir()) == before and leftovers(tmp_path) == []


def test_a_folder_in_the_place_of_a_lock_is_an_error_that_names_it(tmp_path: Path) -> None:
    lock_of(tmp_path / "a.tar").mkdir()
    with pytest.raises(UsageError, match="a folder stands where the lock"), locked(tmp_path / "a.tar"):
        pass
    assert leftovers(tmp_path) == leftovers(tmp_path / "a.tar") == []


def test_a_repaired_place_without_an_artefact_is_fine(damaged: Path, mmtool: Mmtool) -> None:
    assert mmtool("lint", damaged / "text[1].tar").code == 1
    done = mmtool("lint", damaged / "text[1].tar", "--repair")
    assert done.code == 0 and done.out == f"ok: {damaged / 'text[1].tar'}\n"
    assert mmtool("lint", damaged, "--repair").code == 0 and leftovers(damaged) == []
    assert mmtool("lint", damaged, "--repair").code == 1  # nothing was left to repair, and it is no artefact
