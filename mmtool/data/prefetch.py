"""Batches packed beside the training, of documents that workers make: all that a training process waits for is the packing that is not
done yet."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from mmtool.data.documents import Documents
from mmtool.data.loader import Loader, MakeDocuments
from mmtool.data.masking import AnyBatch
from mmtool.data.workers import Stream, Workers

KEYS = 6  # one more than an error names


class Prefetch:
    """The next batch of each of some loaders, whose documents `make` makes from samples and seeds alone.

    workers: processes that make documents ahead; with any, a thread packs the next batch while the training uses the last. Without,
    everything is made when it is asked for. The loaders' `consumed` stays the whole state: whoever sets it gets the batches from there on.
    """

    def __init__(self, loaders: Sequence[Loader], make: MakeDocuments, workers: int = 0) -> None:
        self._loaders = loaders
        self._workers = Workers(workers, [partial(_documents, loader, make) for loader in loaders])
        self._streams = [Stream(self._workers, number, loader.window) for number, loader in enumerate(loaders)]
        self._thread = ThreadPoolExecutor(1, "packing") if workers else None
        self._ready: dict[int, tuple[int, Future[AnyBatch]]] = {}  # loader -> where its next batch begins, and the batch

    def next(self, number: int) -> tuple[AnyBatch, list[str]]:
        """The next batch of loader `number` and the keys of its first samples."""
        loader = self._loaders[number]
        start = loader.consumed
        batch = self._packed(number, start)
        loader.consumed += batch.num_documents
        if self._thread is not None:
            self._ready[number] = loader.consumed, self._thread.submit(self._pack, number, loader.consumed)
        return batch, [loader.key(start + i) for i in range(min(KEYS, batch.num_documents))]

    def _packed(self, number: int, start: int) -> AnyBatch:
        if self._thread is None:
            return self._pack(number, start)
        there, future = self._ready.pop(number, (-1, None))
        if future is not None and there == start:
            return future.result()
        if future is not None:
            future.cancel()
        return self._thread.submit(self._pack, number, start).result()

    def _pack(self, number: int, start: int) -> AnyBatch:
        loader = self._loaders[number]
        return loader.pack(self._streams[number].read(start, loader.window))

    def close(self) -> None:
        """End thread and workers."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._workers.close()


def _documents(loader: Loader, make: MakeDocuments, start: int, count: int) -> Documents:
    return Documents.of(make(*loader.offered(start, count)))
