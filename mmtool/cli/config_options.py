"""Fields of config dataclasses as options of a verb: name, type, default, panel and help are those of the field (`common/options.py`).

A parameter annotated with a config dataclass becomes one option for each field that is declared with an `Option`, and gets the config made
of them. One annotated `Annotated[dict[str, Any], OptionsOf(Config, "steps", "seed")]` becomes the named options, and gets what was given of
them, None for the others, for a config in which a file of settings lies below them.
"""

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from mmtool.cli.config_file import ASSIGNMENTS, Loaded, Part, VerbConfig, merged
from mmtool.common.arguments import by_modality, names, survival_labels
from mmtool.common.bounds import check_range
from mmtool.common.config_files import to_toml
from mmtool.common.options import Setting, assemble, settings_of
from mmtool.common.remote_arguments import OF_PATHS, at_hand, local_settings
from mmtool.common.urls import unpacked
from mmtool.evaluation.tasks import TASKS
from mmtool.kinds import schemes_by_kind

WORDS = {"{tasks}": ", ".join(TASKS), "{schemes}": schemes_by_kind()}  # stand in docstrings for what other tables list

OFF = "--" + "no-"  # before the name of a switch
CONFIG = "Configuration"  # panel of the help
KNOWN = "known"  # the attribute of a command that holds its keys
OF_FILE = "settings of the file"  # beside the arguments of a verb
LOADED = "mmtool.config"  # in what Typer knows of a call: the file that was read


@dataclass(frozen=True)
class OptionsOf:
    """The options of a config of which the verb wants what was given. names: of fields, in order (none: all that are options). rest: a file
    may give the other fields as well."""

    config: type
    names: tuple[str, ...]
    rest: bool

    def __init__(self, config: type, *names: str, rest: bool = False) -> None:
        object.__setattr__(self, "config", config)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "rest", rest)

    @property
    def settings(self) -> list[Setting]:
        settings = {setting.name: setting for setting in settings_of(self.config) if setting.offered or self.names}
        return [settings[name] for name in self.names or settings]

    @property
    def flags(self) -> tuple[str, ...]:
        """As on the command line."""
        return tuple(setting.flag for setting in self.settings)


def with_config_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with options in place of its parameters that are configs, or options of one; with `--config`, a file of all of them, and
    `--print-config`, which prints them as such a file and does nothing else."""
    parameters, parts, plain = list[inspect.Parameter](), list[Part](), list[inspect.Parameter]()
    for parameter in inspect.signature(verb).parameters.values():
        part = _part(parameter)
        if part is None:
            plain.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            parameters.append(plain[-1])
        else:
            parts.append(part)
            parameters += (_parameter(setting, as_given=part.as_given) for setting in part.offered)
    known = VerbConfig(parts, plain)
    parameters += _of_files(known)
    has_context = any(parameter.name == "context" for parameter in plain)
    if not has_context:
        parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))

    @functools.wraps(verb)
    def command(context: typer.Context, **values: Any) -> None:
        loaded: Loaded = context.meta.get(LOADED, Loaded())
        given = {name for name in values if _source(context, name) == "COMMANDLINE"}
        if ASSIGNMENTS in given and ASSIGNMENTS in loaded.plain:
            values[ASSIGNMENTS] = merged(loaded.plain[ASSIGNMENTS], values[ASSIGNMENTS])
        printing = values.pop("print_config")
        del values["config"]
        if printing:
            configs = {part.name: _read_part(part, values, given, loaded, known) for part in parts}
            print(unpacked(to_toml(known.printed(values, configs))), end="")
            return
        arguments = {**_paths(values), OF_FILE: _paths(loaded.fields)}
        with at_hand(verb.__name__, arguments, problems_of, quiet=bool(values.get("quiet"))) as local:
            loaded = replace(loaded, fields=local.pop(OF_FILE))
            configs = {part.name: _read_part(part, local, given, loaded, known) for part in parts}
            verb(**({"context": context} if has_context else {}), **configs, **local)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # this and the annotations are what Typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    setattr(command, KNOWN, known)  # for `mmtool settings`
    return command


def _of_files(known: VerbConfig) -> Iterator[inspect.Parameter]:
    """--config and --print-config."""

    def load(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            path = local_settings(path)
            loaded = context.meta[LOADED] = known.load(path)
            context.default_map = {**(context.default_map or {}), **loaded.plain}
        return path

    read = typer.Option(
        callback=load, is_eager=True, metavar="FILE", help="TOML, YAML or JSON settings; options win over it.", rich_help_panel=CONFIG
    )
    shown = typer.Option("--print-config", help="Print all settings as such a file (TOML), and stop.", rich_help_panel=CONFIG)
    kind = inspect.Parameter.KEYWORD_ONLY
    yield inspect.Parameter("config", kind, default=None, annotation=Annotated[Path | None, read])
    yield inspect.Parameter("print_config", kind, default=False, annotation=Annotated[bool, shown])


def problems_of(path: Path) -> list[str]:
    """What is wrong with an artefact."""
    from mmtool.artefacts import lint

    return lint(path)


def _paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values in which URLs are packed where paths are meant, and stand as they were given in other texts."""
    return {name: value if name in OF_PATHS else _unpacked(value) for name, value in values.items()}


def _unpacked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _paths(value)
    if isinstance(value, list | tuple):
        return type(value)(_unpacked(item) for item in value)
    return unpacked(value) if isinstance(value, str) else value


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given, on the command line or in a file in which it differs from the default."""
    return _source(context, name) == "COMMANDLINE" or name in context.meta.get(LOADED, Loaded()).names


def _source(context: typer.Context, name: str) -> str | None:
    source = context.get_parameter_source(name)
    return None if source is None else source.name


def _part(parameter: inspect.Parameter) -> Part | None:
    """A parameter that is a config, or options of one; None for any other."""
    kind, given = parameter.annotation, _options_of(parameter.annotation)
    if given is not None:
        return Part(parameter.name, given.config, tuple(given.settings), as_given=True, rest=given.rest)
    if isinstance(kind, type) and is_dataclass(kind):
        return Part(parameter.name, kind, tuple(setting for setting in settings_of(kind) if setting.offered), as_given=False, rest=False)
    return None


def _options_of(annotation: Any) -> OptionsOf | None:
    return next((extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, OptionsOf)), None)


def _read_part(part: Part, values: dict[str, Any], given: set[str], loaded: Loaded, known: VerbConfig) -> Any:
    """The config, or what was given of it (None for the other options). Takes its options out of all values. Raises UsageError out of
    bounds."""
    chosen = {key: loaded.fields[key] for key in known.rest[part.name] if key in loaded.fields}
    for setting in part.offered:
        value = values.pop(setting.key)
        if setting.key in given:
            chosen[setting.key] = _reader(setting)(value)
            check_range(setting.name, chosen[setting.key], setting.type_for(chosen[setting.key]), setting.flag)
        elif setting.key in loaded.fields:
            chosen[setting.key] = loaded.fields[setting.key]
    return {**{setting.key: None for setting in part.offered}, **chosen} if part.as_given else assemble(part.config, chosen)


def _parameter(setting: Setting, as_given: bool = False) -> inspect.Parameter:
    """The option as a parameter of a verb. as_given: its default is None, and what the field's default is the help says."""
    option, (kind, default) = setting.option, _type_and_default(setting)
    if as_given:
        kind, default = (kind if default is None else kind | None), None
    declared = typer.Option(
        *_flags(setting),
        metavar=option.metavar,
        help=explained(setting),
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


def explained(setting: Setting) -> str:
    """The first paragraph of its docstring, on one line."""
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
