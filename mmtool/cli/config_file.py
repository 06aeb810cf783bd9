"""What a file of settings (`--config`) means to a verb, and what `--print-config` prints of one.

A key is the name of an option (`--batch-tokens` is batch_tokens), of an argument, or of a field of a config that has no option. Values are
those of the field: numbers, lists, tables. What the command line says wins.
"""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from mmtool.common.arguments import json_value
from mmtool.common.config_files import read_config
from mmtool.common.errors import UsageError
from mmtool.common.hints import read_value
from mmtool.common.options import Setting, settings_of, unknown_setting
from mmtool.common.urls import packed
from mmtool.training.config import Budget, resolve_as

ASSIGNMENTS = "settings"  # the parameter of --set
NEVER = {"context", "config", "print_config", "force", "as_json", "quiet"}  # said on the command line alone


@dataclass(frozen=True)
class Part:
    """A parameter of a verb that is a config, or what was given of one.

    offered: its options. as_given: the verb gets a dict of these. rest: a file may also set fields without an option; the verb checks all.
    """

    name: str
    config: type
    offered: tuple[Setting, ...]
    as_given: bool
    rest: bool


@dataclass(frozen=True)
class Loaded:
    """A file that was read. plain: parameter -> value. fields: key of a setting -> value. names: those that differ from the default."""

    plain: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


class VerbConfig:
    """The keys of a verb. plain: key -> parameter that is no config. options: key -> setting. rest: part -> fields without an option."""

    def __init__(self, parts: Sequence[Part], parameters: Sequence[inspect.Parameter]) -> None:
        self.parts = parts
        self.options = {setting.key: setting for part in parts for setting in part.offered}
        never = {*NEVER, *self.options} | ({ASSIGNMENTS} if any(part.rest for part in parts) else set())  # its keys are keys of the file
        self.plain = {_key(parameter): parameter for parameter in parameters if parameter.name not in never}
        taken = {*self.options, *self.plain}
        self.rest = {
            part.name: {setting.name: setting for setting in settings_of(part.config) if setting.name not in taken} if part.rest else {}
            for part in parts
        }
        self._unchecked = {setting.key for part in parts if part.rest for setting in part.offered} | {*self._further()}

    def _further(self) -> Iterator[str]:
        return (name for settings in self.rest.values() for name in settings)

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys([*self.plain, *self.options, *self._further()]))

    def _known_as(self, key: str) -> str:
        """The key that is meant: itself, or that of the option with this flag; dashes are as good as underscores."""
        key = key.replace("-", "_")
        flags = {setting.flag.removeprefix("--").replace("-", "_"): name for name, setting in self.options.items()}
        names = {parameter.name: name for name, parameter in self.plain.items()}
        return key if key in self.keys else flags.get(key, names.get(key, key))

    def load(self, path: Path) -> Loaded:
        """A file of settings. Raises UsageError for keys that the verb does not have, and values that they cannot have."""
        plain, fields, names = dict[str, Any](), dict[str, Any](), set[str]()
        spellings: dict[str, str] = {}
        for written, value in _packed(read_config(path)).items():
            key = self._known_as(written)
            if spellings.setdefault(key, written) != written:
                raise UsageError(f"{spellings[key]!r} and {written!r} are the same setting.", where=path, fix="Leave one of them out.")
            if key == "method" and isinstance(value, Mapping) and key in self._unchecked:
                key = "method_options"
            if key in self.plain:
                parameter = self.plain[key]
                _check_plain(parameter, value, f"{path}: {written}")
                plain[parameter.name] = _as_option(value) if _is_repeatable(parameter) else value
                names |= {parameter.name} if value != parameter.default else set()
            elif key not in self.keys:
                raise unknown_setting(written, self.keys, path)
            elif key in self._unchecked:
                fields |= {} if key == "minutes" and value == 0 else {key: value}  # on the command line it would be a mistake
                names.add(key)
            else:
                fields[key] = read_value(_read(self.options[key], value), self.options[key].types, f"{path}: {written}")
                names |= {key} if fields[key] != self.options[key].default else set()
        return Loaded(plain, fields, frozenset(names))

    def printed(self, values: Mapping[str, Any], configs: Mapping[str, Any]) -> dict[str, Any]:
        """All settings as they hold, by their keys. values: of plain parameters; configs: of the parts."""
        plain = {key: values[parameter.name] for key, parameter in self.plain.items()}
        if "set" in plain:
            plain["set"] = _assigned(plain["set"])
        printed = {key: value for key, value in plain.items() if value not in (None, [], (), {}, Path("-"))}
        for part in self.parts:
            printed |= self._printed_part(part, configs[part.name], values.get(ASSIGNMENTS) or ())
        return _plain(printed)

    def _printed_part(self, part: Part, config: Any, assigned: Sequence[str]) -> dict[str, Any]:
        if part.rest and issubclass(part.config, Budget) and sum(each.rest for each in self.parts) == 1:
            return {key: value for key, value in resolve_as(part.config, None, config, assigned).to_json().items() if key in self.keys}
        if part.as_given:
            return {key: value for key, value in config.items() if value is not None}
        owners = {setting.key: getattr(config, setting.group) if setting.group else config for setting in part.offered}
        return {setting.key: getattr(owners[setting.key], setting.name) for setting in part.offered}


