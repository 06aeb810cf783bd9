"""Worker processes, forked: what their parent knows is theirs as well."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def can_fork() -> bool:
    """Whether this system has such processes."""
    return "fork" in multiprocessing.get_all_start_methods()


def fork(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process that calls target(*arguments), and return it. Requests to stop (SIGINT, SIGTERM) are blocked in it from its first
    moment: they are its parent's business, unless it unblocks them."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with warnings.catch_warnings():  # that forked threads may hold locks: workers use none of these
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def end_with_parent() -> None:
    """To be called by a process: have it end when its parent does, whatever that died of."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
