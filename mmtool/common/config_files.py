"""Files of settings: TOML, YAML or JSON in, TOML out."""

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtool.common.config_yaml import Unclear, parse_yaml, stands_twice
from mmtool.common.errors import DataError, MmtoolError, UsageError


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file, by its suffix: .json, .yaml or .yml, else TOML.

    Raises UsageError where it cannot be read, or is YAML and PyYAML is not installed; DataError where it holds no table of settings, or a
    setting twice.
    """
    name, parse = FORMATS.get(Path(path).suffix.lower(), ("TOML", tomllib.loads))
    try:
        values = parse(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the config ({error.strerror}).", where=path, fix="Check the path given to --config.") from error
    except MmtoolError:
        raise
    except Unclear as error:
        raise DataError(error.what, where=path if error.line is None else f"{path}:{error.line}", fix=error.fix) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not valid {name} ({' '.join(str(error).split())}).", where=path, fix="Mend that line.") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise DataError("a config is a table of settings.", where=path, fix="Write NAME = VALUE lines (TOML) or one JSON object.")
    return values


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise stands_twice(key)
        values[key] = value
    return values


FORMATS: dict[str, tuple[str, Callable[[str], Any]]] = {
    ".json": ("JSON", _parse_json),
    ".yaml": ("YAML", parse_yaml),
    ".yml": ("YAML", parse_yaml),
}


def to_toml(values: Mapping[str, Any]) -> str:
    """Settings as TOML: plain values first, then a table for each mapping. What is None is left out, which TOML cannot say."""
    return "".join(f"{line}\n" for line in _lines(values, "")).lstrip("\n")


def _lines(values: Mapping[str, Any], table: str) -> Iterator[str]:
    plain = {key: value for key, value in values.items() if value is not None and not isinstance(value, Mapping)}
    nested = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    if table and (plain or not nested):
        yield from ("", f"[{table}]")
    yield from (f"{_key(key)} = {_value(value)}" for key, value in plain.items())
    for key, value in nested.items():
        yield from _lines(value, f"{table}.{_key(key)}".lstrip("."))


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
