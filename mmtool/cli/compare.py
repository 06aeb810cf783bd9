"""`mmtool compare`: methods and seeds, trained and evaluated in one command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmtool.adaptation.config import AdaptConfig
from mmtool.cli.adapt import MISSING, EncoderSources, encoder_sources
from mmtool.cli.config_options import OptionsOf, with_config_options
from mmtool.cli.evaluation_options import OF_RUNS, Raw, Reconstructions, with_reconstructions
from mmtool.cli.options import (
    OF_RAW_TABLES,
    Force,
    Json,
    OutputDirectory,
    Quiet,
    examples,
    finish,
    quieted,
    raw_tables,
    refuse_unused,
    set_option,
    spare_inputs,
)
from mmtool.common.arguments import names
from mmtool.common.errors import UsageError
from mmtool.evaluation.config import EvaluationConfig
from mmtool.training.config import PretrainConfig, resolve, resolve_as

GRID = "What is compared"
EXAMPLES = examples(
    "mmtool compare shards/ --methods causal,commutative,loretta --seeds 0,1,2 --minutes 10 -o comparison/",
    "mmtool compare shards/ --encoder image=a/ --encoder text=b/ --label digit --missing-rate 0.7 --methods joint,zeros,ridge -o curves/",
    "mmtool compare shards/ --methods loretta --variant half:loretta:transitive_share=0.5 --steps 2000 -o ablation/",
)
Methods = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Methods with their usual settings.", show_default="none", rich_help_panel=GRID),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME:METHOD:KEY=VALUE,...",
        help="A method with other settings, as a separate column. Repeatable.",
        rich_help_panel=GRID,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=1,
        help="Trainings side by side, each in a process with its share of the cores. With --minutes, more of them learn less each.",
        rich_help_panel=GRID,
    ),
]


@with_config_options
def compare(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards with a train and a held-out split.")],
    output: OutputDirectory,
    methods: Methods = None,
    variants: Variants = None,
    seeds: Annotated[str, typer.Option(metavar="SEED,...", help="Of the trainings.", rich_help_panel=GRID)] = "0",
    jobs: Jobs = 1,
    *,
    options: Annotated[dict[str, Any], OptionsOf(PretrainConfig, "preset", "steps", "minutes", "batch_tokens", rest=True)],
    settings: Annotated[list[str] | None, set_option("Any other setting of all trainings. Repeatable.")] = None,
    evaluation: EvaluationConfig,
    reconstructions: Reconstructions = False,
    split: Annotated[
        Literal["test", "validation"] | None, typer.Option(help="Held-out split to evaluate on.", show_default="test, else validation")
    ] = None,
    oracle: Annotated[
        Path | None,
        typer.Option(
            metavar="SHARDS",
            help="Shards of the same tokens in which what never meets here does: `commutative`, trained on them, is the column `oracle`.",
            rich_help_panel=GRID,
        ),
    ] = None,
    raw: Raw = None,
    reading: Annotated[dict[str, Any], OF_RAW_TABLES],
    encoders: EncoderSources = None,
    of_adapters: Annotated[dict[str, Any], OptionsOf(AdaptConfig, "task", *MISSING, rest=True)],
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train methods with several seeds and evaluate them against each other.

    Every method (and variant) is pretrained with every seed on the train split, evaluated on the held-out split and averaged over seeds,
    with 95 % intervals over seeds. The same command continues an interrupted comparison; more methods and seeds may be added to a
    finished one, which keeps its runs. --seed is that of the evaluation.

    With --encoder, methods of `mmtool adapt` are trained on these frozen encoders instead, and measured while a growing share of held-out
    samples loses modalities.
    """
    if encoders:
        refuse_unused(context, "with --encoder", "--preset", "--batch-tokens", "--oracle", *OF_RUNS)
        labels = {"label": evaluation.label, "survival": evaluation.survival}
        options = {**of_adapters, **labels, "steps": options["steps"], "minutes": options["minutes"]}
        wanted_adapters = _adapters(methods, variants, settings, options)
        from mmtool.comparison.adapters import compare_adapters

        with quieted(quiet):
            curves = compare_adapters(
                wanted_adapters, read_seeds(seeds), encoder_sources(encoders), data, output, split=split, limit=evaluation.limit,
                candidates=evaluation.retrieval.candidates, seed=evaluation.seed, jobs=jobs, force=force,
            )  # fmt: skip
        sentence = f"{curves.report}: {len(curves.runs)} adapters, {len(curves.results)} results; open report.html in it"
        return finish({"results": curves.results, "report": curves.report}, sentence, as_json, quiet)
    refuse_unused(context, "without --encoder", "--kind", "--missing-rate", "--missing", "--num-missing")
    refuse_unused(context, "without --raw", *OF_RAW_TABLES.flags, when=not raw)
    _refuse_settings_of_adapters(of_adapters)
    wanted = _configs(methods, variants, options, settings)
    if not wanted:
        raise UsageError("there is nothing to compare.", where="--methods", fix="Name methods, for example --methods causal,loretta.")
    spare_inputs(output, force, data, raw=raw)
    from mmtool.comparison.grid import compare as train_and_evaluate

    evaluation = with_reconstructions(evaluation, reconstructions)
    with quieted(quiet):
        tables = raw_tables(raw, data, reading)
        done = train_and_evaluate(
            wanted, read_seeds(seeds), data, output, evaluation, split=split, raw=tables, oracle=oracle, jobs=jobs, force=force,
        )  # fmt: skip
    sentence = f"{done.report}: {len(done.runs)} runs, {len(done.results)} results; open report.html in it"
    finish({"results": done.results, "report": done.report}, sentence, as_json, quiet)


