"""Raw files -> items: key, raw value, labels and the group that decides the split. Bad samples end the run or are set aside."""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.common.seal import foreign
from mmtool.kinds import kind_named, load
from mmtool.preprocessing.decoding import IN_PROCESS, Decoding, Steps, Taken
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.messages import Message, Position, messages
from mmtool.preprocessing.readers.entries import (
    KEY,
    MISSING_TEXTS,
    Broken,
    Entry,
    LeftOut,
    MissingWord,
    Note,
    SourceOptions,
    Tally,
    UnreadArrays,
    is_unicode,
    normal_form,
)
from mmtool.preprocessing.readers.other_formats import OtherFormats, advised, listed, listed_links
from mmtool.preprocessing.readers.read_errors import DeepImageError
from mmtool.preprocessing.rejects import Reject, first_reason, refuse_many
from mmtool.preprocessing.sample_labels import SampleLabels

__all__ = ["Item", "Reject", "SourceOptions", "read_items"]

GROUP, EPISODE = "group", "episode"
MAX_REJECTS_IN_A_ROW = 100


@dataclass(frozen=True)
class Item:
    """One raw sample.

    value: image (H, W, C) uint8; audio ((T,) float32 mono, sample rate in Hz); text str; table ((F,) float32, feature names; float64
    where single precision rounds large integers); trajectory {stream: (steps, ...)}. group: samples of one group go to one split; the
    key (of clips, their episode) unless given.
    metadata: where in its source it comes from; where: what a person calls that place. rows: where the key is a row number, how many rows
    the file has. further: other values of the same sample, such as more captions.
    """

    key: str
    value: Any
    labels: dict[str, Any]
    group: str
    metadata: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    rows: int | None = None
    further: tuple[Any, ...] = ()


def read_items(
    kind: str,
    paths: Sequence[Path],
    options: SourceOptions,
    rejects: list[Reject] | None = None,
    columns: LabelColumns | None = None,
    *,
    absent: list[str] | None = None,
    others: OtherFormats | None = None,
    quiet: bool = False,
    check_options: bool = False,
    decoding: Decoding = IN_PROCESS,
    steps: Steps | None = None,
) -> Generator[Item, None, None]:
    """Read all samples of a kind below `paths`, one at a time.

    Texts of nothing but white space and table rows without any value are absent: no items, but their keys are appended to `absent`.
    others: where files of other formats, which are left out, are counted. quiet: say nothing of what was read, for reading it again.
    check_options: raise UsageError for options of tables and texts that have no effect on any of the files.
    decoding: in which processes files are read; the items and their order are the same in any number. steps: what is done with values right
    where they were decoded, so that those of items are what these make of them.
    With `on_error="skip"` bad samples are appended to `rejects`; 100 in a row, or in the end 20 and more than 1 %, are too many.
    columns: where labels are gathered; at the end, samples with a label that does not fit are withdrawn there. Without, that is an error.
    Raises DataError for bad samples, duplicate keys and paths without samples; running out of memory, failing disks and files whose
    keys are unclear are never skipped.
    """
    is_empty = partial(_is_empty, load(kind_named(kind).preparer).is_empty, keep_empty=options.keep_empty)
    gate = _Gate(options, [] if rejects is None else rejects, columns, [] if absent is None else absent, is_empty, quiet)
    others = OtherFormats() if others is None else others
    paths = [Path(path) for path in paths]
    steps = steps or Steps()
    read = partial(messages, kind, paths, options, check_options=check_options)
    for message in decoding.read(read, steps, is_empty):
        if isinstance(message, OtherFormats):
            others.take(message)
        elif not isinstance(message, Position):
            yield from gate.admit(message)
    gate.report_other_formats(others)
    gate.close(paths)


def _is_empty(of_kind: Callable[[Any, bool], bool], value: Any, keep_empty: bool) -> bool:
    """Whether a value is none at all; one that the steps took further is some."""
    return isinstance(value, MissingWord) or (not isinstance(value, Taken) and of_kind(value, keep_empty))


