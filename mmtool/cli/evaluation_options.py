"""The options that `evaluate` and `compare` have beside the fields of `EvaluationConfig`."""

from dataclasses import replace
from typing import Annotated

import typer

from mmtool.cli.options import OF_RAW_TABLES, refuse_unused
from mmtool.evaluation.config import SETTINGS, TABLES, EvaluationConfig
from mmtool.evaluation.tasks import ALL, TASKS, USUAL

OF_ADAPTERS = {"--label", "--limit", "--candidates", "--survival", "--seed"}  # settings that adapters are evaluated with as well
OF_RUNS = (  # options that say how runs are evaluated, not adapters
    *(setting.flag for setting in SETTINGS if setting.flag not in OF_ADAPTERS),
    *("--reconstructions", "--raw", *OF_RAW_TABLES.flags),
)
Raw = Annotated[
    list[str] | None,
    typer.Option("--raw", metavar="NAME=PATH", help="The raw table: truth for imputed ones. Repeatable.", rich_help_panel=TABLES),
]
Reconstructions = Annotated[
    bool, typer.Option("--reconstructions", help="Also draw samples masked, reconstructed and as they are (the task reconstruct).")
]


def with_reconstructions(evaluation: EvaluationConfig, wanted: bool) -> EvaluationConfig:
    """What --reconstructions asks for: the task reconstruct beside those of --task, or beside the usual one."""
    tasks = tuple(dict.fromkeys((*(evaluation.tasks or (USUAL,)), "reconstruct")))
    return replace(evaluation, tasks=tasks) if wanted else evaluation


def refuse_options_of_other_tasks(context: typer.Context, evaluation: EvaluationConfig) -> None:
    """Raise UsageError where an option was given of a task that is not among those to measure."""
    for setting in SETTINGS:
        if setting.group in TASKS and not {setting.group, ALL} & set(evaluation.tasks or (USUAL,)):
            refuse_unused(context, f"without --task {setting.group}", setting.flag)
