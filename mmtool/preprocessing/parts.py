"""Parts of the samples of an input, for batch systems: which one a sample belongs to is a pure function of its key and their number."""

import hashlib
import re
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

    def holds(self, key: str) -> bool:
        """Whether the sample of this key, as the reader gives it, belongs to the part."""
        digest = hashlib.sha256(f"part\0{key}".encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
