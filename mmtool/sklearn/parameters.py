"""What the parameters of an estimator, and of its methods, may be."""

from collections.abc import Mapping
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.options import did_you_mean
from mmtool.sklearn.containers import Frames

SHOWN = 10  # names in an error


def check_names(frames: Frames, by_modality: Mapping[str, Any], column_types: Mapping[str, str]) -> None:
    """Raise UsageError where a parameter speaks of a modality or a column that there is not. by_modality: parameters that may hold a value
    for each modality."""
    columns = [column for frame in frames.values() for column in frame.columns]
    parameters = {name: (value, "modality", list(frames)) for name, value in by_modality.items() if isinstance(value, Mapping)}
    for where, (named, kind, known) in {**parameters, "column_types": (column_types, "column", columns)}.items():
        for unknown in [name for name in named if name not in known]:
            listed = f"{', '.join(known[:SHOWN])}{' ...' if len(known) > SHOWN else ''}"
            fix = f"{did_you_mean(str(unknown), known)}There are {listed}."
            raise UsageError(f"there is no {kind} {unknown!r}.", where=where, fix=fix)


def check_count(n: int) -> None:
    """Raise UsageError for none."""
    if n < 1:
        raise UsageError(f"n is {n}.", where="n", fix="Give a number from 1 on.")
