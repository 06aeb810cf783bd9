"""`mmtool bench`: what this machine reaches, and what the stages make of it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Quiet, examples, json_line, quieted
from mmtool.training.config import Preset

EXAMPLES = examples("mmtool bench", "mmtool bench --preset small --json > bench.json", "mmtool bench --folder /scratch")
UNITS = {"products": ("FLOP/s", 1e9, "G"), "memory": ("B/s", 1e9, "G"), "disk": ("B/s", 1e6, "M")}
RATES = ("tokens_per_s", "samples_per_s")


@with_config_options
def bench(
    preset: Annotated[Preset, typer.Option(help="Size of the transformer that is trained and decoded with.")] = "tiny",
    compile: Annotated[bool, typer.Option("--compile", help="Train with a compiled step, which takes a minute more.")] = False,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="A folder on the disk to measure; nothing is left there.", show_default="the current one")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON in place of the table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure this machine, and the stages as shares of its limits, in about a minute.

    Limits: products of large matrices by type of number, copies in memory, writing to and reading from the disk. Stages, on
    made-up data: batches made by one process, a training, decoding, tokenizing texts.
    """
    from mmtool.bench.bench import BenchConfig
    from mmtool.bench.bench import bench as measure

    with quieted(quiet):
        report = measure(BenchConfig(preset, compile), folder)
    if as_json:
        print(json_line(report), flush=True)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    machine = report["machine"]
    busy = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    table = Table(title=f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads{busy}", title_justify="left")
    table.add_column("")
    for heading in ("rate", "share", "of"):
        table.add_column(heading, justify="left" if heading == "of" else "right")
    for name, rate in report["limits"].items():
        unit, size, prefix = UNITS[name.partition("_")[0]]
        table.add_row(name.replace("_", " "), f"{rate / size:,.1f} {prefix}{unit}", "", "")
    table.add_section()
    for name, stage in report["stages"].items():
        rate_name = next(rate for rate in RATES if rate in stage)
        rate = f"{stage[rate_name]:,.0f} {rate_name.removesuffix('_per_s')}/s"
        table.add_row(name, rate, _share(stage["share"]), stage["limit"].replace("_", " "))
    Console(file=sys.stdout).print(table)


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"
