"""WebDatasets and folders like them: which member of a sample is read, labels in members beside it, keys that repeat in other shards.

Members of one sample lie beside each other and share their name up to its first dot, the key: `7.left.jpg`, `7.right.jpg`, `7.cls`
(https://github.com/webdataset/webdataset). Shards are read by `raw_files`, which unlike that package reports where one is cut.
"""

import json
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.regular_files import open_regular
from mmtool.kinds import KINDS, kind_named, load
from mmtool.preprocessing.readers.entries import Broken, Note, SourceOptions, Tally, label_value
from mmtool.preprocessing.readers.folders import walk
from mmtool.preprocessing.readers.frame_folders import PICTURES, frame_folders
from mmtool.preprocessing.readers.other_formats import OtherFormats, first_part, is_document
from mmtool.preprocessing.readers.raw_files import ARCHIVES, RawFile, find_files, held, split_name
from mmtool.preprocessing.readers.rows import ROW_FORMATS

FIELDS = {"{key}": r"(?P<key>(?:.*/)?[^./]+)", "{stem}": "(?P<key>.+)"}  # the key of a WebDataset, and any name with dots
JSON = "json"
TABULAR = frozenset(
    (*ROW_FORMATS, "tab", "json", "token", "xlsx", "mtx", "h5ad", "h5mu", "hdf5", "h5")
)  # formats of files that hold many samples
SINGLE = {name: frozenset(kind.suffixes) - TABULAR for name, kind in KINDS.items()}  # kind -> formats of files of one sample
WITH_LABELS = TABULAR | {"npz", "idx"}  # formats of files that may hold the labels of their samples


