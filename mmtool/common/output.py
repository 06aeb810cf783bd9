"""The output of a command: where it may be written, and what `--force` may replace for it.

Replaced are artefacts of this toolkit that hold nothing else, and empty places: never a file or folder of somebody else, never anything
behind a symbolic link, never what the command reads.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmtool.common.artefact_files import FILES, KINDS, LEFTOVER, Kind, files_below, kind_of
from mmtool.common.errors import UsageError
from mmtool.common.storage import atomic_directory, atomic_file, write_json
from mmtool.common.urls import is_collapsed

ELSEWHERE = "Choose another path; --force replaces nothing but empty places and what mmtool wrote."


@dataclass(frozen=True)
class OutputPath:
    """A path to write, with what must not be lost there. inputs: what the command reads (None: a stream). kinds: directories that may be
    replaced.

    Every check raises UsageError where the path may not be written. They are made before the long work, and again at the commit.
    """

    path: Path
    force: bool = False
    inputs: Sequence[Path | None] = ()
    kinds: Sequence[Kind] = KINDS

    def file(self) -> AbstractContextManager[IO[bytes]]:
        """A binary file that appears under the path when the block ends without an error."""
        return atomic_file(self.path, check=self.check_file)

    def directory(self) -> AbstractContextManager[Path]:
        """A working directory that becomes the path when the block ends without an error."""
        return atomic_directory(self.path, check=self.check_directory)

    def check_file(self) -> None:
        """Refuse anything but a free place or, with `force`, an empty file or one of ours."""
        if self._is_free():
            return
        if not self.path.is_file():
            raise UsageError("there is a folder or device, no file.", where=self.path, fix=ELSEWHERE)
        if self.path.stat().st_size and not any(is_ours(self.path) for is_ours in FILES):
            raise UsageError("the file that is there was not written by mmtool.", where=self.path, fix=ELSEWHERE)
        self._replace()

    def check_directory(self) -> None:
        """Refuse anything but a free or empty place or, with `force`, an artefact in which nothing else lies."""
        if self._is_free():
            return
        if not self.path.is_dir():
            raise UsageError("there is a file, no folder.", where=self.path, fix=ELSEWHERE)
        if not any(self.path.iterdir()):
            return
        self._spare_inputs()
        kind = kind_of(self.path, self.kinds)
        foreign = next(kind.foreign(self.path) if kind else _not_left_over(self.path), None)
        if foreign is not None:
            what = f"the folder holds {foreign}, which mmtool did not write."
            fix = ELSEWHERE if kind is None else f"Move that file away, or choose another path; --force replaces {kind.name} alone."
            raise UsageError(what, where=self.path, fix=fix)
        self._replace()

    def continues(self, mark: str) -> bool:
        """Whether the command goes on with what was begun here, as the file `mark` shows; else the place is checked for a new start."""
        if not self.force and (self.path / mark).exists():
            return True
        self.check_directory()
        return False

    def beside(self, suffix: str) -> "OutputPath":
        """A file of the same name with a suffix, which belongs to this output and is replaced with it."""
        self._check_name()
        return OutputPath(self.path.with_name(f"{self.path.name}{suffix}"), True, self.inputs)

    def _check_name(self) -> None:
        if self.path.name in ("", ".."):
            raise UsageError("this is no name of an output.", where=self.path, fix="Name a new file or folder.")
        if is_collapsed(self.path) and not os.path.lexists(self.path.parents[-2]):
            raise UsageError("this begins like a URL, with a slash too few.", where=self.path, fix="Write SCHEME://..., or a path.")

    def _is_free(self) -> bool:
        self._check_name()
        if self.path.is_symlink():
            what = f"there is a symbolic link, to {self.path.readlink()}."
            raise UsageError(what, where=self.path, fix="Give the path that it leads to, or another one; --force follows no links.")
        return not os.path.lexists(self.path)

    def _replace(self) -> None:
        self._spare_inputs()
        if not self.force:
            raise UsageError("the output exists already.", where=self.path, fix="Choose another path, or pass --force to replace it.")

    def _spare_inputs(self) -> None:
        """Refuse an output that is an input, holds one, or is a part of one."""
        for source in self.inputs:
            if source is None or not source.exists():
                continue
            for place in _places(source):
                if any(_same(self.path, part) for part in (place, *place.parents)):
                    relation = "is" if _same(self.path, place) else "holds"
                    fix = "Choose another path; --force never replaces what the command reads."
                    raise UsageError(f"the output {relation} the input {source}.", where=self.path, fix=fix)
            self._spare_part(source)

    def _spare_part(self, source: Path) -> None:
        """Refuse an output that replaces files of an artefact that is read. Beside these it may lie in the same folder."""
        home, path = source.resolve(), self.path.resolve()
        kind = kind_of(home, KINDS) if home.is_dir() and home in path.parents else None
        if kind and kind.may_hold(home, os.path.relpath(path, home)):
            fix = "Choose another path; --force never replaces what the command reads."
            raise UsageError(f"the output is a part of the input {source}.", where=self.path, fix=fix)


def begin_or_continue(output: OutputPath, name: str, record: dict[str, Any]) -> None:
    """A new directory whose file `name` holds `record`, or the one that was begun with the same; with `force` always a new one.

    Raises UsageError where something else was begun there, or lies there.
    """
    if not output.continues(name):
        with output.directory() as folder:
            write_json(folder / name, record)
    elif _read(output.path / name) != record:
        fix = "Choose another output, or pass --force to start anew."
        raise UsageError("something else was begun here: of another kind, or on other data.", where=output.path, fix=fix)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _places(source: Path) -> Iterator[Path]:
    """Where an input really lies: its own place, and those that links inside it lead to."""
    waiting, seen = [source], set[Path]()
    while waiting:
        place = waiting.pop().resolve()
        if place not in seen and place.exists():
            seen.add(place)
            yield place
            waiting += [Path(entry.path) for entry in files_below(place) if entry.is_symlink()]


def _same(path: Path, other: Path) -> bool:
    """Whether both are the same file or folder, however they are spelled."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _not_left_over(folder: Path) -> Iterator[str]:
    """Files below a folder but for what killed writers left."""
    names = (os.path.relpath(entry.path, folder) for entry in files_below(folder))
    return (name for name in names if LEFTOVER.fullmatch(name) is None)
