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
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.output import OutputPath, begin_or_continue
from mmtool.common.storage import atomic_directory, sha256_bytes, write_bytes, write_json
from mmtool.data.held_out import held_out_path
from mmtool.data.labels import choose_label, is_number
from mmtool.data.shards import open_token_set
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.leaks import OF_RUN, reference_of, refuse_leaks, tokenizers_of
from mmtool.evaluation.reference.data import POOL_PER_COMBINATION, RawTables, Survival, draw_test, open_sides
from mmtool.evaluation.report import AUDIO, CONTACT_SHEET, TEXTS, write_tables
from mmtool.evaluation.tasks import check_tasks, possible_tasks
from mmtool.evaluation.tasks.ood import asked_label
from mmtool.evaluation.tasks.reconstruction import SHEETS
from mmtool.impute.chain import check_chained
from mmtool.impute.sampling_params import PLAIN, SamplingParams
from mmtool.methods import METHODS
from mmtool.metrics.seeds import against_others, over_seeds
from mmtool.training.config import PretrainConfig, options_of
from mmtool.training.pretrain import pretrain, shape_of
from mmtool.training.run import CONFIG, open_run
from mmtool.training.side_by_side import train_all

COMPARISON, COMPARISON_FORMAT, REPORT = "comparison.json", "mmtool-comparison/1", "report.json"
INTERVALS = " (over seeds by Student's t; over samples where there is one seed)"


