"""`mmtool settings`: every setting of a verb or a method, with its default, its range and what it means."""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from mmtool.cli.config_file import VerbConfig
from mmtool.cli.config_options import KNOWN, explained
from mmtool.cli.options import examples, json_line
from mmtool.common.errors import UsageError
from mmtool.common.hints import schema, words
from mmtool.common.options import Setting, did_you_mean, settings_of
from mmtool.training.config import CHOICES

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SHAPE = "shape"
EXAMPLES = examples(
    "mmtool settings loretta",
    "mmtool settings pretrain",
    "mmtool settings shape",
    "mmtool settings pretrain --json > pretrain.schema.json",
)


@dataclass(frozen=True)
class Described:
    """A setting. key: in a file, or behind `--set`; flag: how it is said on the command line. hints: the types that it may have."""

    key: str
    flag: str
    default: Any
    hints: Sequence[Any]
    meaning: str


def settings(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A verb, a method of pretraining or of `adapt`, or shape.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON schema of the settings instead, as of a file for --config.")] = False,
) -> None:
    """List the settings of a verb or a method: default, range, meaning.

    Those without an option are given with --set, or in a file with --config (TOML, YAML or JSON), where the others have the names
    of their options with underscores. --print-config shows what a command comes to.
    """
    described = list(settings_named(name))
    if as_json:
        print(json_line(schema_of(name, described)), flush=True)
    else:
        _show(described)


def settings_named(name: str) -> Iterator[Described]:
    """The settings of a verb or method. Raises UsageError where there is none of that name."""
    from mmtool.cli.main import VERBS

    known: dict[str, VerbConfig] = {verb.__name__: getattr(verb, KNOWN) for _, verb, _ in VERBS if hasattr(verb, KNOWN)}
    if name in known:
        return _of_verb(known[name])
    options, usual, group = _options_named(name, list(known))
    return (_described(setting, f"--set {group}.{setting.name}", usual.get(setting.name)) for setting in settings_of(options))


def _options_named(name: str, verbs: Sequence[str]) -> tuple[type, Mapping[str, Any], str]:
    """(dataclass, defaults that are others, what stands before a key) of a method, or the shape."""
    from mmtool.adaptation.config import RECIPES
    from mmtool.adaptation.joint_embedding import JointOptions
    from mmtool.methods import METHODS
    from mmtool.model.transformer import Shape

    if name in METHODS:
        return METHODS[name].Options, {}, "method"
    if name in RECIPES:
        return JointOptions, RECIPES[name].options, "method"
    if name == SHAPE:
        return Shape, {}, SHAPE
    hint = did_you_mean(name, [*verbs, *METHODS, *RECIPES, SHAPE])
    fix = f"{hint}Verbs: {', '.join(verbs)}. Methods: {', '.join((*METHODS, *RECIPES))}. Or {SHAPE}."
    raise UsageError(f"there is no verb or method {name!r}.", where="NAME", fix=fix)


def _of_verb(known: VerbConfig) -> Iterator[Described]:
    for key, parameter in known.plain.items():
        declared = parameter.annotation.__metadata__[0]
        is_option = isinstance(declared, typer.models.OptionInfo)
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        yield Described(key, f"--{key.replace('_', '-')}" if is_option else key.upper(), default, _types(parameter), declared.help or "")
    for setting in known.options.values():
        yield _described(setting, setting.flag, key=setting.key)
    rest = {name: setting for settings in known.rest.values() for name, setting in settings.items()}
    yield from (_described(setting, f"--set {name}") for name, setting in rest.items())


def _types(parameter: inspect.Parameter) -> list[Any]:
    """Of a plain parameter; a repeatable one may be given in a file as a list, as a table of NAME = VALUE, or alone."""
    kind = get_args(parameter.annotation)[0]
    members = [member for member in get_args(kind) if member is not NoneType] if isinstance(kind, UnionType) else [kind]
    return [tuple[str, ...], dict, str] if any(get_origin(member) is list for member in members) else members


def _described(setting: Setting, flag: str, default: Any = None, key: str = "") -> Described:
    hints = [setting.option.type] if get_origin(setting.option.type) is Literal else list(setting.types)
    if setting.name in CHOICES and hints == list(setting.types):
        hints = [Literal[CHOICES[setting.name]]]
    usual = setting.default if default is None else default
    return Described(key or setting.name, flag, None if usual is MISSING else usual, hints, explained(setting))


def schema_of(name: str, described: Sequence[Described]) -> dict[str, Any]:
    """The JSON schema of a file with these settings."""
    properties = {}
    for each in described:
        default = {} if each.default is None else {"default": _plain(each.default)}
        properties[each.key] = {"description": each.meaning, **schema(each.hints), **default}
    return {"$schema": DRAFT, "title": f"mmtool {name}", "type": "object", "properties": properties, "additionalProperties": False}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | dict) else str(value)


def _show(described: Sequence[Described]) -> None:
    """Each on one line, what it means below it, as wide as the terminal."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(file=sys.stdout)
    for each in described:
        shown = "" if each.default in (None, "", (), {}) else f" = {json_line(_plain(each.default))}"
        console.print(Text(each.flag, "bold cyan") + Text(f"{shown} ({' or '.join(map(words, each.hints))})"))
        console.print(Padding(Text(each.meaning), (0, 0, 0, 4)))
