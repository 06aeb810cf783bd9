"""Whatever is written appears whole or not at all, wherever the writer dies, and what the dead left behind is cleaned up."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mmtool.common import storage
from mmtool.common.errors import UsageError
from mmtool.common.storage import PARTIAL, atomic_directory, atomic_file, sha256_bytes, sha256_file, write_bytes, write_json
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import open_token_set, write_stream
from mmtool.preprocessing.protocol import MissingnessProtocol
from mmtool.preprocessing.shard import shard

TOKENIZER = b"fitted"


class Crash(BaseException):
    """Stands for a kill: nothing may catch it and go on."""


def listed(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files below a folder, hidden ones too."""
    return {str(file.relative_to(folder)): sha256_file(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def token_tar(path: Path, name: str) -> Path:
    modality = Modality(name, "text", 100, None, "line", sha256_bytes(TOKENIZER), 0)
    items = [Sample(f"case{i}", {name: np.arange(i % 7)}, {"digit": i % 3}) for i in range(30)]
    with atomic_file(path) as file:
        write_stream(file, [modality], {name: TOKENIZER}, items)
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    return [token_tar(tmp_path / "in" / f"{name}.tar", name) for name in ("image", "text")]


@contextmanager
def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """The `number`-th flush or rename of `mmtool.common.storage` dies before it is done; the crash is caught here."""
    done = 0

    def dying(act: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: object) -> None:
            nonlocal done
            done += 1
            if done == number:
                raise Crash
            act(*arguments)

        return wrapped

    with monkeypatch.context() as patch, suppress(Crash):
        for name in ("fsync", "replace", "rename"):
            patch.setattr(os, name, dying(getattr(os, name)))
        yield


@pytest.mark.thorough
def test_a_crash_at_every_write_leaves_all_or_nothing(inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(output: Path, force: bool = False) -> bool:
        shard(inputs, output, protocol=MissingnessProtocol(missing_rate=0.5, seed=1), samples_per_shard=10, force=force)
        return True

    write(tmp_path / "whole")
    expected, finished, number = contents(tmp_path / "whole"), False, 0
    while not finished:
        number += 1
        folder = tmp_path / f"crash{number}"
        folder.mkdir()
        with crash_at(monkeypatch, number):
            finished = write(folder / "out")
        assert contents(folder) in ({}, {f"out/{name}": digest for name, digest in expected.items()})
        write(folder / "out", force=True)
        assert contents(folder / "out") == expected and listed(folder) == ["out"]
    assert number > 20


def test_a_crash_while_replacing_keeps_the_old_or_has_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(value: int) -> bool:
        write_json(tmp_path / "settings.json", value)
        with atomic_directory(tmp_path / "folder", force=True) as folder:
            write_json(folder / "settings.json", value)
        return True

    write(0)
    finished, value = False, 0
    while not finished:
        value += 1
        with crash_at(monkeypatch, value):
            finished = write(value)
        assert sorted(contents(tmp_path)) == ["folder/settings.json", "settings.json"]
        read = [json.loads((tmp_path / name).read_text()) for name in contents(tmp_path)]
        assert read[0] <= read[1] <= value
    assert value > 8 and read == [value, value]


KILLED = """
import os, sys
from pathlib import Path
from mmtool.common import storage
target, act = Path(sys.argv[1]), sys.argv[2]
with (storage.atomic_directory(target, True) if act == "directory" else storage.atomic_file(target, True)) as place:
    if act == "directory":
        (place / "half").write_bytes(b"half")
    else:
        place.write(b"half")
        place.flush()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("act", ["directory", "file"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, act: str) -> None:
    target = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target), act])
    assert killed.returncode == -9 and not target.exists()
    (orphan,) = listed(tmp_path)
    assert orphan.startswith(f".out{PARTIAL}")
    write_bytes(target, b"whole")
    assert listed(tmp_path) == ["out"] and target.read_bytes() == b"whole"


def test_a_living_writer_keeps_its_partial_file(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        living = tmp_path / f".out{PARTIAL}{storage._host()}-{other.pid}"
        living.write_bytes(b"half")
        write_bytes(tmp_path / "out", b"mine")
        assert living.exists()
        other.communicate(b"\n")
    write_bytes(tmp_path / "out", b"mine")
    assert not living.exists()


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "file") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "folder") as folder:
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt
    assert listed(tmp_path) == []


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    write_bytes(tmp_path / "out", b"old")
    with pytest.raises(UsageError, match="--force"):
        write_bytes(tmp_path / "out", b"new", force=False)
    with pytest.raises(UsageError, match="--force"), atomic_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_bytes() == b"old"
    write_bytes(tmp_path / "out", b"new", force=True)
    assert (tmp_path / "out").read_bytes() == b"new" and listed(tmp_path) == ["out"]


def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept").write_bytes(b"kept")
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(OSError):
        write_bytes(tmp_path / "folder", b"new", force=True)
    with pytest.raises(OSError), atomic_directory(tmp_path / "file", force=True):
        pass
    assert listed(tmp_path) == ["file", "folder"] and listed(tmp_path / "folder") == ["kept"]


@pytest.mark.parametrize("force", [False, True])
def test_what_came_there_meanwhile_is_kept(tmp_path: Path, force: bool) -> None:
    """The check is repeated at the commit."""
    asked = []

    def check() -> None:
        asked.append(1)
        if (tmp_path / "out").exists():
            raise UsageError("somebody else was faster")

    with pytest.raises(UsageError, match="faster"), atomic_file(tmp_path / "out", force, check) as file:
        file.write(b"ours")
        (tmp_path / "out").write_bytes(b"theirs")
    assert len(asked) == 2 and (tmp_path / "out").read_bytes() == b"theirs" and listed(tmp_path) == ["out"]


def test_replacing_shards_leaves_no_trace_of_the_old(inputs: list[Path], tmp_path: Path) -> None:
    shard(inputs, tmp_path / "out", samples_per_shard=2)
    shard(inputs, tmp_path / "out", samples_per_shard=100, force=True)
    assert [file.name for file in sorted((tmp_path / "out/train").iterdir())] == ["00000.tar", "index.json"]
    assert len(open_token_set(tmp_path / "out")) > 0 and listed(tmp_path) == ["in", "out"]


def test_canonical_json_has_one_form() -> None:
    assert storage.canonical_json({"b": 1, "a": ["ü", None]}) == '{"a":["ü",null],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.canonical_json(float("nan"))


def test_only_what_dead_writers_of_this_output_left_is_removed(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    dead = f"{storage._host()}-{dead}"
    kept = [".run.partial-backup", ".run1.partial-mine", f".runner.partial-{dead}", f".run1.partial-{dead}"]
    kept += [".run.partial-2024", ".run.partial-12"]  # a person's: writers name their host
    for name in (*kept, f".run.partial-{dead}", f".run[1].partial-{dead}", f".run.partial-{storage._host()}-9999999999"):
        (tmp_path / name).write_text("x")
    storage.clean_orphans(tmp_path / "run")
    storage.clean_orphans(tmp_path / "run[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_was_set_aside_by_a_writer_that_died_comes_back(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    old = tmp_path / f".run.partial-old-{storage._host()}-{dead}"
    old.mkdir()
    (old / "config.json").write_text("{}")
    storage.clean_orphans(tmp_path / "run")
    assert (tmp_path / "run/config.json").read_text() == "{}" and not old.exists()
