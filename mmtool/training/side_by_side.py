"""Several trainings: one after the other, or some at once, each in its own process with its share of the cores.

A small model does not fill many cores, so that trainings side by side end sooner (`examples/benchmarks/side_by_side.py` says by how much).
Their log is passed on line by line. Whoever stops the parent stops them all: each saves a checkpoint first.
"""

import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from mmtool.common.errors import DataError, MmtoolError
from mmtool.common.log import log

Training = Callable[[], object]
TERMINATED = 128 + signal.SIGTERM


def train_all(trainings: Mapping[str, Training], jobs: int = 1) -> None:
    """Call every training, `jobs` at once; more than one at once must be of a kind that a fresh process can import.

    Raises what a training raised, or DataError where its process died; the others have saved a checkpoint then.
    """
    if jobs > 1 and len(trainings) > 1:
        with _stopped_in_order():
            _side_by_side(trainings, jobs)
        return
    for name, training in trainings.items():
        log(f"{name}: training")
        training()
        _clear_compiled()


def _side_by_side(trainings: Mapping[str, Training], jobs: int) -> None:
    threads = max(1, torch.get_num_threads() // min(jobs, len(trainings)))
    waiting, running = list(trainings.items()), dict[Connection, _Child]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                child = _Child(*waiting.pop(0), threads)
                running[child.messages] = child
                child.start()
            for messages in wait(list(running)):
                assert isinstance(messages, Connection)
                if not running[messages].pass_on():
                    running.pop(messages).finish()
    finally:
        _stop(list(running.values()))


def _stop(children: Sequence["_Child"]) -> None:
    """Ask all to stop, and pass on what they log of that; a second signal ends them at once."""
    started = [child for child in children if child.process.pid is not None]
    try:
        for child in started:
            child.process.terminate()
        for child in started:
            child.drain()
    except BaseException:
        for child in started:
            child.process.kill()
        raise


class _Child:
    """A training in its process, and its log."""

    def __init__(self, name: str, training: Training, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.started, self._last = name, time.monotonic(), ""
        self.messages, self._sender = context.Pipe(duplex=False)
        self.process: SpawnProcess = context.Process(target=_train, args=(training, self._sender, threads))

    def start(self) -> None:
        log(f"{self.name}: training")
        self.process.start()
        self._sender.close()

    def pass_on(self) -> bool:
        """Log what the child logged, raise what it raised; False where the child has ended."""
        try:
            message = self.messages.recv()
        except EOFError:
            return False
        if isinstance(message, Exception):
            raise message
        self._last = message or self._last
        log(f"{self.name}: {message}")
        return True

    def finish(self) -> None:
        self.process.join()
        if self.process.exitcode:
            what = f"its process ended with exit code {self.process.exitcode}" + (f" ({self._last})." if self._last else ".")
            fix = "Where memory ran out, take fewer jobs. The same command continues."
            raise DataError(what, where=self.name, fix=fix)
        log(f"{self.name}: trained in {(time.monotonic() - self.started) / 60:.1f} minutes")

    def drain(self) -> None:
        """Log what a child that was asked to stop logs, until it ends."""
        self._sender.close()
        with suppress(EOFError):
            while True:
                message = self.messages.recv()
                with suppress(OSError):
                    log(f"{self.name}: {message}")
        self.process.join()


def _train(training: Training, sender: Connection, threads: int) -> None:
    """What a child does. It leaves the group of its parent, so that Ctrl-C reaches the parent alone, who asks all to stop."""
    os.setpgrp()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    sys.stderr = _Lines(sender)
    try:
        training()
    except (MmtoolError, OSError) as error:
        sender.send(error)


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


class _Lines(io.TextIOBase):
    """A standard error whose whole lines go through a pipe. That nobody listens any more must not keep a checkpoint from being saved."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._rest = pipe, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        with suppress(BrokenPipeError):
            for line in lines:
                self._pipe.send(line)
        return len(text)


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """SIGINT (even of a shell that has it ignored, as one training heeds it, too) and SIGTERM leave through what has to be ended."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: lambda *_: sys.exit(TERMINATED)}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _clear_compiled() -> None:
    """A process may compile the same function for 8 models only, then torch refuses: start counting anew."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
