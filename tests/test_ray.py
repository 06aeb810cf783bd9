"""Samples are decoded on a Ray cluster with the same result as here, and a sample is all that a crash or a hang costs there, too."""

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Raw, Result
from PIL import Image

import mmtool
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import sha256_file
from mmtool.preprocessing import ray_workers
from mmtool.preprocessing.decoding import Decoding, Steps
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

Command = Callable[..., Result]
BAD, NUM_PICTURES, TIMEOUT_S = "007", 20, 5.0


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Each of one grey, which is its number."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(NUM_PICTURES):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def on_ray() -> Iterator[Decoding]:
    """Two workers on a Ray cluster of this machine."""
    ray = pytest.importorskip("ray", reason="the extra `ray`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else a busy machine keeps them waiting beyond what a sample may take
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with Decoding(engine="ray", timeout_s=TIMEOUT_S).opened() as decoding:
        yield decoding
    assert ray.is_initialized()  # it was not ours
    ray.shutdown()


def read(folder: Path, decoding: Decoding, each: Any = None, **options: Any) -> tuple[list[Item], list[Reject]]:
    rejects: list[Reject] = []
    items = list(read_items("image", [folder], SourceOptions(**options), rejects, decoding=decoding, steps=Steps(each)))
    return items, rejects


def test_without_ray_the_extra_is_named(pictures: Path, mmtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda name: None)
    command = ["tokenize", "image", pictures, "--fit", "--engine", "ray", "--timeout", 5, "-o", tmp_path / "out.tar"]
    refused = mmtool(*command)
    assert refused.code == 2 and "Ray is not installed" in refused.err and "pip install 'mmtool[ray]'" in refused.err
    assert not (tmp_path / "out.tar").exists()
    with pytest.raises(UsageError, match=r"mmtool\[ray\]"):
        read(pictures, Decoding(engine="ray"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "ray", "--workers", 2], "--workers: these are processes of this machine"),
        (["--ray-address", "auto"], "--ray-address: there is no Ray cluster without --engine ray"),
        (["--engine", "local", "--timeout", 5], "without --workers or --engine ray"),
        (["--engine", "dask"], "'dask'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_options_that_contradict_each_other(pictures: Path, mmtool: Command, tmp_path: Path, options: list[Any], said: str) -> None:
    refused = mmtool("tokenize", "image", pictures, "--fit", *options, "-o", tmp_path / "out.tar")
    assert refused.code == 2 and said in " ".join(refused.err.split()) and not (tmp_path / "out.tar").exists()


def test_nodes_that_cannot_take_part_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    host = ray_workers._Host()
    node, version, problem = host.greet(str(tmp_path / "of the other machine"))
    assert version == mmtool.__version__ and "of the other machine: No such file" in problem
    with pytest.raises(UsageError, match=f"the node {node} cannot read what this machine does"):
        ray_workers._checked(node, version, problem)
    with pytest.raises(UsageError, match=r"has mmtool 0\.0\.1"):
        ray_workers._checked(node, "0.0.1", "")
    assert ray_workers._checked(*host.greet(str(tmp_path))) == node


@pytest.mark.slow
@pytest.mark.parametrize("kind, settings, augment", [("image", {"size": 8, "steps": 2}, 1), ("text", {}, 0), ("table", {}, 0)])
def test_a_cluster_gives_the_same_bytes(
    raw: Raw, kind: str, settings: dict[str, Any], augment: int, on_ray: Decoding, tmp_path: Path
) -> None:
    path = {"image": raw.images, "text": raw.notes, "table": raw.values}[kind]
    for name, decoding in (("here", Decoding()), ("ray", on_ray)):
        tokenize(kind, [path], tmp_path / f"{name}.tar", name="m", settings=settings, augment=augment, decoding=decoding)
    again = tmp_path / "again.tar"  # with a fitted tokenizer, so that samples without variants are encoded on the cluster
    tokenize(kind, [path], again, name="m", tokenizer=tmp_path / "here.tar", decoding=on_ray)
    tokenize(kind, [path], tmp_path / "here-again.tar", name="m", tokenizer=tmp_path / "here.tar")
    assert sha256_file(tmp_path / "ray.tar") == sha256_file(tmp_path / "here.tar")
    assert sha256_file(again) == sha256_file(tmp_path / "here-again.tar")


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["abort", "killed", "hang"])
def test_a_decoder_that_does_harm_costs_its_sample(pictures: Path, harm: str, on_ray: Decoding) -> None:
    number = {"abort": signal.SIGABRT, "killed": signal.SIGKILL}.get(harm)

    def each(picture: np.ndarray) -> np.ndarray:
        if picture.flat[0] == int(BAD):
            faulthandler.disable()  # of pytest, whose traces nobody needs
            if number is None:
                ctypes.PyDLL(None).sleep(1000)  # as C does that never gives Python a chance
            else:
                os.kill(os.getpid(), number)
        return picture

    items, rejects = read(pictures, on_ray, each, on_error="skip")
    here, rejected_here = read(pictures, Decoding(2, TIMEOUT_S), each, on_error="skip")
    assert [item.key for item in items] == [item.key for item in here] and len(items) == NUM_PICTURES - 1
    assert all(item.value.flags.writeable and np.array_equal(item.value, other.value) for item, other in zip(items, here, strict=True))
    assert rejects == rejected_here and [reject.key for reject in rejects] == [BAD]
    with pytest.raises(DataError, match=rf"{BAD}\.png: "):
        read(pictures, on_ray, each)


@pytest.mark.slow
def test_a_ray_worker_that_dies_costs_nothing(pictures: Path, on_ray: Decoding, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def each(picture: np.ndarray) -> np.ndarray:
        if picture.flat[0] == int(BAD) and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return picture

    items, rejects = read(pictures, on_ray, each)
    assert mark.exists() and not rejects and [item.value.flat[0] for item in items] == list(range(NUM_PICTURES))


SCRIPT = """
import os, sys, time
from pathlib import Path
from mmtool.preprocessing.decoding import Decoding, Steps
from mmtool.preprocessing.sources import SourceOptions, read_items

folder, mark = map(Path, sys.argv[1:])

def hang(picture):
    mark.with_suffix(".part").write_text(str(os.getpid()))
    mark.with_suffix(".part").rename(mark)
    time.sleep(1000)

steps = Steps(hang if sys.argv[2] else None)
read = read_items("image", [folder], SourceOptions(), decoding=Decoding(engine="ray"), steps=steps)
import ray
print(len(list(read)), ray.is_initialized())
"""


def script(*arguments: object) -> "subprocess.Popen[str]":
    """Reads pictures on a Ray cluster that it starts."""
    pytest.importorskip("ray", reason="the extra `ray`")
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_ray_is_ended_where_it_was_started(pictures: Path) -> None:
    with script(pictures, "") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (0, f"{NUM_PICTURES} False\n"), err
    assert "Ray workers on 1 node read the files" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_ends_the_workers(pictures: Path, tmp_path: Path, number: signal.Signals) -> None:
    mark = tmp_path / "pid"
    with script(pictures, mark) as process:
        while not mark.exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number == signal.SIGTERM else -number), err
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(mark.read_text()), 0)
            time.sleep(0.1)
