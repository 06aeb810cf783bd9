"""A grid of methods and seeds in one call: pretrain each, evaluate each on the held-out split, average over seeds, one report.

OUT/comparison.json          format, data: what this directory is
OUT/runs/NAME/seed-S/        runs (see training/run.py); a finished one is kept and used again, an interrupted one continues
OUT/seeds/S/                 the report on all runs of one seed, with its contact sheet
OUT/report.json              {"format", "meta", "rows": averaged, "results": of every seed, "differences": of the last column from others,
                     "gap_closed": between the commutative column and the oracle}
OUT/report.md, report.html, *.png; contact_sheet.png, samples.json, texts.tsv and audio/ (of the first seed)
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import locked, one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath, begin_or_continue
from mmtool.common.seal import read_json
from mmtool.common.storage import atomic_directory, sha256_bytes, write_bytes, write_json
from mmtool.data.graph import CoOccurrence
from mmtool.data.held_out import held_out_path
from mmtool.data.labels import choose_label, is_number
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.evaluation.baselines.tables import Answered
from mmtool.evaluation.config import DEFAULTS, EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.figures.ranked_samples import SAMPLES
from mmtool.evaluation.figures.samples import CONTACT_SHEET, PLAYERS, TEXTS
from mmtool.evaluation.leaks import OF_RUN, reference_of, refuse_leaks, tokenizers_of
from mmtool.evaluation.reference.data import RawTables, draw_test, open_sides
from mmtool.evaluation.report import write_report
from mmtool.evaluation.report_file import AGAIN, FORMAT, read_report
from mmtool.evaluation.tasks import USUAL, check_tasks, possible_tasks
from mmtool.evaluation.tasks.ood import ood_label
from mmtool.evaluation.tasks.reconstruction import SHEETS
from mmtool.imputation.chain import check_chained
from mmtool.methods import METHODS
from mmtool.methods.protocols import Reconstructing, Retrieving
from mmtool.metrics.seeds import gap_closed, over_seeds, paired_differences
from mmtool.metrics.survival import check_installed
from mmtool.training.config import PretrainConfig, options_of
from mmtool.training.pretrain import pretrain, shape_of
from mmtool.training.run import CONFIG, open_run
from mmtool.training.side_by_side import train_all

COMPARISON, COMPARISON_FORMAT = "comparison.json", "mmtool-comparison/1"
BASELINE, ORACLE = "commutative", "oracle"  # columns: what an oracle's method is, and what it is called
INTERVALS = " (over seeds by Student's t; over samples where there is one seed)"


@dataclass(frozen=True)
class Comparison:
    """report: the directory. rows: averaged over seeds; results: of every seed; runs: directories of all trainings."""

    report: Path
    rows: list[dict[str, Any]]
    results: list[dict[str, Any]]
    runs: list[Path] = field(default_factory=list)


@one_writer
def compare(
    variants: Mapping[str, PretrainConfig],
    seeds: Sequence[int],
    data: Path,
    output: Path,
    config: EvaluationConfig = DEFAULTS,
    *,
    split: str | None = None,
    raw: RawTables | None = None,
    oracle: Path | None = None,
    jobs: int = 1,
    force: bool = False,
) -> Comparison:
    """Train every variant (name -> settings) with every seed on the train split of `data`, and compare them on a held-out split.

    The same call continues an interrupted comparison and adds new variants and seeds to a finished one. Raises UsageError where a run
    that is there was begun with other settings, or where `output` is something else. config: of the evaluation. split: the held-out one
    (None: test, or validation where there is no test). raw: tables before tokenizing (see `evaluate`). oracle: shards of the same tokens in
    which modalities that never meet in `data` do: the variant `commutative`, trained on these, is the column `oracle`, and the report
    says how much of the gap between the two every other variant closes. jobs: trainings side by side (see `train_all`).
    """
    config = replace(config, tasks=tuple(config.tasks) or (USUAL,))
    _check(variants, seeds, config)
    train = open_token_set(Path(data), split="train")
    config.params.check(train.tokenizers)
    held_out = _held_out(Path(data), split, config, variants)
    columns = {name: (training, Path(data)) for name, training in variants.items()}
    if oracle:
        _check_oracle(variants, train, Path(oracle), held_out, config)
        columns[ORACLE] = variants[BASELINE], Path(oracle)
    begin_or_continue(
        OutputPath(output, force, list({source for _, source in columns.values()})),
        COMPARISON,
        {"format": COMPARISON_FORMAT, "data": train.fingerprint},
    )
    runs = {(name, seed): output / "runs" / name / f"seed-{seed}" for seed in seeds for name in columns}
    train_all(_trainings(columns, runs, force), jobs)
    answered: Answered = {}  # of baselines, which are the same beside the runs of every seed
    by_seed = {seed: {name: runs[name, seed] for name in columns} for seed in seeds}
    reports = {seed: _evaluate(paths, seed, held_out, output, config, raw, answered) for seed, paths in by_seed.items()}
    results = [row for seed in seeds for row in reports[seed]["rows"]]
    rows, first = over_seeds(results), reports[seeds[0]]["meta"]
    named = [{"name": run["name"], "method": run["method"], "seeds": list(seeds)} for run in first["runs"]]
    known = {"oracle": {"name": ORACLE, "baseline": BASELINE, "data": str(oracle)}} if oracle else {}
    _write(output, rows, results, {**first, "runs": named, "intervals": INTERVALS, **known}, seeds[0])
    return Comparison(output, rows, results, list(runs.values()))


def _trainings(
    columns: Mapping[str, tuple[PretrainConfig, Path]], runs: Mapping[tuple[str, int], Path], force: bool
) -> dict[str, Callable[[], object]]:
    """What is to be trained (column -> settings and data), by a title; what was trained to the end already is left out."""
    prints = {source: open_token_set(source, split="train").fingerprint for _, source in columns.values()}
    trainings: dict[str, Callable[[], object]] = {}
    for place, ((name, seed), path) in enumerate(runs.items(), 1):
        training, source = columns[name]
        settings, title = PretrainConfig(**{**vars(training), "seed": seed}), f"{name}, seed {seed} ({place}/{len(runs)})"
        if _finished(path, settings, prints[source]) and not force:
            with locked(path):  # which a process that died at its end may have left behind
                log(f"{title}: trained already")
        else:
            trainings[title] = partial(pretrain, settings, source, path, force=force, extensible=False)
    return trainings


def _check(variants: Mapping[str, PretrainConfig], seeds: Sequence[int], config: EvaluationConfig) -> None:
    """Raise UsageError for what would only fail after hours of training."""
    check_tasks(config.tasks)
    if config.survival:
        check_installed()
    if not variants or not seeds:
        raise UsageError("there is nothing to compare.", where="--methods/--seeds", fix="Name at least one method and one seed.")
    for name, training in variants.items():
        if training.method not in METHODS:
            raise UsageError(f"there is no method {training.method!r}.", where=f"variant {name}", fix=f"Methods: {', '.join(METHODS)}.")
        options_of(METHODS[training.method].Options, training.method_options, f"variant {name}")
        shape_of(training)
        if not name or "/" in name or name.startswith("."):
            raise UsageError(f"{name!r} cannot be the name of a column.", where="--variant", fix="Use letters, digits, '-' and '_'.")
    retrieves = {name: issubclass(METHODS[training.method], Retrieving) for name, training in variants.items()}
    check_chained(config.impute.chain, retrieves, config.tasks)


def _check_oracle(variants: Mapping[str, PretrainConfig], train: TokenSet, oracle: Path, held_out: Path, config: EvaluationConfig) -> None:
    """Raise UsageError for shards that are no oracle of these: nothing more meets in them, or held-out samples were trained on."""
    if BASELINE not in variants:
        what = f"there is no column {BASELINE!r} for the oracle to be compared with."
        raise UsageError(what, where="--oracle", fix=f"Add {BASELINE} to --methods.")
    if ORACLE in variants:
        raise UsageError(f"a column is named {ORACLE!r}.", where="--variant", fix="Name it differently, or leave --oracle out.")
    tokens = open_token_set(oracle, split="train")
    seen, known = (CoOccurrence.of(side.present(i) for i in range(len(side))) for side in (tokens, train))
    if not set(seen.edges) - set(known.edges):
        what = "every pair of modalities that occurs together in the oracle's shards does so in the others."
        raise UsageError(what, where=oracle, fix="Shard the same tokens again with the missing --pair as well.")
    samples = draw_test(open_sides(held_out, _train_of(held_out))[0], config.limit, config.seed, complete=config.complete)
    refuse_leaks(samples, [reference_of(tokens, samples, "the oracle", OF_RUN)], held_out)


def _held_out(data: Path, split: str | None, config: EvaluationConfig, variants: Mapping[str, PretrainConfig]) -> Path:
    """The split to evaluate on, after a check that the tasks are possible on it. A file holds all splits."""
    held_out = held_out_path(data, split)
    test_set, train_set = open_sides(held_out, _train_of(held_out))
    samples = draw_test(test_set, config.limit, config.seed, complete=config.complete)
    refuse_leaks(samples, [reference_of(train_set, samples, "the runs", OF_RUN), *tokenizers_of(test_set)], held_out)
    label = choose_label(samples, config.label or ood_label(config.ood.samples), config.survival or ())
    number, masks = is_number(samples, label), any(issubclass(METHODS[training.method], Reconstructing) for training in variants.values())
    offers = {"ood_samples": bool(config.ood.samples or (label and not number)), "masks": masks}
    possible_tasks(config.tasks, label, number, [offer for offer, offered in offers.items() if offered])
    return held_out


def _train_of(held_out: Path) -> Path:
    return held_out if held_out.is_file() else held_out.parent / "train"


def _finished(path: Path, settings: PretrainConfig, fingerprint: str) -> bool:
    """Whether a run of exactly these settings and data was trained to the end."""
    if not (path / CONFIG).exists():
        return False
    run = open_run(path)
    if settings.changes_from(run.record["config"]) or run.outdated() or run.record["data"] != fingerprint:
        return False
    return run.complete


def _evaluate(
    runs: Mapping[str, Path],
    seed: int,
    held_out: Path,
    output: Path,
    config: EvaluationConfig,
    raw: RawTables | None,
    answered: Answered,
) -> dict[str, Any]:
    """The report on the runs of one seed: the one that is there if it was written with the same config, else a new one."""
    folder, train = output / "seeds" / str(seed), _train_of(held_out)
    key = {
        "format": FORMAT,
        "config": json.loads(json.dumps(asdict(config))),
        "runs": {name: open_run(path).record["config"] for name, path in runs.items()},
        "held_out": open_sides(held_out, train)[0].fingerprint,
        "raw": {name: _digest(rows) for name, rows in (raw or {}).items()},
    }
    note = folder / "asked.json"
    if (report := _report_on(key, note, folder)) is not None:
        with locked(folder):
            log(f"seed {seed}: evaluated already")
        return report
    log(f"seed {seed}: evaluating {', '.join(runs)}")
    evaluate(list(runs.values()), held_out, folder, config, names=list(runs), train=train, raw=raw, answered=answered, force=True)
    write_json(note, key)
    return read_report(folder)


def _report_on(key: Mapping[str, Any], note: Path, folder: Path) -> dict[str, Any] | None:
    """The report that is there, where it is whole and was written with the same config; else None."""
    try:
        return read_report(folder) if read_json(note, AGAIN) == key else None
    except DataError:
        return None


def _digest(rows: Mapping[str, np.ndarray]) -> str:
    return sha256_bytes(b"".join(key.encode() + row.tobytes() for key, row in sorted(rows.items())))


def _write(output: Path, rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], meta: Mapping[str, Any], first: int) -> None:
    """The report on all seeds, beside the runs; pictures and recordings are those of the first seed."""
    report = output / "seeds" / str(first)
    for name in {CONTACT_SHEET, TEXTS, SAMPLES, *(path.name for folder in (report, output) for path in folder.glob(SHEETS))}:
        if (report / name).exists():
            write_bytes(output / name, (report / name).read_bytes())
        else:
            (output / name).unlink(missing_ok=True)
    for player in PLAYERS:
        if (report / player).is_dir():
            with atomic_directory(output / player, force=True) as folder:
                shutil.copytree(report / player, folder, dirs_exist_ok=True)
        else:
            shutil.rmtree(output / player, ignore_errors=True)
    ours = [run["name"] for run in meta["runs"] if run["name"] != ORACLE][-1]
    gaps = gap_closed(results, BASELINE, ORACLE)
    write_report(output, list(rows), meta, results=list(results), differences=paired_differences(results, ours), gap_closed=gaps)
