"""What numbers a setting may be, declared in its type: `depth: Count`, `mels: Annotated[int, Bounds(1, 512)]`."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_origin

from mmtool.common.errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """Finite numbers from `low` to `high`; open_low, open_high: without that number itself."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def hold(self, value: Any, whole: bool) -> bool:
        """Whether `value` is a number (a whole one) within the bounds."""
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        """`from 0 to 1`, `above 0`, `from 1 on`, `below 0`."""
        low = "" if self.low == -math.inf else f"above {self.low:.20g}" if self.open_low else f"from {self.low:.20g}"
        if self.high == math.inf:
            return low if self.open_low else f"{low} on" if low else "that is finite"
        high = f"below {self.high:.20g}" if self.open_high else f"{self.high:.20g}"
        return f"{low} to {high}" if low else high


Count = Annotated[int, Bounds(1)]
Natural = Annotated[int, Bounds(0)]
Seed = Annotated[int, Bounds(0, (1 << 63) - 1)]
Positive = Annotated[float, Bounds(0, open_low=True)]
NotNegative = Annotated[float, Bounds(0)]
Share = Annotated[float, Bounds(0, 1)]
ShareBelowOne = Annotated[float, Bounds(0, 1, open_high=True)]


def plain(value: Any) -> Any:
    """A number of another library as Python's own, also in mappings, lists and tuples; anything else as it is. Records and messages show
    those of Python alone."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, bool | int):
        return value
    return operator.index(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def check_range(name: str, value: Any, hint: Any, where: object) -> None:
    """Raise UsageError where a number is not finite or outside of the bounds in its type; those in mappings and tuples count as well."""
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_range(f"{name}.{key}", item, _inner(hint), where)
        return
    if get_origin(hint) is tuple and ... not in get_args(hint):
        if len(value) != len(get_args(hint)):
            raise UsageError(f"{name} is {value!r}.", where=where, fix=f"Give {len(get_args(hint))} numbers.")
        for item, inner in zip(value, get_args(hint), strict=True):
            check_range(name, item, inner, where)
        return
    stated = [entry for entry in getattr(hint, "__metadata__", ()) if isinstance(entry, Bounds)]
    bounds = stated or ([Bounds()] if isinstance(value, float) else [])
    whole = bool(stated) and hint.__origin__ is int
    for bound in bounds:
        if not bound.hold(value, whole):
            raise UsageError(f"{name} is {value!r}.", where=where, fix=f"Give a {'whole ' if whole else ''}number {bound}.")


def _inner(hint: Any) -> Any:
    """The type of a mapping's values."""
    return get_args(hint)[1] if len(get_args(hint)) == 2 else Any