class _Gate:
    """Turns entries into items: completes their labels, refuses duplicates, and counts what is rejected or absent."""

    def __init__(
        self,
        options: SourceOptions,
        rejects: list[Reject],
        columns: LabelColumns | None,
        absent: list[str],
        is_empty: Callable[[Any], bool],
        quiet: bool,
    ) -> None:
        self.options = options
        self.columns, self.may_withdraw = columns or LabelColumns(), columns is not None and options.on_error == "skip"
        self.rejects, self.absent, self.is_empty = rejects, absent, is_empty
        self.labels = SampleLabels(options, quiet)
        self.seen: dict[str, str] = {}
        self.notes: set[str] = set()
        self.unread: set[str] = set()
        self.quiet = quiet
        self.left_out, self.longest_left_out = Counter[str](), 0
        self.tallies: dict[str, Counter[str]] = defaultdict(Counter)
        self.in_a_row = 0
        self.deep: list[DeepImageError] = []

    def admit(self, entry: Message) -> Iterator[Item]:
        """The item of an entry, or nothing where it is rejected, absent or left out."""
        if not isinstance(entry, Entry):
            self._take_in(entry)
            return
        try:
            item = self._item(entry)
        except DeepImageError as error:
            self.deep.append(error)  # all are looked at, for what is declared holds for all
            if self.options.on_error == "skip":
                self.reject(entry.where, entry.key, error)
            return
        except DataError as error:
            self.reject(entry.where, entry.key, error)
            return
        self.in_a_row = 0
        if self.is_empty(item.value):
            self.absent.append(item.key)
        else:
            yield item

    def _take_in(self, message: Broken | LeftOut | Note | Keys | Tally | UnreadArrays) -> None:
        """What a reader gives besides samples."""
        if isinstance(message, LeftOut):
            self.left_out[message.why] += message.steps
            self.longest_left_out = max(self.longest_left_out, message.steps)
        elif isinstance(message, Tally):
            self.tallies[message.text].update(message.counts)
        elif isinstance(message, Broken):
            self.reject(message.where, message.key, message.error)
        elif isinstance(message, UnreadArrays):
            self._report_unread(message)
        elif message.kind not in self.notes:
            self.notes.add(message.kind)
            self._log(str(message), isinstance(message, Note) and message.always)

    def reject(self, where: str, key: str | None, error: DataError) -> None:
        """Set a sample aside, or raise the error where none may be, or too many are."""
        if self.options.on_error == "raise":
            raise error
        self.rejects.append(Reject(_printable(where), None if key is None else _printable(key), _printable(str(error))))
        self.in_a_row += 1
        if self.in_a_row >= MAX_REJECTS_IN_A_ROW:
            raise DataError(f"{self.in_a_row} bad samples in a row; the last: {error}", fix="Check the input and the options.")

    def report_other_formats(self, others: OtherFormats) -> None:
        """Say which files were left out because they are of other formats; raise DataError where they may be samples, unless it was said
        which files are."""
        unread = [] if self.options.skip_other or self.options.member else others.unread
        if unread:
            fix = f"{advised(unread, others.formats)} Or leave them out with --skip-other.".strip()
            raise DataError(f"{listed(unread)} would be left out.", fix=fix)
        if others.total:
            self._log(f"left out: {others}")
        if others.repeated:
            self._log(f"left out: {listed_links(others.repeated)}")

    def close(self, paths: Sequence[Path]) -> None:
        """Judge the whole: no samples, too many rejected, labels that fit none."""
        where = ", ".join(map(str, paths))
        if self.deep and self.options.on_error == "raise":
            raise DeepImageError.of_all(self.deep)
        self._withdraw()
        good = len(self.seen)
        refuse_many(self.rejects, good, where)
        if self.left_out and not good:
            fix = f"Give a smaller --clip than {self.options.clip}: the longest has {self.longest_left_out} steps."
            raise DataError("no episode is as long as a clip.", where=where, fix=fix)
        for why, steps in self.left_out.items():
            self._log(f"{steps:,} {why}")
        for text, counts in self.tallies.items():
            often_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            self._log(text.format(", ".join(f"{count:,} {what}" for what, count in often_first)))
        if not good and (self.rejects or self.options.part is None):
            raise DataError(f"no sample could be read{first_reason(self.rejects)}", where=where, fix="Check the input.")
        if len(self.absent) == good and self.options.part is None:
            what = f"all {good} samples are empty: texts of white space, or rows without any value."
            raise DataError(what, where=where, fix="Check the input, and --text-column for texts.")
        if self.absent:
            self._log(f"{len(self.absent):,} of {good:,} samples are empty, hence absent.")
        unnamed = self.labels.unnamed(self.seen)
        if unnamed:
            self._log(f"{unnamed} of {good} samples have no row in {self.options.labels_path}.")

    def _report_unread(self, unread: UnreadArrays) -> None:
        """Name each array once, not for each of many files that hold it."""
        new = [name for name in unread.names if name not in self.unread]
        self.unread.update(new)
        if new:
            self._log(f"left out of {unread.where}: {', '.join(new)} (known: {', '.join(unread.known)}; others as labels, with --label)")

    def _log(self, message: str, always: bool = False) -> None:
        if always or not self.quiet:
            log(message)

    def _counted(self, value: Any) -> Any:
        """The value, None for a word that says that it is missing."""
        if not isinstance(value, MissingWord):
            return value
        self.tallies[MISSING_TEXTS][str(value)] += 1
        return None

    def _withdraw(self) -> None:
        """Take back samples with labels that do not fit their columns, or raise for the first; columns of a part are judged by `shard`."""
        if self.options.part is not None:
            return
        if not self.may_withdraw:
            self.columns.check()
        for key, (where, error) in self.columns.wrong().items():
            self.in_a_row = 0  # they lie anywhere
            self.reject(where, key, error)
            self.columns.withdrawn.add(key)
            del self.seen[key]
            if key in self.absent:
                self.absent.remove(key)

    def _item(self, entry: Entry) -> Item:
        matched = self.labels.matched(entry)
        key = normal_form(matched.pop(KEY, entry.key))
        if not key:
            raise DataError("the sample has an empty key.", where=entry.where, fix="Fill the key column.")
        if key in self.seen:
            fix = "Make keys unique: rename, give one folder above both, or name another --key-column (none: rows are numbered)"
            fix += "; several texts of a sample: --captions all."
            raise DataError(f"the key {key!r} was seen before, in {self.seen[key]}.", where=entry.where, fix=fix)
        if not is_unicode(key):
            what = f"the key {key!r} is not UTF-8."
            raise DataError(what, where=entry.where, fix="Rename the file, or correct the key.")
        group = matched.pop(GROUP, entry.group)
        labels = self.labels.of(entry, key, matched)
        if group is None:
            group = self.labels.group(labels, key, entry.where)
        with foreign(entry.where):
            value, *further = (self._counted(load()) for load in (entry.load, *entry.further))
        self.seen[key] = entry.where
        self.columns.add(key, entry.where, {name: label for name, label in labels.items() if name not in self.labels.noted})
        known = {name: label for name, label in labels.items() if label is not None}
        return Item(key, value, known, group or entry.metadata.get(EPISODE, key), entry.metadata, entry.where, entry.rows, tuple(further))


def _printable(text: str) -> str:
    """The text, with backslashes for halves of characters."""
    return text.encode(errors="backslashreplace").decode()
