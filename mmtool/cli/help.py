"""How options are shown: short names for what they take, and nothing behind flags, so that a page of help fits into 80 columns."""

import re
from typing import Any, Literal, get_args, get_origin

import typer.core

from mmtool.common.urls import masked, packed, unpacked

PRINTING = "--print-config"
WIDEST = 24  # characters of what an option takes, beyond which its choices are in its text
SHORT = {"int": "N", "float": "X", "str": "TEXT", "path": "PATH"}


class Verbs(typer.core.TyperGroup):
    """All verbs; nothing stands behind its flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Of the program itself, `--help` among them."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Verb(typer.core.TyperCommand):
    """A verb whose options say `N`, `X`, `TEXT` or `PATH` where they name nothing of their own; bounds are named when they are violated."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: ""  # type: ignore[attr-defined]  # its name says it
            elif getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.metavar is None:
                _shorten(parameter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """With --print-config nothing is done, so nothing has to be given. URLs are packed: they would not be the same as paths."""
        required = [parameter for parameter in self.params if parameter.required and PRINTING in args]
        for parameter in required:
            parameter.required = False
        try:
            return super().parse_args(ctx, [packed(argument) for argument in args])
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = masked(unpacked(message))  # type: ignore[attr-defined]
            raise
        finally:
            for parameter in required:
                parameter.required = True

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, a flag as well."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar = ""
        return option


def _choices(parameter: Any) -> tuple[str, ...]:
    """The words that an option takes; none where it takes others as well."""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _shorten(option: Any) -> None:
    """Say in few characters what an option takes; many choices are listed in its text."""
    choices = _choices(option)
    if short := _short(option):
        option.metavar = short
    elif len("|".join(choices)) > WIDEST:
        option.metavar = "NAME"
        if not {*choices} <= {*re.findall(r"[\w-]+", option.help)}:
            option.help = f"{option.help.removesuffix('.')}: {', '.join(choices[:-1])} or {choices[-1]}."


def _short(parameter: Any) -> str | None:
    """What stands for a plain value; None for choices, which say themselves what they take."""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    name = getattr(annotation, "__name__", "") or getattr(getattr(parameter, "type", None), "name", "")
    return next((short for kind, short in SHORT.items() if name.lower().startswith(kind)), None)