@dataclass(frozen=True)
class Members:
    """Which members of samples are read. pattern: of their names, with the group `key`; None reads all. formats: of the kind. labels: name
    of each label that may stand in members beside them -> its column."""

    pattern: re.Pattern[str] | None
    formats: Collection[str]
    labels: Mapping[str, str]

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Formats of all members that are looked at."""
        return (*self.formats, *(name for name in (JSON, *self.labels.values()) if self.labels and name not in self.formats))

    def named(self, file: RawFile) -> RawFile | None:
        """The file under the key that the pattern finds in its name; None where it is no such member, or holds labels alone. Files whose
        content was recognized may be of any other format."""
        if file.format in self.asked and file.format not in self.formats:
            return None
        match = self.pattern and self.pattern.fullmatch(f"{file.stem}.{file.format}")
        return replace(file, stem=match["key"]) if match else None if self.pattern else file


def member_files(
    kind: str, paths: Sequence[Path], options: SourceOptions, others: OtherFormats
) -> Iterator[RawFile | Broken | Note | Tally]:
    """The files of a kind below `paths` that are read, with the labels beside them. Members of archives that repeat keys are called after
    their archives, which is said.

    Raises DataError where a label lies beside no sample at all.
    """
    if options.frames:
        yield from frame_folders(paths, options, others, _repeated_in_archives(paths, PICTURES))
        return
    formats = ROW_FORMATS if options.file_column else kind_named(kind).suffixes
    members = Members(_pattern(options.member), formats, {} if options.file_column else options.label_names)
    labels = LabelsBeside(members.labels, paths, options)
    repeated = _repeated_in_archives(paths, formats)
    if repeated:
        yield Note("keys repeat", "keys repeat from archive to archive: each begins with the name of its archive")
    named_alike: dict[str, dict[str, None]] = defaultdict(dict)  # first part of a name -> keys, each once
    chosen = _chosen_members(find_files(kind, paths, options.labels_path, others, members.asked), members, labels, others)
    gatherer = None if options.file_column else kind_named(kind).gatherer
    for file in chosen if gatherer is None else load(gatherer)(chosen):
        if isinstance(file, RawFile) and file.archive is not None:
            file = replace(file, stem=f"{split_name(file.archive.name)[0]}/{file.stem}") if repeated else file
            named_alike[first_part(file.stem)][file.stem] = None
        yield file
    yield from labels.tally()
    several = [list(keys) for keys in named_alike.values() if len(keys) > 1]
    if members.pattern is None and 2 * len(several) > len(named_alike):
        text = (
            f"{several[0][0]} and {several[0][1]} are samples of their own, in splits of their own; if they are one, choose with --member"
        )
        yield Note("members alike", text)


class LabelsBeside:
    """Labels in members called like a sample: the content of KEY.COLUMN, else a field of KEY.json. names: of each label -> its column.

    A sample that has none where others do lacks the label.
    """

    def __init__(self, names: Mapping[str, str], paths: Sequence[Path], options: SourceOptions) -> None:
        self._names, self._options = names, options
        self._are_there = bool(names) and _hold_formats(paths, {JSON, *names.values()})
        self._lacking: Counter[str] = Counter()
        self._first: dict[str, str] = {}  # name of a label -> the first sample without it
        self._seen: set[str] = set()

    def of(self, file: RawFile, group: Sequence[RawFile | Broken]) -> dict[str, Any]:
        """The labels of a sample, whose members are `group`; None for one that it lacks. Raises DataError for JSON that is none."""
        stem = file.stem
        beside = {part.format: part for part in group if isinstance(part, RawFile) and part.stem in (stem, first_part(stem))}
        values = dict(_fields(beside[JSON])) if JSON in beside else {}
        values |= {column: beside[column].read().decode(errors="replace") for column in self._names.values() if column in beside}
        labels = {name: label_value(values[column], self._options.table) for name, column in self._names.items() if column in values}
        self._seen.update(labels)
        if self._are_there and file.format not in WITH_LABELS:
            for name in self._names.keys() - labels:
                self._lacking[repr(name)] += 1
                self._first.setdefault(name, file.where)
            return dict.fromkeys(self._names) | labels
        return labels

    def tally(self) -> Iterator[Tally]:
        """How many samples lack which label. Raises DataError for one that no sample has."""
        nowhere = [name for name in self._first if name not in self._seen]
        if nowhere and self._options.labels_path is None:
            what = f"there is no column {self._names[nowhere[0]]!r} for the label {nowhere[0]!r}, nor is it beside any sample."
            fix = "Check --label, or give the file that holds it with --labels."
            raise DataError(what, where=self._first[nowhere[0]], fix=fix)
        lacking = {shown: count for shown, count in self._lacking.items() if shown not in map(repr, nowhere)}
        if lacking:
            yield Tally("samples without a label that others have beside them: {}", lacking)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    """`{key}.left.jpg` as a regular expression; `*` is any part of a name. Raises UsageError without `{key}` or `{stem}`."""
    if text is None:
        return None
    if sum(map(text.count, FIELDS)) != 1:
        fix = "Write e.g. '{key}.left.jpg', or '{stem}.jpg' where keys hold dots."
        raise UsageError(f"{text!r} does not say where the key stands.", where="--member", fix=fix)
    pattern = re.escape(text).replace(r"\*", "[^/]*")
    for field, expression in FIELDS.items():
        pattern = pattern.replace(re.escape(field), expression)
    return re.compile(pattern, re.IGNORECASE)


def _chosen_members(
    files: Iterable[RawFile | Broken], members: Members, labels: LabelsBeside, others: OtherFormats
) -> Iterator[RawFile | Broken]:
    """The files that are read, with the labels that lie beside them; all else is counted in `others`."""
    if not members.labels:
        for file in files:
            yield from _chosen([file], members, labels, others)
        return
    for _, group in groupby(map(held, files), _sample):
        yield from _chosen(list(group), members, labels, others)


def _repeated_in_archives(paths: Sequence[Path], formats: Collection[str]) -> bool:
    """Whether a sample of some kind has the same key in several of these archives, or of those in these folders: one answer for all kinds,
    so that their samples meet. formats: of the kind that is read, where its files hold many samples."""
    archives = _archives(paths)
    seen: set[tuple[str, str]] = set()
    for archive in archives if len(archives) > 1 else ():
        members = [split_name(name) for name in _names(archive) if not is_document(PurePosixPath(name).name)]
        keys = {(kind, stem) for stem, form in members for kind, single in SINGLE.items() if form in single}
        keys |= {("", stem) for stem, form in members if form in TABULAR and form in formats}
        if not keys.isdisjoint(seen):
            return True
        seen |= keys
    return False


def _hold_formats(paths: Sequence[Path], formats: Collection[str]) -> bool:
    """Whether a file below these paths is of one of these formats by its name."""
    archives = _archives(paths)
    names = [file.name for path in paths if path.is_dir() for file in walk(path)]
    return any(split_name(name)[1] in formats for name in (*names, *(name for archive in archives for name in _names(archive))))


def _names(archive: Path) -> list[str]:
    """Of the members of an archive; none where it is damaged, which is reported when it is read."""
    try:
        if archive.suffix.lower() == ".zip":
            with open_regular(archive) as file, zipfile.ZipFile(file) as opened:
                return opened.namelist()
        with open_regular(archive) as file, tarfile.open(fileobj=file, ignore_zeros=True) as tar:
            return [info.name for info in tar if info.isfile()]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError):
        return []


def _archives(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (walk(path) if path.is_dir() else [path])]
    return [file for file in files if split_name(file.name)[1] in ARCHIVES]


def _chosen(group: Sequence[RawFile | Broken], members: Members, labels: LabelsBeside, others: OtherFormats) -> Iterator[RawFile | Broken]:
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
            yield replace(named, labels=labels.of(file, group)) if members.labels else named
        except DataError as error:
            yield Broken(file.where, error, named.stem)


def _fields(file: RawFile) -> Mapping[str, Any]:
    try:
        fields = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON ({error}).", where=file.where, fix="Get it again, or name no label of it.") from error
    return fields if isinstance(fields, Mapping) else {}


def _sample(file: RawFile | Broken) -> str:
    """What members of one sample have in common."""
    return file.where if isinstance(file, Broken) else f"{file.archive}/{first_part(file.stem)}"
