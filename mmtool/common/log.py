"""Talk on standard error: messages, and progress that is a live bar on a terminal and plain lines elsewhere."""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

from mmtool.common.urls import as_given

T = TypeVar("T")
PLAIN_EVERY_S = 10.0
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def log(message: str) -> None:
    """One line for a person, on standard error; on a terminal it is broken between words where it is too long. Where nothing can be
    written there, work goes on in silence. Where a listener is set (see `heard_by`), it gets the message instead."""
    if (listener := _listener.get()) is not None:
        listener(as_given(message))
    elif sys.stderr is not None:  # which it is where it was closed before the start
        with suppress(OSError, ValueError):
            message = as_given(message)
            print(_broken(message) if on_terminal() else message, file=sys.stderr, flush=True)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """What this thread says goes to the listener; unlike a redirected stream, other threads go on as they are."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def on_terminal() -> bool:
    """Whether messages go to standard error and that is a terminal."""
    return _listener.get() is None and sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _broken(message: str) -> str:
    columns = os.get_terminal_size(sys.stderr.fileno()).columns
    fill = partial(textwrap.fill, width=columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if len(line) <= columns else fill(line) for line in message.split("\n"))


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show how far along they are (`total` is taken from `len(items)` when left out)."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if on_terminal():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=True)
        return
    last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > PLAIN_EVERY_S:
            last = time.monotonic()
            log(f"{description}: {count}" + (f"/{total}" if total else ""))
