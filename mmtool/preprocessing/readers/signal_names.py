"""What the names of the columns of a time series say: `time_ms`, `Timestamp (ns)`, `index`, `subject_id`, `activity`."""

import re

from mmtool.preprocessing.readers.orientation import is_called_like_an_index

MICRO = ("\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s")
SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", *MICRO, "usec", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "mins", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hours"), 3600.0),
    **dict.fromkeys(("d", "days"), 86_400.0),
}
OF_TIME = frozenset(
    ["time", "times", "t", "timestamp", "timestamps", "stamp", "date", "datetime", "elapsed", "epoch", "unix", "utc", "clock"]
)
IN_SECONDS = frozenset(["time", "times", "t", "elapsed"])  # where nothing else is said
NO_NAMES = frozenset(("s", "min", "mins", "h", "hr", "hrs", "hours", "d", "days"))
ALONE = frozenset(SECONDS) - NO_NAMES  # units that a column of times may be called by; others are channels
WITHIN = frozenset(["time", "timestamp", "timestamps", "elapsed"])  # words of names that may be those of times, or of channels
UNCLEAR = frozenset(  # names that may be those of times, or of channels
    ["t", "ts", "ms", "us", *MICRO, "ns", "sec", "secs", "second", "hrs", "hours", "days"]
)
COUNTING = frozenset(
    (
        *("", "sample", "samples", "sample number", "sample index", "sample no", "frame", "frame number", "unnamed 0"),  # pandas: its index
        *("counter", "packet", "packet number", "packet counter", "seq", "sequence", "sequence number"),
    )
)
OF_SERIES = frozenset(
    (
        *("id", "uid", "uuid", "key", "subject", "subjects", "user", "participant", "patient", "person", "volunteer"),
        *("session", "trial", "recording", "episode", "fold", "split"),
    )
)  # of a whole series: one that changes within a file says that this holds several
OF_ALTERNATING = frozenset(
    (
        *("sensor", "device", "station", "node", "site", "location", "unit", "machine", "animal", "channel", "electrode"),
        *("store", "shop", "item", "product", "customer", "household", "building", "group", "name"),
    )
)  # of a series, where rows of several alternate; else of a channel
IDS = frozenset(["id", "uid", "uuid"])
OF_LABELS = frozenset(["label", "labels", "class", "classes", "target", "targets", "activity", "activities"])
ABOUT_NAMES = frozenset(["id", "ids", "no", "nr", "num", "number", "name", "code", "index"])  # `subject_id`, `class name`
BETWEEN = re.compile(r"[\s_\-./()\[\],:'\"#]+|(?<=[a-z])(?=[A-Z])")  # 'sample #', as PhysioNet writes; activityID


def words(name: str) -> list[str]:
    """Those of a name, in small letters."""
    return [word.casefold() for word in BETWEEN.split(name.strip()) if word]


def units_of(name: str) -> dict[str, float]:
    """Units of time in a name, in seconds."""
    return {word: SECONDS[word] for word in words(name) if word in SECONDS}


def unit_of(name: str) -> float | None:
    """Of times, in seconds; None where the name says none, or several that differ."""
    units = set(units_of(name).values())
    return units.pop() if len(units) == 1 else None


def is_unit_of_time(cell: str) -> bool:
    """Whether a cell is a unit of time and nothing else: `ms`, `[s]`, `in s`."""
    parts = words(cell)
    return parts[-1:] != [] and parts[-1] in SECONDS and parts[:-1] in ([], ["in"])


def is_time(name: str) -> bool:
    """Whether a column is called like one of times, and like nothing else."""
    parts = words(name)
    named = [word for word in parts if word in OF_TIME]
    if len(parts) == 1 and not named:
        return parts[0] in ALONE
    return named != [] and len(named) + sum(word in SECONDS for word in parts) == len(parts)


def may_be_time(name: str) -> bool:
    """Whether a column may be called so for its times or otherwise: `ms`, `accelerometerTimestamp_sinceReboot(s)`, `reaction time`."""
    parts = words(name)
    is_unit = len(parts) == 2 and is_unit_of_time(name)  # `in s`, as PicoScope writes
    return is_unit or (len(parts) == 1 and parts[0] in UNCLEAR) or (not is_time(name) and not WITHIN.isdisjoint(parts))


def counts(name: str) -> bool:
    """Whether a column is called like one of row numbers."""
    return " ".join(words(name)) in COUNTING or is_called_like_an_index(name)


def is_of_series(name: str) -> bool:
    """Whether a column is called like what a series has one of: its subject, its session, its split."""
    parts = words(name)
    if parts and parts[-1] in IDS:
        return not is_label(name)
    return not OF_SERIES.isdisjoint(parts) and set(parts) <= OF_SERIES | ABOUT_NAMES


def may_be_of_series(name: str) -> bool:
    """Whether a column is called like what may tell several series apart: `sensor`, `store_nr`."""
    parts = set(words(name))
    return not parts.isdisjoint(OF_ALTERNATING) and parts <= OF_ALTERNATING | ABOUT_NAMES


def is_label(name: str) -> bool:
    """Whether a column is called like one of labels."""
    parts = set(words(name))
    return not parts.isdisjoint(OF_LABELS) and parts <= OF_LABELS | ABOUT_NAMES
