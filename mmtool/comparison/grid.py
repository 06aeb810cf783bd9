"""A grid of methods and seeds in one call: pretrain each, evaluate each on the held-out split, average over seeds, one report.

OUT/comparison.json          format, data: what this directory is
OUT/runs/NAME/seed-S/        runs (see training/run.py); a finished one is kept and used again, an interrupted one continues
OUT/seeds/S/                 the report on all runs of one seed, with its contact sheet
OUT/report.json              {"format", "meta", "rows": averaged, "results": of every seed, "differences": of the last column from others}
OUT/report.md, *.png; contact_sheet.png, texts.tsv and audio/ (of the first seed)
"""

import json
import shutil
from collections.abc import Mapping, Sequence
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
from mmtool.data.held_out import held_out_path
from mmtool.data.labels import choose_label, is_number
from mmtool.data.shards import open_token_set
from mmtool.evaluation.config import DEFAULTS, EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
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
from mmtool.metrics.seeds import over_seeds, paired_differences
from mmtool.training.config import PretrainConfig, options_of
from mmtool.training.pretrain import pretrain, shape_of
from mmtool.training.run import CONFIG, open_run
from mmtool.training.side_by_side import train_all

COMPARISON, COMPARISON_FORMAT = "comparison.json", "mmtool-comparison/1"
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
    jobs: int = 1,
    force: bool = False,
) -> Comparison:
    """Train every variant (name -> settings) with every seed on the train split of `data`, and compare them on a held-out split.

    The same call continues an interrupted comparison and adds new variants and seeds to a finished one. Raises UsageError where a run
    that is there was begun with other settings, or where `output` is something else. config: of the evaluation. split: the held-out one
    (None: test, or validation where there is no test). raw: tables before tokenizing (see `evaluate`). jobs: trainings side by side (see
    `train_all`).
    """
    config = replace(config, tasks=tuple(config.tasks) or (USUAL,))
    _check(variants, seeds, config)
    train = open_token_set(Path(data), split="train")
    config.params.check(train.tokenizers)
    print_of_data = train.fingerprint
    held_out = _held_out(Path(data), split, config, variants)
    begin_or_continue(OutputPath(output, force, [data]), COMPARISON, {"format": COMPARISON_FORMAT, "data": print_of_data})
    runs = {(name, seed): output / "runs" / name / f"seed-{seed}" for seed in seeds for name in variants}
    trainings = {}
    for place, ((name, seed), path) in enumerate(runs.items(), 1):
        settings, title = PretrainConfig(**{**vars(variants[name]), "seed": seed}), f"{name}, seed {seed} ({place}/{len(runs)})"
        if _finished(path, settings, print_of_data) and not force:
            with locked(path):  # which a process that died at its end may have left behind
                log(f"{title}: trained already")
        else:
            trainings[title] = partial(pretrain, settings, data, path, force=force)
    train_all(trainings, jobs)
    reports = {seed: _evaluate({name: runs[name, seed] for name in variants}, seed, held_out, output, config, raw) for seed in seeds}
    results = [row for seed in seeds for row in reports[seed]["rows"]]
    rows = over_seeds(results)
    first = reports[seeds[0]]["meta"]
    named = [{"name": run["name"], "method": run["method"], "seeds": list(seeds)} for run in first["runs"]]
    _write(output, rows, results, {**first, "runs": named, "intervals": INTERVALS}, seeds[0])
    return Comparison(output, rows, results, list(runs.values()))


def _check(variants: Mapping[str, PretrainConfig], seeds: Sequence[int], config: EvaluationConfig) -> None:
    """Raise UsageError for what would only fail after hours of training."""
    check_tasks(config.tasks)
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


def _held_out(data: Path, split: str | None, config: EvaluationConfig, variants: Mapping[str, PretrainConfig]) -> Path:
    """The split to evaluate on, after a check that the tasks are possible on it. A file holds all splits."""
    held_out = held_out_path(data, split)
    test_set, train_set = open_sides(held_out, _train_of(held_out))
    samples = draw_test(test_set, config.limit, config.seed)
    refuse_leaks(samples, [reference_of(train_set, samples, "the runs", OF_RUN), *tokenizers_of(test_set)], held_out)
    label = choose_label(samples, config.label or ood_label(config.ood.samples))
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
    runs: Mapping[str, Path], seed: int, held_out: Path, output: Path, config: EvaluationConfig, raw: RawTables | None
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
    evaluate(list(runs.values()), held_out, folder, config, names=list(runs), train=train, raw=raw, force=True)
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
    for name in {CONTACT_SHEET, TEXTS, *(path.name for folder in (report, output) for path in folder.glob(SHEETS))}:
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
    write_report(output, list(rows), meta, results=list(results), differences=paired_differences(results, meta["runs"][-1]["name"]))
