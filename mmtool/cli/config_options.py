"""Fields of config dataclasses as options of a verb: name, type, default, panel and help are those of the field (`common/options.py`).

A parameter annotated with a config dataclass becomes one option for each field that is declared with an `Option`, and gets the config made
of them. One annotated `Annotated[dict[str, Any], OptionsOf(Config, "steps", "seed")]` becomes the named options, and gets what was given of
them, None for the others, for a config in which a file of settings lies below them.
"""

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, is_dataclass
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin

import typer

from mmtool.common.arguments import by_modality, names, survival_labels
from mmtool.common.bounds import check_range
from mmtool.common.options import Setting, assemble, settings_of
from mmtool.evaluation.tasks import TASKS
from mmtool.kinds import schemes_by_kind

WORDS = {"{tasks}": ", ".join(TASKS), "{schemes}": schemes_by_kind()}  # stand in docstrings for what other tables list

OFF = "--" + "no-"  # before the name of a switch


@dataclass(frozen=True)
class OptionsOf:
    """The options of a config of which the verb wants what was given. names: of fields, in order (none: all that are options)."""

    config: type
    names: tuple[str, ...]

    def __init__(self, config: type, *names: str) -> None:
        object.__setattr__(self, "config", config)
        object.__setattr__(self, "names", names)

    @property
    def settings(self) -> list[Setting]:
        settings = {setting.name: setting for setting in settings_of(self.config) if setting.offered or self.names}
        return [settings[name] for name in self.names or settings]

    @property
    def flags(self) -> tuple[str, ...]:
        """As on the command line."""
        return tuple(setting.flag for setting in self.settings)


def with_config_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with options in place of its parameters that are configs, or options of one."""
    parameters: list[inspect.Parameter] = []
    readers: dict[str, Callable[[dict[str, Any]], Any]] = {}
    for parameter in inspect.signature(verb).parameters.values():
        kind, given = parameter.annotation, _options_of(parameter.annotation)
        if given is not None:
            parameters += (_parameter(setting, as_given=True) for setting in given.settings)
            readers[parameter.name] = functools.partial(_read_given, given)
        elif isinstance(kind, type) and is_dataclass(kind):
            parameters += (_parameter(setting) for setting in settings_of(kind) if setting.offered)
            readers[parameter.name] = functools.partial(_read_config, kind)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        configs = {name: read(values) for name, read in readers.items()}
        verb(**configs, **values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # this and the annotations are what Typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _options_of(annotation: Any) -> OptionsOf | None:
    return next((extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, OptionsOf)), None)


def _read_given(options: OptionsOf, values: dict[str, Any]) -> dict[str, Any]:
    """Key of a setting -> what was given of it, else None. Takes these options out of all values. Raises UsageError out of bounds."""
    given: dict[str, Any] = {}
    for setting in options.settings:
        value = values.pop(setting.key)
        given[setting.key] = None if value is None else _reader(setting)(value)
        check_range(setting.name, given[setting.key], setting.types[0], setting.flag)
    return given


def _read_config(config: type, values: dict[str, Any]) -> Any:
    """The config of its options, which are taken out of the values of all."""
    settings = {setting.key: setting for setting in settings_of(config) if setting.offered}
    given = {key: value for key in settings if (value := values.pop(key)) is not None}
    return assemble(config, {key: _reader(settings[key])(value) for key, value in given.items()})


def _parameter(setting: Setting, as_given: bool = False) -> inspect.Parameter:
    """The option as a parameter of a verb. as_given: its default is None, and what the field's default is the help says."""
    option, (kind, default) = setting.option, _type_and_default(setting)
    if as_given:
        kind, default = (kind if default is None else kind | None), None
    declared = typer.Option(
        *_flags(setting),
        metavar=option.metavar,
        help=_help(setting),
        show_default=_shown(setting) if as_given else option.default or True,
        rich_help_panel=option.panel,
    )
    return inspect.Parameter(setting.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared])


def _flags(setting: Setting) -> Iterator[str]:
    """`--flag`, of switches that are not off by default also `--no-flag`, and the alias."""
    switch = bool in (setting.option.type, _bare(setting.types[0])) and setting.default is not False
    yield f"{setting.flag}/{setting.flag.replace('--', OFF, 1)}" if switch else setting.flag
    if setting.option.alias:
        yield setting.option.alias


def _shown(setting: Setting) -> str | bool:
    """What the help shows as the default."""
    if setting.option.default is not None:
        return setting.option.default or False
    return False if setting.default in ("", (), {}, None, MISSING) or setting.default is False else str(setting.default)


def _type_and_default(setting: Setting) -> tuple[Any, Any]:
    """(type of the option, its default)"""
    bare, option = _bare(setting.types[0]), setting.option
    if option.type is not None:
        return option.type | None, None
    if len(setting.types) > 1 or bare == tuple[str, ...]:  # a number or numbers by modality, or names
        return list[str] | None, None
    if bare == tuple[str, str]:
        return str | None, None
    return (bare | None, None) if setting.default in (None, MISSING) else (bare, setting.default)


def _reader(setting: Setting) -> Callable[[Any], Any]:
    """How the value of an option is read as that of the field."""
    bare, option = _bare(setting.types[0]), setting.option
    if option.read is not None:
        return option.read
    if len(setting.types) > 1:
        return lambda values: by_modality(values, setting.flag, setting.default)
    if bare == tuple[str, ...]:
        return lambda values: names(values) or setting.default
    return survival_labels if bare == tuple[str, str] else lambda value: value


def _bare(hint: Any) -> Any:
    """A type without bounds and option."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def docstring(setting: Setting) -> str:
    """The docstring under the field, in its class or in one above; empty where there is none."""
    owners = [owner for owner in setting.owner.__mro__ if is_dataclass(owner)]
    return next(filter(None, (_docstrings(owner.__module__).get((owner.__name__, setting.name)) for owner in owners)), "")


def _help(setting: Setting) -> str:
    """The first paragraph of the docstring, on one line."""
    text = " ".join(docstring(setting).partition("\n\n")[0].split())
    for word, meaning in WORDS.items():
        text = text.replace(word, meaning)
    return text


@functools.cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """(class, field) -> the docstring under the field."""
    docstrings: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for above, below in pairwise(node.body):
            if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docstrings[node.name, ast.unparse(above.target)] = str(below.value.value)
    return docstrings
