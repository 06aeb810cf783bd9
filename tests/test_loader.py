"""The loader: the same batches whoever makes them, wherever it starts; a worker that dies says so; none outlives the training."""

import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import make_shards, same, settings, weights

from mmtool.common.errors import DataError, UsageError
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.loader import Loader
from mmtool.data.prefetch import Prefetch
from mmtool.data.randomness import generators
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.data.workers import Workers
from mmtool.methods import METHODS as METHODS_BY_NAME
from mmtool.methods.cm3 import CM3, CM3Options
from mmtool.methods.m3ae import M3AE, M3AEOptions
from mmtool.training.config import options_of
from mmtool.training.hardware import pick_workers
from mmtool.training.pretrain import pretrain

METHODS = {"cm3": (CM3, CM3Options()), "m3ae": (M3AE, M3AEOptions())}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("loader") / "shards")


def prefetch(data: TokenSet, name: str = "cm3", workers: int = 0, parts: int = 1) -> tuple[list[Loader], Prefetch]:
    cls, options = METHODS[name]
    method = cls(layout_of(data.modalities), CoOccurrence.of(data.present(i) for i in range(len(data))), options)
    batch = method.size_batches(list(data), 512, 0)
    packer = method.packer(batch)
    loaders = [Loader(data, np.arange(len(data)), packer, batch["window"], 7, part=part, parts=parts) for part in range(parts)]
    return loaders, Prefetch(loaders, method.plain_documents, workers)


def arrays(batch: object) -> list[bytes]:
    parts = vars(batch).values()
    return [part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode() for part in parts]


def test_generators_give_the_numbers_of_numpy() -> None:
    seeds = [0, 1, 2**32 - 1, 2**32, 2**64 - 1, 12345678901234567890]
    for seed, random in zip(seeds, generators(seeds), strict=True):
        expected = np.random.default_rng(seed)
        assert random.integers(1 << 62, size=5).tolist() == expected.integers(1 << 62, size=5).tolist()
        assert random.integers(9, dtype=np.int32) == expected.integers(9, dtype=np.int32), "half a word is left over"


@pytest.mark.parametrize("name", METHODS)
def test_workers_change_no_batch_wherever_the_stream_is_entered(shards: Path, name: str) -> None:
    data, seen = open_token_set(shards, split="train"), []
    for workers in (0, 1, 3):
        (loader,), batches = prefetch(data, name, workers)
        for start in (0, 137, 30):  # as where a training is resumed, or a step makes its documents itself
            loader.consumed = start
            for _ in range(4):
                batch, keys = batches.next(0)
                seen.append((loader.consumed, keys, arrays(batch)))
        batches.close()
    third = len(seen) // 3
    assert seen[:third] == seen[third : 2 * third] == seen[2 * third :]
    assert len({consumed for consumed, _, _ in seen}) == third


def test_documents_made_ahead_are_those_made_in_the_step(shards: Path) -> None:
    data = open_token_set(shards, split="train")
    (loader,), batches = prefetch(data, workers=1)
    cls, options = METHODS["cm3"]
    method = cls(layout_of(data.modalities), CoOccurrence.of(data.present(i) for i in range(len(data))), options)
    for _ in range(3):
        start = loader.consumed
        ahead, first_keys = batches.next(0)
        loader.consumed = start
        now, keys = loader.next(method.plain_documents)
        assert arrays(now) == arrays(ahead) and keys[: len(first_keys)] == first_keys
    batches.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("causal", {}),
        ("cm3", {"mean_spans": 3.0}),
        ("cm3", {"across_segments": False, "mean_spans": 2.0}),
        ("commutative", {}),
        ("masked", {}),
        ("masked", {"mask_ratio": 0.3}),
    ],
)
def test_documents_made_together_are_those_made_one_by_one(name: str, options: dict[str, Any]) -> None:
    random, held = np.random.default_rng(0), ("image", "text")
    modalities = [Modality("image", "image", 300, (2, 3), "grid", "0" * 64, 6), Modality("text", "text", 70000, None, "line", "1" * 64, 9)]
    tokens = {
        "image": lambda: random.integers(300, size=6).astype(np.uint16),
        "text": lambda: random.integers(70000, size=random.integers(0, 9)).astype(np.uint32),
    }
    samples = [Sample(f"s{i}", {name: tokens[name]() for name in (held, held[:1], held[1:])[i % 3]}) for i in range(90)]
    cls = METHODS_BY_NAME[name]
    method = cls(layout_of(modalities), CoOccurrence.of(sample.present for sample in samples), options_of(cls.Options, options, ""))
    alone = [method.document(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)]
    together, expected = Documents.of(method.plain_documents(samples, range(90))), Documents.of(alone)
    assert together.sizes.tolist() == expected.sizes.tolist() and (together.table == expected.table).all()
    assert together.table.dtype == np.int64


