"""Whether modalities that are joined on keys meet at all, and by keys that mean something; asked before anything is written."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from heapq import nsmallest
from itertools import combinations

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.preprocessing.join import NUMBERED_ROWS, original_of

NUM_EXAMPLES = 3
ENOUGH = 0.5  # share of a modality's keys that another modality is expected to have
SEPARATORS, EXTENSION = re.compile(r"[._-]"), re.compile(r"\.\w{1,5}$")
Change = tuple[str, str, Callable[[str], str]]  # what it does, the option of `tokenize` that does it (if one can), and how
CHANGES: tuple[Change, ...] = (
    ("without blanks around them", r"--label-pattern '^\s*(?P<key>.*\S)'", str.strip),
    ("in one case", "", str.casefold),
    ("with the same signs for '.', '_' and '-'", "", lambda key: SEPARATORS.sub("-", key)),
    ("without file extensions", r"--label-pattern '^(?P<key>.+?)(\.\w{1,5})?$'", lambda key: EXTENSION.sub("", key)),
    ("without folders", "--label-pattern '(?P<key>[^/]+)$'", lambda key: key.rpartition("/")[2]),
    ("without leading zeros", "--label-pattern '^0*(?P<key>.+)$'", lambda key: key.lstrip("0")),
)


def check_overlap(items: Mapping[str, Mapping[str, Sample]]) -> None:
    """Raise DataError where no key of a modality occurs in another one; warn where fewer than half of them do."""
    keys = {name: {original_of(item) for item in by_key.values()} for name, by_key in sorted(items.items()) if by_key}
    occurrences = Counter(key for held in keys.values() for key in held)
    for name, held in keys.items() if len(keys) > 1 else ():
        lone = {key for key in held if occurrences[key] == 1}
        num_met = len(held) - len(lone)
        if num_met >= ENOUGH * len(held):
            continue
        others = {other: there - held for other, there in keys.items() if other != name}
        examples = "; ".join(f"{other} has {_some(there)}" for other, there in {name: lone, **others}.items() if there)
        if not num_met:
            what = f"no key of {name} occurs in another modality: {examples}.{_hint(lone, others)}"
            numbered = any(name in item.metadata.get(NUMBERED_ROWS, {}) for item in items[name].values())
            advice = "Give the files one name, with which row numbers begin" if numbered else "Make the keys alike when tokenizing"
            raise DataError(what, fix=f"{advice}, or allow it with --unpaired.")
        log(f"warning: only {num_met:,} of {len(held):,} keys of {name} occur in another modality: {examples}.{_hint(lone, others)}")


def check_numbered(items: Mapping[str, Mapping[str, Sample]], inputs: Mapping[str, Mapping[str, int]], by_row: bool) -> None:
    """Raise DataError where items of different inputs would be joined on the numbers of their rows, as in `check_rows`."""
    for pair in combinations(sorted(items), 2):
        first, second = (items[name] for name in pair)
        for key in first:
            if key in second and inputs[pair[0]][key] != inputs[pair[1]][key]:
                numbered = ((name, items[name][key].metadata.get(NUMBERED_ROWS, {})) for name in pair)
                check_rows(key, {name: rows[name] for name, rows in numbered if name in rows}, by_row)


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


def _hint(keys: Collection[str], others: Mapping[str, Collection[str]]) -> str:
    """Which simple change would make half of the keys of either side meet, as a sentence; nothing where none would."""
    found = ((name, _change(keys, there)) for name, there in others.items() if there)
    changes = [f"those of {name} {change}" for name, change in found if change]
    return f" They would meet {', and '.join(changes)}." if changes else ""


def _change(keys: Collection[str], others: Collection[str]) -> str | None:
    for what, option, change in (*CHANGES, *_cuts(keys, others)):
        here, there = set(map(change, keys)), set(map(change, others))
        discerning = 2 * len(here) > len(keys) and 2 * len(there) > len(others)
        if discerning and len(here & there) >= ENOUGH * min(len(here), len(there)):
            return f"{what} ({option})" if option else what
    return None


def _cuts(keys: Collection[str], others: Collection[str]) -> tuple[Change, ...]:
    """Keys cut to the length of the shortest: barcodes of a patient and of a sample, of which they are the beginning."""
    size = min(map(len, (*keys, *others)), default=0)
    option = f"--label-pattern '^(?P<key>.{{{size}}})'"
    return (
        (f"cut to {size} characters", option, lambda key: key[:size]),
        (f"cut to {size} characters, with the same signs for '.', '_' and '-'", "", lambda key: SEPARATORS.sub("-", key[:size])),
    )
