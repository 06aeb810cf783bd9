"""WebDatasets and folders like them: which member of a sample is read, labels in members beside it, keys that repeat in other shards.

Members of one sample lie beside each other and share their name up to its first dot: `7.left.jpg`, `7.right.jpg`, `7.cls`, `7.json`
(https://github.com/webdataset/webdataset). Shards are read by `raw_files`, which unlike that package tells where one is cut.
"""

import json
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.kinds import kind_named
from mmtool.preprocessing.readers.entries import Broken, Note, SourceOptions, label_value
from mmtool.preprocessing.readers.other_formats import OtherFormats, first_part
from mmtool.preprocessing.readers.raw_files import ARCHIVES, RawFile, find_files, split_name, walk
from mmtool.preprocessing.readers.rows import ROW_FORMATS

KEY_FIELD, JSON = "{key}", "json"


@dataclass(frozen=True)
class Members:
    """Which members of samples are read. pattern: of their names, with the group `key`; None reads all. formats: of the kind. labels: name
    of each label that may stand in members beside them -> its column."""

    pattern: re.Pattern[str] | None
    formats: Collection[str]
    labels: Mapping[str, str]

    @property
    def asked(self) -> tuple[str, ...]:
        """Formats of all members that are looked at."""
        return (*self.formats, *(name for name in (JSON, *self.labels.values()) if self.labels and name not in self.formats))

    def named(self, file: RawFile) -> RawFile | None:
        """The file under the key that the pattern finds in its name; None where it is no such member, or holds labels alone. Files whose
        content was recognized may be of any other format."""
        if file.format in set(self.asked).difference(self.formats):
            return None
        match = self.pattern and self.pattern.fullmatch(f"{file.stem}.{file.format}")
        return replace(file, stem=match["key"]) if match else None if self.pattern else file


def member_files(kind: str, paths: Sequence[Path], options: SourceOptions, others: OtherFormats) -> Iterator[RawFile | Broken | Note]:
    """The files of a kind below `paths` that are read, with the labels beside them. Members of archives that repeat keys are called after
    their archives, which is said."""
    formats = ROW_FORMATS if options.file_column else kind_named(kind).suffixes
    members = Members(_pattern(options.member), formats, {} if options.file_column else options.label_names)
    repeated = _repeated_in_archives(paths, members)
    if repeated:
        yield Note("keys repeat", "keys repeat from archive to archive: each begins with the name of its archive")
    named_alike: dict[str, list[str]] = defaultdict(list)  # first part of a name -> keys
    for file in _chosen_members(find_files(kind, paths, options.labels_path, others, members.asked), members, others):
        if isinstance(file, RawFile) and file.archive is not None:
            file = replace(file, stem=f"{split_name(file.archive.name)[0]}/{file.stem}") if repeated else file
            named_alike[first_part(file.stem)].append(file.stem)
        yield file
    several = [keys for keys in named_alike.values() if len(keys) > 1]
    if members.pattern is None and 2 * len(several) > len(named_alike):
        text = (
            f"{several[0][0]} and {several[0][1]} are samples of their own, in splits of their own; if they are one, choose with --member"
        )
        yield Note("members alike", text)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    """`{key}.left.jpg` as a regular expression; `*` is any part of a name. Raises UsageError without `{key}`."""
    if text is None:
        return None
    if text.count(KEY_FIELD) != 1:
        raise UsageError(f"{text!r} does not say where the key stands.", where="--member", fix="Write e.g. '{key}.left.jpg'.")
    return re.compile(re.escape(text).replace(re.escape(KEY_FIELD), "(?P<key>.+)").replace(r"\*", "[^/]*"), re.IGNORECASE)


def _chosen_members(files: Iterable[RawFile | Broken], members: Members, others: OtherFormats) -> Iterator[RawFile | Broken]:
    """The files that are read, with the labels that lie beside them; all else is counted in `others`."""
    if not members.labels:
        for file in files:
            yield from _chosen([file], members, others)
        return
    for _, group in groupby(map(_held, files), _sample):
        yield from _chosen(list(group), members, others)


def _repeated_in_archives(paths: Sequence[Path], members: Members) -> bool:
    """Whether a key stands in several of these archives, or of those in these folders."""
    archives = [file for path in paths for file in (walk(path) if path.is_dir() else [path]) if split_name(file.name)[1] in ARCHIVES]
    seen: set[str] = set()
    for archive in archives if len(archives) > 1 else ():
        files = (RawFile("", *split_name(name), read=bytes) for name in _names(archive))
        keys = {named.stem for file in files if file.format in members.formats and (named := members.named(file)) is not None}
        if not keys.isdisjoint(seen):
            return True
        seen |= keys
    return False


def _names(archive: Path) -> list[str]:
    """Of the members of an archive; none where it is damaged, which is told when it is read."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as opened:
                return opened.namelist()
        with tarfile.open(archive) as tar:
            return [info.name for info in tar if info.isfile()]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError):
        return []


def _chosen(group: Sequence[RawFile | Broken], members: Members, others: OtherFormats) -> Iterator[RawFile | Broken]:
    for file in group:
        named = None if isinstance(file, Broken) else members.named(file)
        if isinstance(file, Broken):
            yield file
            continue
        if named is None:
            note = " of other names" if file.format in members.formats else ""
            others.add(file.where, Path(file.where).name, file.format, note, file.stem)
            continue
        others.samples.add(file.stem)
        try:
            yield replace(named, labels=_labels(file.stem, group, members.labels)) if members.labels else named
        except DataError as error:
            yield Broken(file.where, error, named.stem)


def _labels(stem: str, group: Sequence[RawFile | Broken], names: Mapping[str, str]) -> dict[str, Any]:
    """The labels of a sample in members called like it: the content of KEY.COLUMN, else a field of KEY.json."""
    beside = {file.format: file for file in group if isinstance(file, RawFile) and file.stem in (stem, first_part(stem))}
    values = dict(_fields(beside[JSON])) if JSON in beside else {}
    values |= {column: beside[column].read().decode(errors="replace") for column in names.values() if column in beside}
    return {name: label_value(values[column]) for name, column in names.items() if column in values}


def _fields(file: RawFile) -> Mapping[str, Any]:
    try:
        fields = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON ({error}).", where=file.where, fix="Get it again, or name no label of it.") from error
    return fields if isinstance(fields, Mapping) else {}


def _sample(file: RawFile | Broken) -> str:
    """What members of one sample have in common."""
    return file.where if isinstance(file, Broken) else f"{file.archive}/{first_part(file.stem)}"


def _held(file: RawFile | Broken) -> RawFile | Broken:
    """A member of an archive with its content in memory, for the archive is read in its order."""
    if isinstance(file, Broken) or file.archive is None:
        return file
    try:
        return file.held()
    except DataError as error:
        return replace(file, read=partial(_raise, error))


def _raise(error: DataError) -> bytes:
    raise error
