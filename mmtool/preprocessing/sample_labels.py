"""Labels of one sample from all that may give them: its file or row, a labels file, the folder it lies in, and its key."""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.labels import LabelsFile, read_labels
from mmtool.preprocessing.readers.entries import Entry, SourceOptions, label_value, name_of
from mmtool.preprocessing.readers.raw_files import raw_file


class SampleLabels:
    """Gives the labels and the group of samples as the options say. noted: labels of the labels file, which were judged with it."""

    def __init__(self, options: SourceOptions, quiet: bool) -> None:
        self._options = options
        self._pattern = _pattern(options.label_pattern)
        self._file = _labels_file(options, quiet)
        self.noted = self._file.names if self._file else ()

    def matched(self, entry: Entry) -> dict[str, str]:
        """What the groups of the pattern find in the key. Raises DataError where it does not match."""
        if self._pattern is None:
            return {}
        match = self._pattern.search(entry.key)
        if match is None:
            what = f"the key {entry.key!r} does not match {self._pattern.pattern!r}."
            raise DataError(what, where=entry.where, fix="Mend --label-pattern.")
        return {name: text for name, text in match.groupdict().items() if text is not None}

    def of(self, entry: Entry, key: str, matched: dict[str, str]) -> dict[str, Any]:
        """Labels of all sources. Raises UsageError where two of them give one of the same name, DataError where one that is asked for is
        not there, or wrong."""
        sources = {
            "--label": {name: label for name, label in entry.labels.items() if label is not None},
            "--labels": self._row(key),
            "--label-from-folder": self._folder(entry),
            "--label-pattern": {name: label_value(text) for name, text in matched.items()},
        }
        givers: dict[str, str] = {}
        for option, labels in sources.items():
            twice = next((name for name in labels if name in givers), None)
            if twice is not None:
                what = f"the label {twice!r} comes from {givers[twice]} and from {option}."
                raise UsageError(what, where=entry.where, fix="Leave one of them out, or give it another name in one of them.")
            givers |= dict.fromkeys(labels, option)
        merged = dict(entry.labels) | {name: label for labels in sources.values() for name, label in labels.items()}
        for name, column in self._options.label_names.items():
            if name not in merged:
                fix = "Check --label, or give the file that holds it with --labels."
                raise DataError(f"there is no column {column!r} for the label {name!r}.", where=entry.where, fix=fix)
        return merged

    def group(self, labels: dict[str, Any], key: str, where: str) -> str:
        """The group by its label; the key where groups have none. Raises DataError where there is no such label."""
        column = self._options.group_column
        if column is None:
            return key
        if column not in labels:
            what = f"there is no column or label {column!r}; the labels are: {', '.join(labels) or 'none'}."
            raise DataError(what, where=where, fix="Name another with --group-column.")
        return name_of(labels[column])

    def unnamed(self, keys: Collection[str]) -> int:
        """How many of the keys have no row in the labels file. Raises DataError where none of them has one."""
        return self._file.unnamed(keys) if self._file else 0

    def _folder(self, entry: Entry) -> dict[str, Any]:
        if self._options.label_from_folder is None:
            return {}
        folder = PurePosixPath(entry.key).parent.name or Path(entry.where).parent.name
        return {self._options.label_from_folder: label_value(folder)}

    def _row(self, key: str) -> dict[str, Any]:
        file = self._file
        if file and key in file.wrong:
            raise file.wrong[key]
        return dict(file.rows.get(key) or dict.fromkeys(file.names)) if file else {}


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"{text!r} is no regular expression ({error}).", where="--label-pattern", fix="Mend it.") from error
    if not pattern.groupindex:
        raise UsageError(f"{text!r} has no named group.", where="--label-pattern", fix=r"Name what to keep, e.g. `(?P<digit>\d)_`.")
    return pattern


def _labels_file(options: SourceOptions, quiet: bool) -> LabelsFile | None:
    """None where there is none, or where it is the idx file of an image reader."""
    path = options.labels_path
    if path is None or (path.is_file() and raw_file(path).format == "idx"):
        return None
    return read_labels(path, options.key_column, options.label_names, options.on_error, table=options.table, quiet=quiet)
