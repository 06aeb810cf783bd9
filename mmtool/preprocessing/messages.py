"""All that the readers of a kind yield for the files below some paths, one after the other: samples not yet decoded, and remarks.

The sequence is the same each time it is read, as long as the files are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.seal import guarded
from mmtool.kinds import kind_named, load
from mmtool.preprocessing.keys import KeyColumnError, Keys
from mmtool.preprocessing.parts import Part
from mmtool.preprocessing.readers.entries import Broken, Entry, LeftOut, Note, SourceOptions, Tally, UnreadArrays
from mmtool.preprocessing.readers.file_columns import read_file_column
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.read_errors import OtherContent, ReadBeside
from mmtool.preprocessing.readers.unused_options import UnusedOptions
from mmtool.preprocessing.readers.webdatasets import member_files

Message = Entry | Broken | LeftOut | Note | Keys | Tally | UnreadArrays


@dataclass(frozen=True)
class Position:
    """Where the reading is, for whoever watches over it. num_bytes: of the file that is opened next; None: behind a file."""

    num_bytes: int | None = None


Step = Message | Position | OtherFormats


def messages(
    kind: str, paths: Sequence[Path], options: SourceOptions, *, check_options: bool
) -> Iterator[Message | Position | OtherFormats]:
    """What is read below `paths`, or a part of the samples; files that cannot be read as `Broken`; in the end files that were left out.

    A DataError that is thrown in at a message gives up the rest of the file that it belongs to.
    check_options: raise UsageError for options that have no effect on any of the files. Raises DataError for paths without samples and
    files whose keys are unclear.
    """
    reader, others = _reader(kind, options), OtherFormats()
    part = None if options.part is None else Part.parse(options.part)
    unused = UnusedOptions(kind, options, alone=len(paths) == 1 and paths[0].is_file())
    for file in member_files(kind, paths, options, others):
        if isinstance(file, Broken | Note | Tally):
            yield file
            continue
        if check_options and options.file_column is None:
            unused.see(file)
        try:
            yield Position(_num_bytes(file))
            for entry in guarded(reader(file, options), file.where):
                if part is not None and isinstance(entry, Entry | Broken) and entry.key is not None and not part.holds(entry.key):
                    continue
                yield replace(entry, labels={**file.labels, **entry.labels}) if isinstance(entry, Entry) and file.labels else entry
        except KeyColumnError:
            raise
        except OtherContent as error:
            if file.path in paths:
                raise
            unused.take_back()
            if not isinstance(error, ReadBeside):
                others.add(file.where, PurePosixPath(file.where).name, file.format, stem=file.stem)
        except DataError as error:
            yield Broken(file.where, error if error.where is not None else DataError(error.what, where=file.where, fix=error.fix))
        yield Position()
    unused.check()
    yield others


def _reader(kind: str, options: SourceOptions) -> Callable[[RawFile, SourceOptions], Iterator[Any]]:
    """The reader of the files of a kind, or of a column of tables that holds them."""
    return partial(read_file_column, kind) if options.file_column else load(kind_named(kind).reader)


def _num_bytes(file: RawFile) -> int:
    """Of the file, or the archive that it lies in; 0 where that is not known."""
    path = file.path or file.archive
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0