@dataclass(frozen=True)
class Judging:
    """How runs are evaluated: see `evaluate`. split: the held-out one (None: test, or validation where there is no test)."""

    tasks: tuple[str, ...] = ("impute",)
    label: str | None = None
    limit: int | None = 1000
    draws: int = 1
    params: SamplingParams = PLAIN
    contact_samples: int = 10
    candidates: int = 100
    donors: int = 256
    chain: tuple[str, ...] = ()
    survival: Survival = None
    seed: int = 0
    ood: str | None = None
    mask_ratio: float | None = None
    train_limit: int = POOL_PER_COMBINATION
    split: str | None = None

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `evaluate`."""
        return {name: value for name, value in vars(self).items() if name != "split"}


@dataclass(frozen=True)
class Comparison:
    """report: the directory. rows: averaged over seeds; results: of every seed; runs: directories that were trained or found trained."""

    report: Path
    rows: list[dict[str, Any]]
    results: list[dict[str, Any]]
    runs: list[Path] = field(default_factory=list)


def compare(
    variants: Mapping[str, PretrainConfig],
    seeds: Sequence[int],
    data: Path,
    output: Path,
    judging: Judging | None = None,
    *,
    raw: RawTables | None = None,
    jobs: int = 1,
    force: bool = False,
) -> Comparison:
    """Train every variant (name -> settings) with every seed on the train split of `data`, and compare them on a held-out split.

    The same call continues an interrupted comparison and adds new variants and seeds to a finished one. Raises UsageError where a run
    that is there was begun with other settings, or where `output` is something else. raw: tables before tokenizing (see `evaluate`).
    jobs: trainings side by side (see `train_all`).
    """
    judging = judging or Judging()
    _check(variants, seeds, judging)
    train = open_token_set(Path(data), split="train")
    judging.params.check(train.tokenizers)
    print_of_data = train.fingerprint
    held_out = _held_out(Path(data), judging, variants)
    begin_or_continue(OutputPath(output, force, [data]), COMPARISON, {"format": COMPARISON_FORMAT, "data": print_of_data})
    runs = {(name, seed): output / "runs" / name / f"seed-{seed}" for seed in seeds for name in variants}
    trainings = {}
    for place, ((name, seed), path) in enumerate(runs.items(), 1):
        settings, title = PretrainConfig(**{**vars(variants[name]), "seed": seed}), f"{name}, seed {seed} ({place}/{len(runs)})"
        if _finished(path, settings, print_of_data) and not force:
            log(f"{title}: trained already")
        else:
            trainings[title] = partial(pretrain, settings, data, path, force=force)
    train_all(trainings, jobs)
    reports = {seed: _evaluate({name: runs[name, seed] for name in variants}, seed, held_out, output, judging, raw) for seed in seeds}
    results = [row for seed in seeds for row in reports[seed]["rows"]]
    rows = over_seeds(results)
    first = reports[seeds[0]]["meta"]
    named = [{"name": run["name"], "method": run["method"], "seeds": list(seeds)} for run in first["runs"]]
    _write(output, rows, results, {**first, "runs": named, "intervals": INTERVALS}, seeds[0])
    return Comparison(output, rows, results, list(runs.values()))


def _check(variants: Mapping[str, PretrainConfig], seeds: Sequence[int], judging: Judging) -> None:
    """Raise UsageError for what would only fail after hours of training."""
    check_tasks(judging.tasks)
    if not variants or not seeds:
        raise UsageError("there is nothing to compare.", where="--methods/--seeds", fix="Name at least one method and one seed.")
    for name, config in variants.items():
        if config.method not in METHODS:
            raise UsageError(f"there is no method {config.method!r}.", where=f"variant {name}", fix=f"Methods: {', '.join(METHODS)}.")
        options_of(METHODS[config.method].Options, config.method_options, f"variant {name}")
        shape_of(config)
        if not name or "/" in name or name.startswith("."):
            raise UsageError(f"{name!r} cannot be the name of a column.", where="--variant", fix="Use letters, digits, '-' and '_'.")
    check_chained(judging.chain, {name: METHODS[config.method].has_gallery for name, config in variants.items()}, judging.tasks)


def _held_out(data: Path, judging: Judging, variants: Mapping[str, PretrainConfig]) -> Path:
    """The split to evaluate on, of which it is made sure that it can be judged as asked. A file holds all splits."""
    held_out = held_out_path(data, judging.split)
    test_set, train_set = open_sides(held_out, _train_of(held_out))
    samples = draw_test(test_set, judging.limit, judging.seed)
    refuse_leaks(samples, [reference_of(train_set, samples, "the runs", OF_RUN), *tokenizers_of(test_set)], held_out)
    label = choose_label(samples, judging.label or asked_label(judging.ood))
    number, masks = is_number(samples, label), any(METHODS[config.method].reconstructs for config in variants.values())
    there = {"ood_samples": bool(judging.ood or (label and not number)), "masks": masks}
    possible_tasks(judging.tasks, label, number, [offer for offer, offered in there.items() if offered])
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


def _evaluate(runs: Mapping[str, Path], seed: int, held_out: Path, output: Path, judging: Judging, raw: RawTables | None) -> dict[str, Any]:
    """The report on the runs of one seed: the one that is there if it was asked for in the same way, else a new one."""
    folder, train = output / "seeds" / str(seed), _train_of(held_out)
    asked = {
        "judging": json.loads(json.dumps(asdict(judging))),
        "runs": {name: open_run(path).record["config"] for name, path in runs.items()},
        "held_out": open_sides(held_out, train)[0].fingerprint,
        "raw": {name: _digest(rows) for name, rows in (raw or {}).items()},
    }
    note = folder / "asked.json"
    if note.exists() and json.loads(note.read_text()) == asked:
        log(f"seed {seed}: evaluated already")
    else:
        log(f"seed {seed}: evaluating {', '.join(runs)}")
        evaluate(list(runs.values()), held_out, folder, names=list(runs), train=train, raw=raw, force=True, **judging.options())
        write_json(note, asked)
    return json.loads((folder / REPORT).read_text())


def _digest(rows: Mapping[str, np.ndarray]) -> str:
    return sha256_bytes(b"".join(key.encode() + row.tobytes() for key, row in sorted(rows.items())))


def _write(output: Path, rows: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], meta: Mapping[str, Any], first: int) -> None:
    """The report on all seeds, beside the runs; pictures and recordings are those of the first seed."""
    made = output / "seeds" / str(first)
    for name in {CONTACT_SHEET, TEXTS, *(path.name for folder in (made, output) for path in folder.glob(SHEETS))}:
        if (made / name).exists():
            write_bytes(output / name, (made / name).read_bytes())
        else:
            (output / name).unlink(missing_ok=True)
    if (made / AUDIO).is_dir():
        with atomic_directory(output / AUDIO, force=True) as folder:
            shutil.copytree(made / AUDIO, folder, dirs_exist_ok=True)
    else:
        shutil.rmtree(output / AUDIO, ignore_errors=True)
    write_tables(output, list(rows), meta, results=list(results), differences=against_others(results, meta["runs"][-1]["name"]))
