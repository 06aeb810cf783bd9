"""What values a field of a config may have, as its type says: checked, read from a file, in words, and as a JSON schema."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mmtool.common.arguments import names
from mmtool.common.bounds import Bounds, check_range
from mmtool.common.errors import UsageError

PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
MISFIT = object()


def read_value(value: Any, hints: Sequence[Any], where: str) -> Any:
    """A value of a file as the field has it: lists as tuples, text as paths. Raises UsageError for another type, and out of bounds."""
    for hint in hints:
        if (read := _read(value, hint)) is not MISFIT:
            check_range(where, read, hint, where)
            return read
    raise UsageError(f"{value!r} is not possible.", where=where, fix=f"Give {' or '.join(map(words, hints))}.")


def _read(value: Any, hint: Any) -> Any:
    """The value as one of this type, MISFIT where it is none."""
    hint, origin, inner = _bare(hint), get_origin(_bare(hint)), get_args(_bare(hint))
    if origin is Literal:
        return value if value in inner else MISFIT
    if origin in (Union, UnionType):
        return next((read for part in inner if (read := _read(value, part)) is not MISFIT), MISFIT)
    if origin is Mapping or origin is dict:
        return _read_mapping(value, inner)
    if origin is tuple:
        return _read_tuple(value, inner)
    if hint is NoneType:
        return value if value is None else MISFIT
    if hint is Path:
        return Path(value) if isinstance(value, str) else MISFIT
    if isinstance(value, bool) or hint is bool:
        return value if isinstance(value, bool) and hint is bool else MISFIT
    return value if isinstance(value, int | float if hint is float else hint) else MISFIT


def _read_mapping(value: Any, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, Mapping) or len(inner) != 2 or inner[1] in (Any, str):  # what texts may say is checked where they are used
        return value if isinstance(value, Mapping) else MISFIT
    parts = {key: _read(item, inner[1]) for key, item in value.items()}
    return MISFIT if MISFIT in parts.values() else parts


def _read_tuple(value: Any, inner: tuple[Any, ...]) -> Any:
    if isinstance(value, str) and _bare(inner[0]) is str:
        value = names([value])
    if not isinstance(value, list | tuple) or (... not in inner and len(value) != len(inner)):
        return MISFIT
    parts = tuple(_read(item, inner[0] if ... in inner else inner[i]) for i, item in enumerate(value))
    return MISFIT if MISFIT in parts else parts


def words(hint: Any) -> str:
    """A type in words: `a whole number from 1 on`, `cosine or constant`, `a list of text`."""
    bare, origin, inner = _bare(hint), get_origin(_bare(hint)), get_args(_bare(hint))
    if origin is Literal:
        return " or ".join(filter(None, (", ".join(map(str, inner[:-1])), str(inner[-1]))))
    if origin in (Union, UnionType):
        return " or ".join(words(part) for part in inner if part is not NoneType)
    if origin is Mapping or origin is dict:
        return f"{words(inner[1])} by name" if len(inner) == 2 and inner[1] is not Any else "a table"
    if origin is tuple:
        return _words_of_tuple(inner)
    bounds = " and ".join(str(bound) for bound in getattr(hint, "__metadata__", ()) if isinstance(bound, Bounds))
    return f"{_plain_words(bare)} {bounds}".strip()


def _words_of_tuple(inner: tuple[Any, ...]) -> str:
    if ... in inner:
        return f"a list of {words(inner[0])}"
    parts = [words(part) for part in inner]
    return f"{len(inner)} values, " + (f"each {parts[0]}" if len(set(parts)) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}")


def _plain_words(hint: Any) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return plain.get(hint, "a value")


def schema(hints: Sequence[Any]) -> dict[str, Any]:
    """The JSON schema of a field that may have any of these types."""
    parts = [_schema(hint) for hint in hints]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _schema(hint: Any) -> dict[str, Any]:
    bare, origin, inner = _bare(hint), get_origin(_bare(hint)), get_args(_bare(hint))
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        return schema([part for part in inner if part is not NoneType])
    if origin is Mapping or origin is dict:
        return {"type": "object", **({"additionalProperties": _schema(inner[1])} if len(inner) == 2 and inner[1] is not Any else {})}
    if origin is tuple:
        length = {} if ... in inner else {"minItems": len(inner), "maxItems": len(inner)}
        parts = {"items": _schema(inner[0])} if ... in inner or len(set(inner)) == 1 else {"prefixItems": list(map(_schema, inner))}
        return {"type": "array", **parts, **length}
    bounds = [bound for bound in getattr(hint, "__metadata__", ()) if isinstance(bound, Bounds)]
    return {**({"type": PLAIN[bare]} if bare in PLAIN else {}), **{key: limit for bound in bounds for key, limit in _limits(bound).items()}}


def _limits(bound: Bounds) -> dict[str, float]:
    limits = {
        "exclusiveMinimum" if bound.open_low else "minimum": bound.low,
        "exclusiveMaximum" if bound.open_high else "maximum": bound.high,
    }
    return {key: limit for key, limit in limits.items() if abs(limit) != float("inf")}


def _bare(hint: Any) -> Any:
    """A type without bounds and option."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
