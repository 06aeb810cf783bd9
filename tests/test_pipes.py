"""Stages chain through pipes in a real shell, and a failing upstream makes the downstream fail loudly and leave nothing behind."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Raw

from mmtool.preprocessing.tokenize import tokenize

MMTOOL = f"{shlex.quote(sys.executable)} -m mmtool"


@pytest.fixture(scope="module")
def lab(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "lab.tar"
    tokenize("table", [raw.values], path, name="lab")
    return path


@pytest.fixture
def place(tmp_path: Path, raw: Raw, lab: Path) -> Path:
    """A working directory that holds the raw files and lab.tar."""
    for path in (raw.notes, raw.values, lab):
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def shell(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a bash script with pipefail."""
    function = f'mmtool() {{ {MMTOOL} "$@"; }}\nset -o pipefail\n{script}'
    return subprocess.run(["bash", "-c", function], cwd=place, capture_output=True, text=True, check=False, timeout=120)


def left_behind(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} - {"notes.csv", "values.csv", "lab.tar"}


@pytest.mark.slow
def test_raw_files_to_a_run_without_a_file_between(place: Path) -> None:
    settings = "--method cm3 --preset tiny --steps 1 --batch-tokens 128 --set shape.depth=1 --no-compile"
    script = f"mmtool tokenize text notes.csv --fit -o - | mmtool shard lab.tar - -o - | mmtool pretrain - -o run {settings} --json"
    done = shell(script, place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 1
    assert left_behind(place) == {"run"}


def test_a_stream_holds_the_bytes_of_the_file(place: Path) -> None:
    done = shell("mmtool tokenize table values.csv --fit --name lab -o - --json > stream.tar", place)
    assert done.returncode == 0, done.stderr
    assert (place / "stream.tar").read_bytes() == (place / "lab.tar").read_bytes()
    assert json.loads(done.stderr.splitlines()[-1])["samples"] == 40


def test_info_reads_a_stream(place: Path) -> None:
    done = shell("mmtool shard lab.tar -o - | mmtool info - --json", place)
    assert json.loads(done.stdout)["samples"] == 40


def test_an_upstream_that_fails_fails_the_downstream(place: Path) -> None:
    script = "mmtool tokenize text none.csv --fit -o - | { mmtool shard lab.tar - -o shards; echo $? > code; exit 1; }"
    done = shell(script, place)
    assert done.returncode != 0
    assert (place / "code").read_text() == "1\n"
    assert "error: none.csv" in done.stderr
    assert "error: standard input" in done.stderr
    assert left_behind(place) == {"code"}


@pytest.mark.thorough
@pytest.mark.parametrize("stage", ["shard - -o shards", "pretrain - -o run --method cm3", "info -"])
def test_an_upstream_killed_in_the_middle_fails_the_downstream(place: Path, stage: str) -> None:
    half = (place / "lab.tar").stat().st_size // 2
    done = shell(f"(head -c {half} lab.tar; kill -9 $BASHPID) | {{ mmtool {stage}; echo $? > code; }}", place)
    assert done.returncode == 128 + 9
    assert (place / "code").read_text() == "1\n"
    assert "error: standard input: " in done.stderr and "upstream" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(place) == {"code"}


def test_a_stream_cut_at_a_member_boundary_is_refused(place: Path) -> None:
    """Every tar reader takes such a stream for whole; the end record tells."""
    script = "head -c -2048 lab.tar | mmtool shard - -o shards"  # without the end record and the end of the archive
    done = shell(script, place)
    assert done.returncode == 1 and "error: standard input: " in done.stderr
    assert not left_behind(place)


def test_a_downstream_that_leaves_is_no_traceback(place: Path) -> None:
    for script in ("mmtool tokenize table values.csv --fit -o - -q | head -c 10 > /dev/null", "mmtool info lab.tar | true"):
        done = shell(script, place)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert not left_behind(place)


def test_a_full_disk_is_one_error(place: Path) -> None:
    done = shell("mmtool tokenize table values.csv --fit -o - -q > /dev/full", place)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupt_is_one_line(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mmtool", "shard", "-", "-o", "shards"],
        cwd=place,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stderr
    process.stdin.write((place / "lab.tar").read_bytes()[:10240] * 20)  # more than a pipe holds: returns when it is being read
    process.stdin.flush()
    time.sleep(2)  # until it waits for more, on a busy machine too
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == b"interrupted.\n"
    assert not left_behind(place)
