"""Settings in YAML, where what may mean something else is refused: numbers with a zero in front, and keys that stand twice."""

import re
from typing import Any

from mmtool.common.errors import UsageError

NOT_DECIMAL = re.compile(r"[-+]?0[0-7_]+|.*:.*")  # 010 is 8 in YAML, and 1:30 is 90


class Unclear(ValueError):
    """What may mean several things. line: where it stands, from 1; None: not known."""

    def __init__(self, what: str, fix: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what, self.fix, self.line = what, fix, line


def stands_twice(key: str, line: int | None = None) -> Unclear:
    return Unclear(f"the setting {key!r} stands twice.", "Leave one of them out.", line)


def parse_yaml(text: str) -> Any:
    """The value of a text, an empty table for none.

    Raises UsageError where PyYAML is not installed, `Unclear` for what may mean several things, ValueError for what is no YAML.
    """
    try:
        import yaml  # type: ignore[import-untyped]  # has stubs only where somebody installed them
    except ImportError as error:
        raise UsageError("PyYAML is not installed.", where="--config", fix="Install it (pip install pyyaml), or write TOML.") from error
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("tag:yaml.org,2002:int", _integer)  # type: ignore[attr-defined]
    loader.add_constructor("tag:yaml.org,2002:float", _float)  # type: ignore[attr-defined]
    loader.add_constructor("tag:yaml.org,2002:map", _mapping)  # type: ignore[attr-defined]
    try:
        return yaml.load(text, loader) or {}  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _integer(loader: Any, node: Any) -> int:
    value: int = loader.construct_yaml_int(node)
    return _decimal(value, node)


def _float(loader: Any, node: Any) -> float:
    value: float = loader.construct_yaml_float(node)
    return _decimal(value, node)


def _decimal(value: Any, node: Any) -> Any:
    """The value, if it is what the digits say."""
    if NOT_DECIMAL.fullmatch(node.value):
        what, fix = f"YAML reads {node.value} as {value}.", f"Write {value}, or in quotes what is a name."
        raise Unclear(what, fix, node.start_mark.line + 1)
    return value


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if (key.tag, str(key.value)) in seen:
            raise stands_twice(key.value, key.start_mark.line + 1)
        seen.add((key.tag, str(key.value)))
    loader.flatten_mapping(node)
    values: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return values
