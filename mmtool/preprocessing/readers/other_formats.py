"""Files of other formats beside those of a kind: counted and named; those that may be samples in a format that is not read are an error.

Never counted are documents about the data (README, LICENSE ...), lists of rejected samples, hidden files and what systems put into folders.
Counted, but no error, are other modalities and labels: files of formats that another kind reads, and files beside a sample that are called
like it (7.json and 7.cls beside 7.jpg). Where samples are no written words, notes (JSON, XML, HTML ...) are no error either.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mmtool.kinds import KINDS
from mmtool.preprocessing.readers.conversions import advice

SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini"))  # written by the desktop into folders of pictures
SYSTEM_FOLDERS = frozenset(("__MACOSX",))
DOCUMENT = re.compile(r"(readme|license|licence|copying|notice|authors|citation|changelog)([._-].*)?", re.IGNORECASE)
DATASET_RECORDS = frozenset(("dataset_info.json", "state.json", "dataset_dict.json"))  # beside the Arrow files of `save_to_disk`
NOTES = frozenset(("json", "xml", "yaml", "yml", "md", "html", "htm", "log", "pdf"))
WRITTEN = frozenset(("txt", "csv"))  # formats of kinds whose samples are written in words or digits
READ_BY_SOME_KIND = frozenset(form for entry in KINDS.values() for form in entry.suffixes)
NO_SAMPLE = re.compile(r"(readme|licen[sc]e|copying)(\.\w+)?", re.IGNORECASE)  # even where texts are read
REJECTS_LIST = ".rejects.jsonl"
LISTED_FORMATS, LISTED_LINKS, ADVISED_FORMATS = 8, 5, 2


@dataclass(frozen=True)
class OtherFile:
    """A file that was left out: where it is, its path without extension below what was given, and its format (``note``: and what sets it
    apart)."""

    where: str
    stem: str
    format: str
    note: str = ""

    @property
    def sort(self) -> str:
        """How a list of files calls it."""
        return (f".{self.format}" if self.format else "without extension") + self.note


class OtherFormats:
    """Counts the files that are left out. formats: those that are read. samples: paths of the files that are, without extensions.
    repeated: links to folders that are read without them."""

    def __init__(self, formats: Collection[str] = ()) -> None:
        self.formats = frozenset(formats)
        self.counts: Counter[str] = Counter()
        self.example = ""
        self.samples: set[str] = set()
        self.repeated: list[str] = []
        self._unread: list[OtherFile] = []

    def add(self, where: str, name: str, file_format: str, note: str = "", stem: str = "") -> None:
        """Count the file `name` at `where`; the note says what sets it apart from others of its format."""
        known = name.lower() in SYSTEM_FILES or name in DATASET_RECORDS or name.lower().endswith(REJECTS_LIST)
        if known or DOCUMENT.fullmatch(name):
            return
        file = OtherFile(where, stem, file_format, note)
        self.example = self.example or where
        self.counts[file.sort] += 1
        notes = NOTES if not self.formats & WRITTEN else frozenset()
        if not note and file_format not in READ_BY_SOME_KIND | notes:
            self._unread.append(file)

    def take(self, other: "OtherFormats") -> None:
        """Become what another one is, which may come from another process."""
        vars(self).update(vars(other))

    @property
    def total(self) -> int:
        """How many files were left out."""
        return self.counts.total()

    @property
    def unread(self) -> list[OtherFile]:
        """Files that may be samples, in a format that is not read."""
        keys = {*self.samples, *map(first_part, self.samples)}
        return [file for file in self._unread if file.stem not in keys and first_part(file.stem) not in self.samples]

    def __str__(self) -> str:
        return _listed(self.counts, self.example)


def listed(files: Collection[OtherFile]) -> str:
    """How many files of which formats, and the first of them."""
    return _listed(Counter(file.sort for file in files), next(file.where for file in files))


def advised(files: Iterable[OtherFile], formats: Collection[str]) -> str:
    """How to convert the commonest formats, as sentences."""
    forms = Counter(file.format for file in files)
    known = ((form, advice(form, formats)) for form, _ in forms.most_common())
    sentences = [f"{text.replace('it', f'.{form}', 1)}" for form, text in known if text][:ADVISED_FORMATS]
    return " ".join(sentences)


def listed_links(links: Collection[str]) -> str:
    """How many links to folders, and the first of them."""
    named = ", ".join([*list(links)[:LISTED_LINKS], *(["..."] if len(links) > LISTED_LINKS else [])])
    return f"{len(links):,} links to folders that are read already: {named}"


def is_document(name: str) -> bool:
    """Whether a file in a folder or archive describes the data, and is no sample of it."""
    return NO_SAMPLE.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Whether a file is none that a person put there: hidden ones, and those by which Excel marks an open workbook."""
    return name.startswith((".", "~$"))


def is_system_folder(name: str) -> bool:
    """Whether a folder holds nothing that a person put there: hidden ones, and what macOS adds to archives."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def first_part(stem: str) -> str:
    """The key of WebDataset: `a/7.left` belongs to `a/7`."""
    folder, slash, name = stem.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _listed(counts: Mapping[str, int], example: str) -> str:
    common = Counter(counts).most_common(LISTED_FORMATS)
    listing = [f"{count:,} {name}" for name, count in common]
    if len(counts) > LISTED_FORMATS:
        listing.append(f"{len(counts) - LISTED_FORMATS} more")
    total = sum(counts.values())
    files = "1 file of another format" if total == 1 else f"{total:,} files of other formats"
    return f"{files}: {', '.join(listing)} ({example})"
