"""Fields of config dataclasses as options: of the command line, and as keywords of functions.

The docstring under a field is the help of its option (its first paragraph; what only a reader of the code needs may follow), its type and
default are those of the option, and `Option` says what does not follow from these: `draws: Annotated[Count, Option(panel="Sampling")] = 1`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mmtool.common.bounds import Bounds, check_range, plain
from mmtool.common.errors import UsageError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Option:
    """A field on the command line.

    flag: instead of `--field-name`. metavar: what its value looks like. default: what the help shows instead of the default ("": nothing).
    panel: of the help. alias: a further flag. type: of the option, where the field has another. read: makes the value of the field of that
    of the option, wherever the type does not say how.
    """

    flag: str = ""
    metavar: str | None = None
    default: str | None = None
    panel: str | None = None
    alias: str = ""
    type: Any = None
    read: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Setting:
    """A field of the dataclass `owner`, which is a config or lies in its field `group` (None: in none).

    offered: declared with an `Option`. optional: may be None.
    """

    name: str
    default: Any
    types: tuple[Any, ...]
    option: Option
    owner: type
    group: str | None
    offered: bool = field(default=True, compare=False)
    optional: bool = field(default=False, compare=False)

    @property
    def flag(self) -> str:
        """As on the command line."""
        return self.option.flag.partition("/")[0] or f"--{self.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """A name that no other setting of the config has: of one in a group that of its option, else that of the field."""
        return self.flag.removeprefix("--").replace("-", "_") if self.group else self.name

    @property
    def is_number(self) -> bool:
        """Whether bounds are declared of it."""
        return any(isinstance(entry, Bounds) for hint in self.types for entry in getattr(hint, "__metadata__", ()))

    @property
    def is_list(self) -> bool:
        """Whether it is a tuple of any number of values."""
        return any(get_origin(bare) is tuple and ... in get_args(bare) for bare in map(_bare, self.types))

    def type_for(self, value: Any) -> Any:
        """Of the types a field may have (None apart) the one with the bounds of this value."""
        return next((hint for hint in self.types if (get_origin(hint) is Mapping) == isinstance(value, Mapping)), self.types[0])


def settings_of(owner: type, group: str | None = None) -> Iterator[Setting]:
    """Every field of a dataclass in order, those of its nested dataclasses in their place; one without a default has MISSING."""
    hints = get_type_hints(owner, include_extras=True)
    for item in fields(owner):
        hint = hints[item.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from settings_of(hint, item.name)
            continue
        option = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Option)), None)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        yield Setting(item.name, default, tuple(_types(hint)), option or Option(), owner, group, option is not None, _takes_none(hint))


def assemble(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """A config from the keys of its settings, those of nested dataclasses beside the others.

    Numbers of NumPy become Python's, and a lone text the one value of a setting that takes several. Raises UsageError for a key that does
    not exist, and what the dataclasses raise.
    """
    known = {setting.key: setting for setting in settings_of(cls)}
    for key in values:
        if key not in known:
            raise unknown_setting(key, known)
    grouped: dict[str | None, dict[str, Any]] = {}
    for key, value in values.items():
        given = (value,) if isinstance(value, str) and known[key].is_list else plain(value)
        grouped.setdefault(known[key].group, {})[known[key].name] = given
    owners = {setting.group: setting.owner for setting in known.values() if setting.group}
    nested = {group: owners[group](**grouped[group]) for group in owners if group in grouped}
    return cls(**grouped.get(None, {}), **nested)


def divide(values: Mapping[str, Any], *owners: type) -> list[dict[str, Any]]:
    """Values by the config dataclass whose field they name, for each of these. Raises UsageError for a name that none of them has."""
    known = [{setting.name for setting in settings_of(owner)} for owner in owners]
    for name in values:
        if not any(name in names for names in known):
            raise unknown_setting(name, [name for names in known for name in sorted(names)])
    return [{name: value for name, value in values.items() if name in names} for names in known]


def unknown_setting(name: str, known: Iterable[str], where: object = None) -> UsageError:
    """The error for a setting that there is not, with those that there are and the one that is spelled most alike."""
    known = list(known)
    fix = f"{did_you_mean(name, known)}Settings: {', '.join(known) or 'none'}."
    return UsageError(f"there is no setting {name!r}.", where=where, fix=fix)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'depth'? ` where one of the known names is spelled much like this one, else nothing."""
    close = get_close_matches(name, list(known), 1)
    return f"Did you mean {close[0]!r}? " if close else ""


def check_bounds(config: Any) -> None:
    """Raise UsageError for numbers of a config, and of dataclasses nested in it, that are out of the bounds in their types."""
    for setting in settings_of(type(config)):
        value = getattr(getattr(config, setting.group) if setting.group else config, setting.name)
        if value is None and setting.is_number and not setting.optional:
            raise UsageError(f"{setting.name} is None.", where=setting.flag, fix="Give a number, or leave it out.")
        check_range(setting.name, value, setting.type_for(value), setting.flag)


def _bare(hint: Any) -> Any:
    """A type without what is annotated."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _takes_none(hint: Any) -> bool:
    return NoneType in get_args(_bare(hint))


def _types(hint: Any) -> Iterator[Any]:
    """The members of a union, annotated or not, without None; bounds stay with their member."""
    union = _bare(hint)
    if get_origin(union) in (Union, UnionType):
        yield from (member for member in get_args(union) if member is not NoneType)
    else:
        yield hint
