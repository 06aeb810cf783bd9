"""The options of `evaluate` and `compare`: one for each field of `EvaluationConfig`, whose docstring is its help."""

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin

import typer

from mmtool.cli.options import by_modality, names, refuse_unused, survival_labels
from mmtool.evaluation import config
from mmtool.evaluation.config import SETTINGS, TABLES, EvaluationConfig, Setting
from mmtool.evaluation.tasks import ALL, TASKS, USUAL

OF_ADAPTERS = {"--label", "--limit", "--candidates", "--survival", "--seed"}  # settings that adapters are evaluated with as well
OF_RUNS = (  # options that say how runs are evaluated, not adapters
    *(setting.flag for setting in SETTINGS if setting.flag not in OF_ADAPTERS),
    *("--reconstructions", "--raw", "--key-column"),
)
Raw = Annotated[
    list[str] | None,
    typer.Option("--raw", metavar="NAME=PATH", help="The raw table: truth for imputed ones. Repeatable.", rich_help_panel=TABLES),
]
Reconstructions = Annotated[
    bool, typer.Option("--reconstructions", help="Also draw samples masked, reconstructed and as they are (the task reconstruct).")
]


def with_evaluation_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for each setting of an evaluation in place of its parameter `evaluation`, which gets all of them."""
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        parameters += _parameters() if parameter.name == "evaluation" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        settings = {setting.key: _as_option(setting)[2](values.pop(setting.key)) for setting in SETTINGS}
        verb(evaluation=EvaluationConfig.of(**settings), **values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # this and the annotations are what Typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def with_reconstructions(evaluation: EvaluationConfig, wanted: bool) -> EvaluationConfig:
    """What --reconstructions asks for: the task reconstruct beside those of --task, or beside the usual one."""
    tasks = tuple(dict.fromkeys((*(evaluation.tasks or (USUAL,)), "reconstruct")))
    return replace(evaluation, tasks=tasks) if wanted else evaluation


def refuse_options_of_other_tasks(context: typer.Context, evaluation: EvaluationConfig) -> None:
    """Raise UsageError where an option was given of a task that is not among those to measure."""
    for setting in SETTINGS:
        if setting.task and not {setting.task, ALL} & set(evaluation.tasks or (USUAL,)):
            refuse_unused(context, f"without --task {setting.task}", setting.flag)


def _parameters() -> Iterator[inspect.Parameter]:
    """The options as parameters of a verb."""
    for setting in SETTINGS:
        option, (kind, default, _) = setting.option, _as_option(setting)
        declared = typer.Option(
            setting.flag,
            metavar=option.metavar,
            help=_docstrings()[setting.owner.__name__, setting.name].format(tasks=", ".join(TASKS)),
            show_default=option.default or True,
            rich_help_panel=option.panel,
        )
        yield inspect.Parameter(setting.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared])


def _as_option(setting: Setting) -> tuple[Any, Any, Callable[[Any], Any]]:
    """(type of the option, its default, how its value is read as that of the setting)."""
    hint = setting.types[0]
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if len(setting.types) > 1:  # a number, or numbers by modality
        return list[str] | None, None, lambda values: by_modality(values, setting.flag, setting.default)
    if bare == tuple[str, ...]:
        return list[str] | None, None, names
    if bare == tuple[str, str]:
        return str | None, None, survival_labels
    return bare | None if setting.default is None else bare, setting.default, lambda value: value


@functools.cache
def _docstrings() -> dict[tuple[str, str], str]:
    """(class, field) -> the docstring under the field, on one line."""
    docstrings = {}
    for node in ast.walk(ast.parse(inspect.getsource(config))):
        if not isinstance(node, ast.ClassDef):
            continue
        for above, below in pairwise(node.body):
            if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docstrings[node.name, ast.unparse(above.target)] = " ".join(str(below.value.value).split())
    return docstrings
