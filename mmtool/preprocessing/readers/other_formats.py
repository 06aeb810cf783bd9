"""Files of other formats beside those of a kind: not an error, but counted and reported, so that none is left out without a word."""

import re
from collections import Counter

SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini"))  # written by the desktop into folders of pictures
SYSTEM_FOLDERS = frozenset(("__MACOSX",))
DOCUMENT = re.compile(r"(readme|license|licence|copying|notice|authors|citation|changelog)([._-].*)?", re.IGNORECASE)
REJECTS_LIST = ".rejects.jsonl"
LISTED_FORMATS = 8


class OtherFormats:
    """Counts the files that are left out. Documents about the data (README, LICENSE), lists of rejected samples and what systems put into
    folders hold no samples, so they are not counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.example = ""

    def add(self, where: str, name: str, file_format: str, note: str = "") -> None:
        """Count the file `name` at `where`; the note says what sets it apart from others of its format."""
        if name.lower() in SYSTEM_FILES or name.lower().endswith(REJECTS_LIST) or DOCUMENT.fullmatch(name):
            return
        self.example = self.example or where
        self.counts[(f".{file_format}" if file_format else "without extension") + note] += 1

    @property
    def total(self) -> int:
        """How many files were left out."""
        return self.counts.total()

    def __str__(self) -> str:
        listed = [f"{count:,} {name}" for name, count in self.counts.most_common(LISTED_FORMATS)]
        if len(self.counts) > LISTED_FORMATS:
            listed.append(f"{len(self.counts) - LISTED_FORMATS} more")
        files = "1 file of another format" if self.total == 1 else f"{self.total:,} files of other formats"
        return f"{files}: {', '.join(listed)} ({self.example})"


def is_system_folder(name: str) -> bool:
    """Whether a folder holds nothing that a person put there: hidden ones, and what macOS adds to archives."""
    return name.startswith(".") or name in SYSTEM_FOLDERS
