"""Parts of the samples of an input, for batch systems: which one a sample belongs to is a pure function of its key and their number."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mmtool.common.errors import UsageError

STATED = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,8})", re.A)


@dataclass(frozen=True)
class Part:
    """One of `count` parts, numbered from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part that `2/8` states. Raises UsageError for anything else."""
        stated = STATED.fullmatch(text)
        part = cls(*map(int, stated.groups())) if stated else cls(1, 0)
        if part.number > part.count:
            raise UsageError(f"{text!r} states no part.", where="--part", fix="Give number and count, e.g. 2/8, the number from 1 on.")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether the sample of this key, as the reader gives it, belongs to the part."""
        digest = hashlib.sha256(f"part\0{key}".encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


def missing(texts: Iterable[str]) -> list[str]:
    """The parts that are not among these, of as many as the first one states. Raises UsageError where another states another number."""
    parts = [Part.parse(text) for text in texts]
    if len({part.count for part in parts}) > 1:
        listed = ", ".join(map(str, parts))
        raise UsageError(f"these are parts of different divisions: {listed}.", where="INPUT", fix="Give all parts of one --part I/N.")
    held = {part.number for part in parts}
    return [f"{number}/{part.count}" for part in parts[:1] for number in range(1, part.count + 1) if number not in held]
