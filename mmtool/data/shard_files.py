"""Files of shards, opened: in memory or mapped, each verified whole, by all cores where they are many."""

import mmap
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from mmtool.common.errors import DataError
from mmtool.common.processes import can_fork, end_with_parent
from mmtool.common.threads import num_threads
from mmtool.data.shard_format import Shard
from mmtool.data.shard_reader import REBUILD, read_shard

IN_MEMORY_BYTES = 1 << 30  # smaller sets are read whole; larger ones are mapped
PARALLEL_BYTES = 1 << 28  # smaller sets are verified sooner than processes have begun


def load(path: Path, total_bytes: int) -> memoryview:
    """The file's bytes: in memory when the whole set is small, mapped otherwise."""
    if total_bytes <= IN_MEMORY_BYTES:
        return memoryview(path.read_bytes())
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def open_shards(folder: Path, digests: Mapping[str, str]) -> Iterator[tuple[memoryview, Shard]]:
    """Bytes and contents of the files in a folder whose names are given with their sha256.

    Raises DataError for one that is damaged, or another one than its digest says.
    """
    total_bytes = sum((folder / name).stat().st_size for name in digests)
    verify = partial(_verified, folder, total_bytes)
    workers = min(num_threads(), len(digests)) if total_bytes >= PARALLEL_BYTES and can_fork() else 1
    if workers > 1:
        yield from _in_processes(workers, folder, digests, total_bytes)
        return
    for name, sha256 in digests.items():
        yield verify(name, sha256)


def _in_processes(workers: int, folder: Path, digests: Mapping[str, str], total_bytes: int) -> Iterator[tuple[memoryview, Shard]]:
    """Verified by processes, which map the files for themselves and give back where everything lies."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin) as pool:
        try:
            for name, shard in zip(digests, pool.map(partial(_shard, folder), digests, digests.values()), strict=True):
                yield load(folder / name, total_bytes), shard
        except BrokenProcessPool as error:
            fix = "Memory ran out, probably: set OMP_NUM_THREADS=1 to verify with one process."
            raise DataError("a process that verified shards has died.", where=folder, fix=fix) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin() -> None:
    """Of a worker: it ends with its parent, whose business requests to stop are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


def _shard(folder: Path, name: str, sha256: str) -> Shard:
    return _verified(folder, IN_MEMORY_BYTES + 1, name, sha256)[1]


def _verified(folder: Path, total_bytes: int, name: str, sha256: str) -> tuple[memoryview, Shard]:
    path = folder / name
    buffer = load(path, total_bytes)
    shard = read_shard(buffer, path)
    if shard.sha256 != sha256:
        raise DataError("this shard is not the one that the index lists.", where=path, fix=REBUILD)
    return buffer, shard