def _refuse_settings_of_adapters(given: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting of a file that adapters alone have."""
    for name, value in given.items():
        if value is not None and name not in PretrainConfig.__dataclass_fields__:
            raise UsageError(f"{name} has no effect without --encoder.", where="--config", fix="Leave it out.")


def _configs(
    methods: list[str] | None, variants: list[str] | None, options: dict[str, Any], settings: list[str] | None
) -> dict[str, PretrainConfig]:
    """The settings of each column: methods by their names, variants by theirs. Raises UsageError where two have one name."""
    wanted = {name: resolve(None, {**options, "method": name}, settings or ()) for name in names(methods)}
    for text in variants or ():
        name, method, assigned = read_variant(text)
        if name in wanted:
            raise UsageError(f"there are two columns named {name!r}.", where="--variant", fix="Name each of them differently.")
        wanted[name] = resolve(None, {**options, "method": method}, [*(settings or ()), *assigned])
    return wanted


def _adapters(
    methods: list[str] | None,
    variants: list[str] | None,
    settings: list[str] | None,
    options: dict[str, Any],
) -> dict[str, AdaptConfig]:
    """Columns of a comparison of adapters: name -> settings."""
    chosen = {name: (name, list[str]()) for name in names(methods)}
    for text in variants or ():
        name, method, assigned = read_variant(text, AdaptConfig)
        if name in chosen:
            raise UsageError(f"there are two columns named {name!r}.", where="--variant", fix="Name each of them differently.")
        chosen[name] = method, assigned
    return {
        name: resolve_as(AdaptConfig, None, {**options, "method": method}, [*(settings or ()), *assigned])
        for name, (method, assigned) in chosen.items()
    }


def read_variant(text: str, config: type[Any] = PretrainConfig) -> tuple[str, str, list[str]]:
    """`NAME:METHOD:KEY=VALUE,...` -> (name, method, assignments as for --set); a bare KEY is a setting of the method."""
    name, _, rest = text.partition(":")
    method, _, listed = rest.partition(":")
    pairs = [pair for pair in listed.split(",") if pair]
    if not name or not method or any("=" not in pair for pair in pairs):
        fix = "For example half:loretta:transitive_share=0.5."
        raise UsageError(f"{text!r} is not NAME:METHOD:KEY=VALUE,...", where="--variant", fix=fix)
    return name, method, [_assignment(pair, config) for pair in pairs]


def read_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers, each once."""
    parts = names([text])
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"{text!r} is not a list of seeds.", where="--seeds", fix="Write --seeds 0,1,2.")
    return list(dict.fromkeys(int(part) for part in parts))


def _assignment(pair: str, config: type[Any]) -> str:
    key = pair.partition("=")[0]
    return pair if "." in key or key in config.__dataclass_fields__ else f"method.{pair}"
