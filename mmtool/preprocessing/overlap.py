"""Whether modalities that are joined on keys meet at all, and by keys that mean something; asked before anything is written."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from heapq import nsmallest
from itertools import combinations
from typing import NamedTuple

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.preprocessing.items import Items

NUM_EXAMPLES = 3
ENOUGH = 0.5  # share of a modality's keys that another modality is expected to have
SEPARATORS, EXTENSION = re.compile(r"[._-]"), re.compile(r"\.\w{1,5}$")
BARCODE, BARCODE_SIZES = re.compile(r"TCGA[-.]"), (16, 15, 12)  # characters that name the vial, the sample and the patient


class Change(NamedTuple):
    """what it does, the option of `tokenize` that does it (if one can), and how, to the keys on either side."""

    what: str
    option: str
    here: Callable[[str], str]
    there: Callable[[str], str]

    def __str__(self) -> str:
        return f"{self.what} ({self.option})" if self.option else self.what


def _alike(what: str, option: str, change: Callable[[str], str]) -> Change:
    return Change(what, option, change, change)


CHANGES: tuple[Change, ...] = (
    _alike("without blanks around them", r"--label-pattern '^\s*(?P<key>.*\S)'", str.strip),
    _alike("in one case", "", str.casefold),
    _alike("with the same signs for '.', '_' and '-'", "", lambda key: SEPARATORS.sub("-", key)),
    _alike("without file extensions", r"--label-pattern '^(?P<key>.+?)(\.\w{1,5})?$'", lambda key: EXTENSION.sub("", key)),
    _alike("without folders", "--label-pattern '(?P<key>[^/]+)$'", lambda key: key.rpartition("/")[2]),
    _alike("without leading zeros", "--label-pattern '^0*(?P<key>.+)$'", lambda key: key.lstrip("0")),
)


def check_overlap(items: Mapping[str, Items], features: Mapping[str, Collection[str]] | None = None) -> None:
    """Raise DataError where no key of a modality occurs in another one; warn where fewer than half of them do, or where half of the others
    would if they were written alike. features: the columns of
    tables, which may be the keys where one of two tables lies the wrong way."""
    keys = {name: set(map(by_key.original_of, by_key)) for name, by_key in sorted(items.items()) if by_key}
    occurrences = Counter(key for held in keys.values() for key in held)
    for name, held in keys.items() if len(keys) > 1 else ():
        lone = {key for key in held if occurrences[key] == 1}
        num_met = len(held) - len(lone)
        candidates = {other: there - held for other, there in keys.items() if other != name}
        enough = num_met >= ENOUGH * len(held)
        if enough and not _hint(lone, candidates, CHANGES):
            continue
        examples = "; ".join(f"{other} has {_some(there)}" for other, there in {name: lone, **candidates}.items() if there)
        hint = _hint(lone, candidates, CHANGES if enough else None) or _transposed(name, lone, features or {})
        if not num_met:
            what = f"no key of {name} occurs in another modality: {examples}.{hint}"
            advice = (
                "Give the files one name, with which row numbers begin" if items[name].numbered else "Make the keys alike when tokenizing"
            )
            raise DataError(what, fix=f"{advice}, or allow it with --unpaired.")
        log(f"warning: only {num_met:,} of {len(held):,} keys of {name} occur in another modality: {examples}.{hint}")


def check_numbered(items: Mapping[str, Items], by_row: bool) -> None:
    """Raise DataError where items of different inputs would be joined on the numbers of their rows, as in `check_rows`."""
    for first, second in combinations([items[name] for name in sorted(items)], 2):
        for key, rows in first.numbered.items():
            if key in second.numbered and first.input_of(key) != second.input_of(key):
                check_rows(key, {first.name: rows, second.name: second.numbered[key]}, by_row)


def check_rows(key: str, rows: Mapping[str, int], by_row: bool) -> None:
    """rows: modality -> rows of its file, where the key is a row number. Raises DataError for two of them unless it is wanted (`by_row`)
    and the files have equally many rows."""
    if len(rows) < 2:
        return
    names = " and ".join(sorted(rows))
    if not by_row:
        what = f"{names} have no keys but row numbers, and row i of one file need not belong to row i of another."
        fix = "Name their key columns when tokenizing (--key-column), or add --by-row where the rows are in the same order."
        raise DataError(what, where=key, fix=fix)
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in sorted(rows.items()))
        raise DataError(f"files of different lengths cannot be joined by row: {counts}.", where=key, fix="Give files of the same rows.")


def _some(keys: Collection[str]) -> str:
    return ", ".join(map(repr, nsmallest(NUM_EXAMPLES, keys))) + (", ..." if len(keys) > NUM_EXAMPLES else "")


def _hint(keys: Collection[str], candidates: Mapping[str, Collection[str]], changes: Iterable[Change] | None = None) -> str:
    """Which simple change (None: of all) would make half of the keys of either side meet, as a sentence; nothing where none would."""
    changes_by_name = ((name, _change(keys, there, changes)) for name, there in candidates.items() if keys and there)
    meeting = [f"those of {name} {change}" for name, change in changes_by_name if change]
    return f" They would meet {', and '.join(meeting)}." if meeting else ""


def _change(keys: Collection[str], candidates: Collection[str], changes: Iterable[Change] | None) -> str | None:
    for change in changes or (*CHANGES, *_cuts(keys, candidates), *_without_ends(keys, candidates)):
        here, there = set(map(change.here, keys)), set(map(change.there, candidates))
        discerning = 2 * len(here) > len(keys) and 2 * len(there) > len(candidates)
        if discerning and len(here & there) >= ENOUGH * min(len(here), len(there)):
            return str(change)
    return None


def _transposed(name: str, keys: Collection[str], features: Mapping[str, Collection[str]]) -> str:
    """That the keys are features of another table, as a sentence; nothing where they are not."""
    tables = [other for other, columns in features.items() if other != name and 2 * len(set(keys) & set(columns)) > len(keys)]
    return f" They are features of {tables[0]}: one of both has its features in rows (tokenize it with --transpose)." if tables else ""


def _without_ends(keys: Collection[str], candidates: Collection[str]) -> Iterator[Change]:
    """Keys without what all of one side begin or end with."""
    sides = [_common_ends(side) for side in (keys, candidates)]
    prefixes = {before for before, _ in sides if before}  # two different ones may well say that the keys are other things
    if sides[0] != sides[1] and len(prefixes) < 2:
        named = [f"{before}KEY{after}" for before, after in sides if before or after]
        options = [f"--label-pattern '^{re.escape(before)}(?P<key>.+){re.escape(after)}$'" for before, after in sides if before or after]
        here, there = (partial(_stripped, before=before, after=after) for before, after in sides)
        yield Change(f"reading {' and '.join(named)} as KEY", " and ".join(options), here, there)


def _common_ends(keys: Collection[str]) -> tuple[str, str]:
    """What all keys begin and end with, digits at the seams left to the keys."""
    before = _common_start(keys).rstrip("0123456789")
    after = _common_start([key[len(before) :][::-1] for key in keys])[::-1].lstrip("0123456789")
    return before, after


def _common_start(keys: Collection[str]) -> str:
    first, last = min(keys), max(keys)
    size = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), min(len(first), len(last)))
    return first[:size]


def _stripped(key: str, before: str, after: str) -> str:
    return key.removeprefix(before).removesuffix(after)


def _cuts(keys: Collection[str], candidates: Collection[str]) -> tuple[Change, ...]:
    """Keys cut to the length of the shortest, and barcodes of TCGA to the beginnings that are those of vials, samples and patients."""
    shortest = min(map(len, (*keys, *candidates)), default=0)
    barcodes = all(map(BARCODE.match, (*keys, *candidates)))
    sizes = dict.fromkeys([shortest, *(size for size in BARCODE_SIZES if barcodes and size < shortest)])
    return tuple(change for size in sizes for change in _cut_to(size))


def _cut_to(size: int) -> tuple[Change, Change]:
    option, what = f"--label-pattern '^(?P<key>.{{{size}}})'", f"cut to {size} characters"
    joined = f"{what}, with the same signs for '.', '_' and '-'"
    return _alike(what, option, lambda key: key[:size]), _alike(joined, "", lambda key: SEPARATORS.sub("-", key[:size]))
