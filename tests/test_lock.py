"""Two processes on one output: one writes, the other is told who does. A lock that a dead process left is taken over, with a line."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Result
from test_storage import contents, inputs, listed  # noqa: F401

from mmtool.common import lock, storage
from mmtool.common.errors import UsageError
from mmtool.common.lock import locked, one_writer
from mmtool.common.storage import PARTIAL
from mmtool.data.shards import open_token_set

Mmtool = Callable[..., Result]
HOLDER = """
import sys
from pathlib import Path
from mmtool.common.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(output: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes an output."""
    command = [sys.executable, "-c", HOLDER, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("")


def lock_of(output: Path) -> Path:
    return output.with_name(f".{output.name}{PARTIAL}lock")


def write_lock(output: Path, host: str, age_s: float = 0.0) -> None:
    lock_of(output).write_text(json.dumps({"host": host, "pid": 1, "started": "2026-11-27 10:00:00 UTC"}))
    os.utime(lock_of(output), (time.time() - age_s,) * 2)


def test_two_shards_at_once_one_wins_one_exits_2(inputs: list[Path], tmp_path: Path, mmtool: Mmtool) -> None:  # noqa: F811
    command = ["shard", *inputs, "-o", tmp_path / "shards"]
    with held(tmp_path / "shards") as process:
        done = mmtool(*command)
        assert done.code == 2
        assert f"another process is writing this output (process {process.pid} on {socket.gethostname()}, started 2" in done.err
        assert not (tmp_path / "shards").exists()
    assert mmtool(*command).code == 0 and len(open_token_set(tmp_path / "shards"))
    assert listed(tmp_path) == ["in", "shards"]


def test_two_pretrains_at_once_one_wins_one_exits_2(project: Path, tmp_path: Path, mmtool: Mmtool) -> None:
    command = [
        "pretrain",
        project / "shards",
        "-o",
        tmp_path / "run",
        "--preset",
        "tiny",
        "--steps",
        1,
        "--set",
        "shape.depth=1",
        "--no-compile",
    ]
    with held(tmp_path / "run"):
        assert mmtool(*command).code == 2
        assert mmtool(*command, "--force").code == 2
    assert mmtool(*command).code == 0 and listed(tmp_path) == ["run"]
    before = contents(tmp_path / "run")
    with held(tmp_path / "run"):
        assert mmtool(*command).code == 2
    assert contents(tmp_path / "run") == before


def test_the_lock_of_a_killed_process_is_taken_over_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(tmp_path / "out") as process:
        process.kill()
        process.wait()
        assert lock_of(tmp_path / "out").exists()
        with locked(tmp_path / "out"):
            assert json.loads(lock_of(tmp_path / "out").read_text())["pid"] == os.getpid()
        assert f"taking over from process {process.pid} on {socket.gethostname()}" in capsys.readouterr().err
    assert listed(tmp_path) == []


def test_the_lock_of_another_host_holds_while_it_is_renewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path / "out", "elsewhere", age_s=lock.RENEWED_EVERY_S)
    refused = rf"process 1 on elsewhere.*delete {lock_of(tmp_path / 'out')}"
    with pytest.raises(UsageError, match=refused), locked(tmp_path / "out"):
        pass
    assert listed(tmp_path) == [lock_of(tmp_path / "out").name]
    write_lock(tmp_path / "out", "elsewhere", age_s=2 * lock.GIVEN_UP_AFTER_S)
    with locked(tmp_path / "out"):
        assert "taking over from process 1 on elsewhere" in capsys.readouterr().err
    assert listed(tmp_path) == []


def test_a_lock_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWED_EVERY_S", 0.01)
    with locked(tmp_path / "out"):
        os.utime(lock_of(tmp_path / "out"), (0, 0))
        give_up = time.monotonic() + 120
        while lock_of(tmp_path / "out").stat().st_mtime == 0 and time.monotonic() < give_up:
            time.sleep(0.01)
        assert lock_of(tmp_path / "out").stat().st_mtime > 0


def test_a_file_system_without_locks_goes_by_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with held(tmp_path / "out") as process, pytest.raises(UsageError, match=f"process {process.pid}"), locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "out"):
        pass


@pytest.mark.parametrize("pid", [None, "x", 0, -1, 10**30])
def test_a_lock_of_no_process_is_one_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: object) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)  # so that it goes by what is written
    lock_of(tmp_path / "out").write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))
    with locked(tmp_path / "out"):
        pass
    assert listed(tmp_path) == []


def test_a_damaged_lock_is_one_of_nobody(tmp_path: Path) -> None:
    lock_of(tmp_path / "out").write_bytes(b"\xff[")
    with locked(tmp_path / "out"):
        pass
    assert listed(tmp_path) == []


def test_folders_that_were_made_for_a_lock_go_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "a/b/out"):
        assert (tmp_path / "a/b").is_dir()
        raise KeyError
    assert listed(tmp_path) == []
    with locked(tmp_path / "a/b/out"):
        (tmp_path / "a/b/out").write_text("kept")
    assert (tmp_path / "a/b/out").exists()


def test_the_first_process_of_a_distributed_training_holds_the_lock_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(tmp_path / "out"):
        monkeypatch.setenv("RANK", "1")
        with locked(tmp_path / "out"):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(UsageError), locked(tmp_path / "out"):
            pass


def test_standard_output_has_no_lock() -> None:
    assert one_writer(lambda output: output)(None) is None


def test_what_writers_on_another_host_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    here = tmp_path / f".run[1]{PARTIAL}{storage._host()}-{dead}"
    here.write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(storage.socket, "gethostname", lambda: "elsewhere")
        there = tmp_path / f".run[1]{PARTIAL}{storage._host()}-{dead}"
        there.write_text("half")
    storage.clean_folder(tmp_path)
    assert listed(tmp_path) == [there.name]


def test_a_checkpoint_that_is_half_deleted_is_an_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "00000001").mkdir()
    (tmp_path / "00000001/state.json").write_text("{}")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage.shutil, "rmtree", killed)
        storage.remove_directory(tmp_path / "00000001")
    assert not (tmp_path / "00000001").exists() and len(listed(tmp_path)) == 1
    storage.clean_folder(tmp_path)
    assert listed(tmp_path) == []