def test_parts_share_every_epoch_between_them(shards: Path) -> None:
    data = open_token_set(shards, split="train")
    loaders, _ = prefetch(data, parts=3)
    drawn = [sample.key for loader in loaders for sample in loader.offered(0, 200)[0]]
    order = [data.keys[i] for epoch in range(2) for i in np.random.default_rng([7, epoch]).permutation(len(data))]
    assert sorted(drawn) == sorted(order[:600])


def test_a_worker_that_dies_is_an_error_with_advice(shards: Path) -> None:
    _, batches = prefetch(open_token_set(shards, split="train"), workers=2)
    batches.next(0)
    victim, *_ = multiprocessing.active_children()
    victim.kill()
    victim.join()
    with pytest.raises(DataError, match=r"makes batches ended.*memory.*the same command continues"):
        for _ in range(100):
            batches.next(0)
    batches.close()
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_in_the_middle_of_a_message_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_message(connection: Connection, makes: object) -> None:
        connection.recv()
        os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("mmtool.data.workers._work", half_a_message)
    workers = Workers(3, [lambda first, count: Documents.of([])])
    results = [workers.start(0, number, 1) for number in range(2)]
    for result in results:
        with pytest.raises(DataError, match="makes batches ended"):
            result()
    workers.close()
    assert not multiprocessing.active_children()


def test_what_a_worker_raises_reaches_who_waits_for_it() -> None:
    def refuse(first: int, count: int) -> Documents:
        raise DataError(f"no document {first}.", where="a.tar")

    workers = Workers(2, [refuse])
    for number in (3, 4):
        with pytest.raises(DataError, match=f"no document {number}"):
            workers.start(0, number, 1)()
    workers.close()


def test_workers_leave_requests_to_stop_to_the_training(shards: Path) -> None:
    (loader,), batches = prefetch(open_token_set(shards, split="train"), workers=2)
    for number in (signal.SIGINT, signal.SIGTERM):  # as a terminal or a batch system sends them to all processes
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, number)
    for _ in range(20):
        batches.next(0)
    assert loader.consumed > 0 and len(multiprocessing.active_children()) == 2
    batches.close()


ORPHANED = """
import multiprocessing, os, signal, sys
from multiprocessing.connection import Connection
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_loader import open_token_set, prefetch
_, batches = prefetch(open_token_set(Path(sys.argv[1]), split="train"), workers=2)
batches.next(0)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.thorough
def test_workers_end_with_a_training_that_is_killed(shards: Path) -> None:
    command = [sys.executable, "-c", ORPHANED, str(shards), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 300
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether there is such a process that has not ended (one whose end nobody has asked about has)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_training_is_the_same_with_workers_which_end_with_it(shards: Path, tmp_path: Path) -> None:
    transitive = {"warmup": 0.25, "transitive_share": 0.5, "draws": 1}
    for workers in (0, 2):
        pretrain(settings(method="loretta", method_options=transitive), shards, tmp_path / f"run-{workers}", workers=workers)
    assert same(weights(tmp_path / "run-0"), weights(tmp_path / "run-2"))
    assert not multiprocessing.active_children()


def test_fewer_workers_than_none_are_refused_by_the_option() -> None:
    with pytest.raises(UsageError, match=r"--workers: workers is -1\. Give a whole number from 0 on"):
        pick_workers(-1, torch.device("cpu"))
