"""What values written on the command line mean: names, assignments, numbers by modality."""

import json
import math
from collections.abc import Sequence
from typing import Any

from mmtool.common.errors import UsageError


def names(values: Sequence[str] | None) -> tuple[str, ...]:
    """An option that may be repeated or comma separated, in the order given, each name once."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def assignments(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """`KEY=VALUE` options as a dict. Raises UsageError where a value has no '=' or a key is given twice."""
    assigned: dict[str, str] = {}
    for text in values or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{text!r} is not KEY=VALUE.", where=option, fix=f"Write {option} KEY=VALUE.")
        if key in assigned:
            raise UsageError(f"{key!r} is given twice.", where=option, fix="Give each key once.")
        assigned[key] = value
    return assigned


def survival_labels(text: str | None) -> tuple[str, str] | None:
    """`TIME,EVENT` as two names. Raises UsageError for anything else."""
    if text is None:
        return None
    labels = names([text])
    if len(labels) != 2:
        raise UsageError(f"{text!r} is not TIME,EVENT.", where="--survival", fix="Name two labels, e.g. time_days,event.")
    return labels[0], labels[1]


def by_modality(values: Sequence[str] | None, option: str, usual: float) -> float | dict[str, float]:
    """`X` or `NAME=X`, repeatable or comma separated; a bare X is that of modalities not named, which else have the usual one. Raises
    UsageError where X is not a number of at least 0."""
    assigned = assignments([text if "=" in text else f"*={text}" for text in names(values)], option)
    read = {name: _not_negative(text, option) for name, text in assigned.items()}
    return read.get("*", usual) if set(read) <= {"*"} else read


def _not_negative(text: str, option: str) -> float:
    value = json_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        fix = f"Write {option} 0.5, or {option} 0.5,text=0.2."
        raise UsageError(f"{text!r} is not a number of 0 or more.", where=option, fix=fix)
    return float(value)


def json_value(text: str) -> Any:
    """What the value of KEY=VALUE means: JSON where it is JSON (numbers, true, lists), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
