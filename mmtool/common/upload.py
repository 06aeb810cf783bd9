"""Artefacts on their way to remote places: written whole on this machine, sent under temporary names, and put in place with the file that
makes them an artefact last, for object stores rename no folders."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmtool.common.artefact_files import HEADER_BYTES, KINDS, files_below, kind_of
from mmtool.common.copies import temporary_folder
from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.remote import Place, reaching
from mmtool.common.remote_listing import MAGIC
from mmtool.common.storage import PARTIAL
from mmtool.common.urls import OUTGOING, cache_folder, protocol_of, shown

REJECTS = ".rejects.jsonl"  # after the name of a token set: the list of samples that are not in it
READ_WHOLE, READ_IN_PART = (".json", ".jsonl", ".md"), (".tar", ".safetensors")  # by what is in these, what was written by mmtool is known


def output_place(url: str, inputs: Sequence[str], force: bool) -> Place:
    """Where an output is to go. Raises UsageError where that may not be: something is there, or it is what the command reads."""
    protocol, _, path = url.partition("://")
    place = Place.of(f"{protocol}://{path.rstrip('/')}")
    if place.is_web:
        fix = "Name a local file or folder, or one in an object store, e.g. s3://bucket/shards."
        raise UsageError("a web server takes no files.", where=shown(url), fix=fix)
    if MAGIC.search(place.path) or not place.path.strip("/"):
        raise UsageError("this is no name of an output.", where=shown(url), fix="Name a new file or folder, e.g. s3://bucket/shards.")
    for source in inputs:
        here, there = (f"{protocol_of(each.url)}://{each.path.strip('/')}/" for each in (place, Place.of(source)))
        if here == there or (force and (here.startswith(there) or there.startswith(here))):
            fix = "Choose another place; --force never replaces what the command reads."
            raise UsageError(f"the output is, holds or lies in the input {shown(source)}.", where=shown(url), fix=fix)
    refuse_existing(place, force)
    return place


def refuse_existing(place: Place, force: bool, local: Path | None = None) -> None:
    """Raise UsageError where something is there already and, with `force`, where it was not written by mmtool alone. local: what is to
    replace it, once it is known."""
    with reaching(place.url):
        if not _is_there(place):
            return
    if not force:
        fix = "Choose another place, or pass --force to replace it."
        raise UsageError("the output exists already.", where=shown(place.url), fix=fix)
    with temporary_folder(OUTGOING) as folder, reaching(place.url):
        outline = folder / place.name(place.path)
        is_file = place.system.isfile(place.path)
        for path in [place.path] if is_file else place.system.find(place.path):
            _outline(place.system, path, outline / path[len(place.path) :].lstrip("/"))
        output = OutputPath(outline, force=True)
        if is_file if local is None else local.is_file():
            output.check_file()
        else:
            output.check_directory()


@contextmanager
def room_for(place: Place) -> Iterator[Path]:
    """Where an output is to be written on this machine before it goes to its place."""
    with temporary_folder(OUTGOING) as folder:
        local = folder / place.name(place.path)
        local.parent.mkdir(parents=True)
        yield local


def deliver(local: Path, place: Place, force: bool, verify: Callable[[Path], Sequence[str]] | None = None) -> None:
    """Send what was written, once it is verified (`verify` gives its problems). Raises DataError where it cannot be sent: it is kept."""
    is_known = kind_of(local, KINDS) is not None if local.is_dir() else local.suffix in READ_IN_PART
    if verify is not None and is_known and (problems := verify(local)):
        raise DataError(f"what was written is not whole: {problems[0]}", where=shown(place.url), fix="Run the same command again.")
    try:
        send(local, place, force)
    except BaseException as error:
        kept = cache_folder() / "kept" / secrets.token_hex(4)
        kept.parent.mkdir(exist_ok=True)
        local.parent.rename(kept)
        if not isinstance(error, Exception):
            log(f"the result was not sent; it is whole in {kept / local.name}")
            raise
        fix = f"It is whole in {kept / local.name}: copy it from there, and delete it."
        raise DataError(f"the result was not sent: {getattr(error, 'what', error)}", where=shown(place.url), fix=fix) from None


def send(local: Path, place: Place, force: bool) -> None:
    """Send a file or folder, and the list of rejected samples beside it; an earlier list belongs to what is replaced."""
    rejects, list_place = local.with_name(local.name + REJECTS), _beside(place, place.path + REJECTS)
    log(f"sending {local.name} to {shown(place.url)}")
    if rejects.is_file():
        _send(rejects, list_place, force=True)
    _send(local, place, force)
    with reaching(list_place.url):
        if local.is_file() and not rejects.is_file() and _is_there(list_place):
            refuse_existing(list_place, force=True, local=local)
            place.system.rm_file(list_place.path)


def _send(local: Path, place: Place, force: bool) -> None:
    system, (parent, _, name) = place.system, place.path.rpartition("/")
    partial = f"{parent}/.{name}{PARTIAL}{secrets.token_hex(4)}"
    below = [""] if local.is_file() else [f"/{Path(entry.path).relative_to(local).as_posix()}" for entry in files_below(local)]
    sizes = {partial + end: Path(f"{local}{end}").stat().st_size for end in below}
    with reaching(place.url):
        try:
            system.put([f"{local}{end}" for end in below], list(sizes))
            system.invalidate_cache()
            arrived = {path: system.info(path)["size"] for path in sizes}
            if wrong := next((path for path, size in sizes.items() if arrived[path] != size), None):
                what = f"{arrived[wrong]:,} of {sizes[wrong]:,} bytes of {wrong[len(partial) :] or name} arrived."
                raise DataError(what, where=shown(place.url), fix="Run the same command again.")
            refuse_existing(place, force, local)
            kind = kind_of(local, KINDS) if local.is_dir() else None
            _put_in_place(system, partial, place.path, below, [f"/{mark}" for mark in kind.marks] if kind else [])
        finally:
            _clear(system, partial, place)


def _clear(system: Any, partial: str, place: Place) -> None:
    try:
        system.rm(partial, recursive=True)
    except FileNotFoundError:
        pass
    except Exception:
        log(f"warning: temporary files were left beside {shown(place.url)}, in {partial}")


def _put_in_place(system: Any, partial: str, final: str, below: Sequence[str], marks: Sequence[str]) -> None:
    """Copy files to their final names: what makes a folder an artefact goes first of the old ones, and comes last of the new ones."""
    old = system.find(final) if system.exists(final) else []
    old_marks = {f"{final}/{mark}" for kind in KINDS for mark in kind.marks}
    for path in filter(old_marks.__contains__, old):
        system.rm_file(path)
    plain, last = [end for end in below if end not in marks], [end for end in below if end in marks]
    system.copy([partial + end for end in plain], [final + end for end in plain])
    for path in {*old} - old_marks - {final + end for end in below}:
        system.rm_file(path)
    try:
        for end in last:
            system.copy([partial + end], [final + end])
    except BaseException:
        for end in last:
            with suppress(Exception):
                system.rm_file(final + end)
        raise


def _is_there(place: Place) -> bool:
    """Whether there is a file, or a folder with files."""
    place.system.invalidate_cache()
    return bool(place.system.exists(place.path) and (place.system.isfile(place.path) or place.system.find(place.path)))


def _beside(place: Place, path: str) -> Place:
    return Place(place.url + path[len(place.path) :], place.system, path)


def _outline(system: Any, path: str, local: Path) -> None:
    """As much of a file as tells whether mmtool wrote it."""
    local.parent.mkdir(parents=True, exist_ok=True)
    size = system.info(path)["size"] or 0
    end = size if local.suffix in READ_WHOLE else min(size, HEADER_BYTES + 8) if local.suffix in READ_IN_PART else min(size, 100)
    local.write_bytes(system.cat_file(path, start=0, end=end) if end else b"")