def _read(setting: Setting, value: Any) -> Any:
    """The value of a file; texts as a repeatable option with a notation of its own has them are read as on the command line."""
    texts = [value] if isinstance(value, str) else value
    if setting.option.read is None or setting.option.type != list[str]:
        return value
    return setting.option.read(texts) if texts and isinstance(texts, list) and all(isinstance(text, str) for text in texts) else value


def _packed(value: Any) -> Any:
    """What was read, with URLs as on the command line."""
    if isinstance(value, dict):
        return {key: _packed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_packed(inner) for inner in value]
    return packed(value) if isinstance(value, str) else value


def _key(parameter: inspect.Parameter) -> str:
    """The name of a plain parameter in a file: of its flag, or of the argument."""
    declared = next((extra for extra in getattr(parameter.annotation, "__metadata__", ()) if hasattr(extra, "param_decls")), None)
    names = (declared.default, *(declared.param_decls or ())) if declared else ()  # where Typer looks for flags, too
    flags = [name for name in names if isinstance(name, str) and name.startswith("--")]
    return flags[0].removeprefix("--").replace("-", "_") if flags else parameter.name


def _is_repeatable(parameter: inspect.Parameter) -> bool:
    return any(get_origin(kind) is list for kind in _types(parameter))


def _types(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The type of a parameter, and what it is made of."""
    kinds = get_args(parameter.annotation)[:1]
    return (*kinds, *(inner for kind in kinds for inner in get_args(kind)))


def _check_plain(parameter: inspect.Parameter, value: Any, where: str) -> None:
    """Raise UsageError for a number, a switch or a table where a single path is wanted, and for a switch where a number or a text is."""
    if isinstance(value, bool) and bool not in (parameter.annotation, *_types(parameter)):
        raise UsageError(f"{value!r} is no switch here.", where=where, fix="Write a number, or a text in quotes.")
    if Path in _types(parameter) and not _is_repeatable(parameter) and not isinstance(value, str | None):
        raise UsageError(f"{value!r} is no path.", where=where, fix="Write a path in quotes.")


def _as_option(value: Any) -> list[str]:
    """A value as those of a repeatable option: tables as KEY=VALUE, a single one alone."""
    if isinstance(value, Mapping):
        return list(_assignments(value))
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _assignments(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}"


def merged(of_file: Sequence[str], given: Sequence[str]) -> list[str]:
    """Assignments of a file and of the command line, which wins."""
    stated = {text.partition("=")[0] for text in given}
    return [*(text for text in of_file if text.partition("=")[0] not in stated), *given]


def _assigned(values: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE as a table."""
    return {key: json_value(value) for key, _, value in (text.partition("=") for text in values or ())}


def _plain(value: Any) -> Any:
    """Paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
