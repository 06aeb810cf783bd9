"""The stage `evaluate`: how well runs impute every modality, against each other, trivial baselines and the upper bound of real data."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.data.graph import CoOccurrence
from mmtool.data.labels import check_classes, choose_label
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.evaluation.baselines.tables import TABULAR_NAMES, Answered
from mmtool.evaluation.config import DEFAULTS, EvaluationConfig
from mmtool.evaluation.figures.samples import CONTACT_SHEET
from mmtool.evaluation.leaks import OF_RUN, Learner, reference_of, refuse_leaks, tokenizers_of
from mmtool.evaluation.made_by import made_by
from mmtool.evaluation.outcomes import MARGINAL, NEAREST
from mmtool.evaluation.reference.cox import C_INDEX, alone
from mmtool.evaluation.reference.data import (
    UPPER_BOUNDS,
    RawTables,
    Reference,
    check_held_out,
    draw_test,
    draw_train,
    open_sides,
    training_set,
)
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.report import write_report
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import USUAL, check_tasks, open_task, possible_tasks
from mmtool.evaluation.tasks.ood import ood_label, ood_shards, read_ood
from mmtool.evaluation.validation import calibrating_set
from mmtool.imputation.calibration import write_calibrations
from mmtool.imputation.chain import ChainedImputer, check_chained
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.survival import check_installed
from mmtool.tokenizers.base import from_bytes
from mmtool.training.run import same_tokenizers


@dataclass(frozen=True)
class EvaluationSummary:
    """report: its directory. rows: one per method, direction and metric. samples: held-out ones used. classifiers: modality -> accuracy of
    its reference classifier on real held-out data. contact_sheet: the picture to look at, None where no samples were to be shown."""

    report: Path
    rows: list[Row]
    samples: int
    classifiers: dict[str, float]
    contact_sheet: Path | None


@one_writer
def evaluate(
    runs: Sequence[Path],
    data: Path,
    output: Path,
    config: EvaluationConfig = DEFAULTS,
    *,
    names: Sequence[str] | None = None,
    train: Path | None = None,
    raw: RawTables | None = None,
    device: str | None = None,
    answered: Answered | None = None,
    force: bool = False,
) -> EvaluationSummary:
    """Measure every run on held-out samples, and write one comparative report.

    data: held-out token set (`shards/test`, or shards holding splits). train: the runs' training set (default: the split `train` beside or
    inside data), on which reference classifiers and baselines are fitted. names: of the runs in the report (default: their methods).
    config.tasks: none stand for `predict` where every run is finetuned, else for `impute`. raw: modality -> key -> row of tables before
    tokenizing: imputed tables are compared with these, and tabular baselines learn from them. answered: what these said in an evaluation
    on the same data, training set, raw tables and config; what they say is added.

    Raises DataError where a run's tokenizers are not those of the data, UsageError where it, a tokenizer or what reference classifiers
    learn from holds any of these samples (see leaks.py).
    """
    ood_data = [Path(config.ood.samples)] if config.ood.samples else []
    place = OutputPath(output, force, [*runs, data, train or training_set(Path(data)), *ood_data])
    place.check_directory()
    check_tasks(config.tasks)
    if config.survival:
        check_installed()
    if not runs:
        raise UsageError("there is no run to evaluate.", where="RUN", fix="Give at least one directory that `mmtool pretrain` wrote.")
    test_set, train_set = open_sides(data, train)
    config.params.check(test_set.tokenizers)
    imputers = _open(runs, names, device)
    for name, imputer in imputers.items():
        for trained_on in imputer.run.data_fingerprints:
            check_held_out(test_set, trained_on, data)
        _same_tokenizers(name, imputer, {"the held-out data": test_set, "the training data": train_set})
    config = _resolved(config, imputers)
    _check_chain(config, imputers)
    test = draw_test(test_set, config.limit, config.seed, complete=config.complete)
    if config.strata:
        check_classes(test, config.strata, "--strata")
    learners = [*_learners(imputers), *tokenizers_of(test_set)]
    refuse_leaks(test, [*learners, reference_of(train_set, test)], data)
    validation = calibrating_set(Path(data), test_set, test, learners, config)
    reference = _reference(test, validation, test_set, train_set, config, raw)
    for judged, tables in reference.told_outright.items():
        log(f"warning: {judged} is a column of {' and '.join(tables)}: what is imputed from there knows it. Tokenize without it.")
    tasks = possible_tasks(config.tasks, reference.label, reference.regression, _offers(config, imputers, reference))
    study = Study(reference, imputers, config, _ood_samples(config, imputers, reference) if "ood" in tasks else None, answered)
    rows = list(_defined(row for name in tasks for row in open_task(name).measure(study)))
    if not rows:
        fix = "Evaluate on samples that have several modalities, or measure what one can show: --task probe, --task ood."
        raise DataError("no held-out sample can be evaluated in any direction.", where=data, fix=fix)
    meta = _meta(study, tasks, {"test": test_set, "train": train_set})
    with place.directory() as folder:
        for write_samples in filter(None, (open_task(name).write_samples for name in tasks)):
            write_samples(folder, study)
        if calibrations := study.calibrations():
            write_calibrations(folder, calibrations)
        write_report(folder, rows, meta)
    sheet = output / CONTACT_SHEET if (output / CONTACT_SHEET).exists() else None
    classifiers = {name: upper_bound["value"] for name, upper_bound in meta["upper_bounds"]["accuracy"].items()}
    return EvaluationSummary(output, rows, len(reference.test), classifiers, sheet)


def _open(runs: Sequence[Path], names: Sequence[str] | None, device: str | None) -> dict[str, Imputer]:
    """The runs by their names in the report."""
    opened = [(path, Imputer.open(path, device=device)) for path in runs]
    return dict(zip(names, (imputer for _, imputer in opened), strict=True)) if names else dict(_named(opened))


def _learners(imputers: Mapping[str, Imputer]) -> list[Learner]:
    return [Learner(f"the run {name}", imputer.training_items, OF_RUN) for name, imputer in imputers.items()]


def _resolved(config: EvaluationConfig, imputers: Mapping[str, Imputer]) -> EvaluationConfig:
    """The config with the tasks that are usual for these runs, and with the label that --ood or the only head names."""
    heads = {imputer.target.label if imputer.target else None for imputer in imputers.values()}
    tasks = config.tasks or (USUAL if None in heads else "predict",)
    predicted = [label for label in heads if label is not None] if set(tasks) == {"predict"} else []
    label = config.label or ood_label(config.ood.samples) or (predicted[0] if len(predicted) == 1 else None)
    return replace(config, tasks=tuple(tasks), label=label)


def _check_chain(config: EvaluationConfig, imputers: Mapping[str, Imputer]) -> None:
    """Raise UsageError for runs that are not there or cannot be chained; those that need no chain are logged."""
    chain = config.impute.chain
    if chain:
        check_chained(chain, {name: imputer.retrieves for name, imputer in imputers.items()}, config.tasks)
    for name in chain:
        chain_of_run, modalities = ChainedImputer(imputers[name]), [modality.name for modality in imputers[name].modalities]
        if not any(chain_of_run.path([given], target) for given, target in permutations(modalities, 2)):
            log(f"{name} is chained nowhere: no two modalities of its training data need a drawn link.")


def _defined(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that have a value; the others are logged as left out."""
    undefined = []
    for row in rows:
        if math.isfinite(row["value"]):
            yield row
        else:
            undefined.append(f"{row['metric']} of {row['target']} from {' and '.join(row['given']) or 'nothing'} ({row['n']} samples)")
    if undefined:
        log(f"left out, as the samples are too few or too alike: {', '.join(dict.fromkeys(undefined))}")


def _reference(
    test: Sequence[Sample],
    validation: Sequence[Sample],
    test_set: TokenSet,
    train_set: TokenSet,
    config: EvaluationConfig,
    raw: RawTables | None,
) -> Reference:
    train = draw_train(train_set, config.seed, config.train_limit)
    tokenizers = {modality.name: from_bytes(test_set.tokenizers[modality.name]) for modality in test_set.modalities}
    log(f"imputing {len(test)} held-out samples; reference classifiers and baselines learn from {len(train)} training samples")
    sides = DecodedSamples(test, tokenizers), DecodedSamples(train, tokenizers)
    calibrating = DecodedSamples(validation, tokenizers) if validation else None
    graph = CoOccurrence.of(train_set.present(i) for i in range(len(train_set)))
    label = choose_label(test, config.label, config.survival or ())
    return Reference(*sides, tokenizers, graph, label, config.seed, raw, config.survival, calibrating, config.strata)


def _offers(config: EvaluationConfig, imputers: Mapping[str, Imputer], reference: Reference) -> list[str]:
    """What tasks may need (see `tasks.NEEDS`) and is there."""
    offers = {
        "head": any(imputer.target for imputer in imputers.values()),
        "masks": any(imputer.reconstructs for imputer in imputers.values()),
        "ood_samples": bool(config.ood.samples or reference.classes),
    }
    return [name for name, offered in offers.items() if offered]


def _ood_samples(config: EvaluationConfig, imputers: Mapping[str, Imputer], reference: Reference) -> list[Sample] | None:
    """Samples of the shards that --ood names, made by the same tokenizers; None where it names none."""
    named = config.ood.samples
    shards = ood_shards(named, config.limit, config.seed)
    if shards:
        for imputer in imputers.values():
            same_tokenizers(imputer.run, shards[0], f"--ood {named}")
        refuse_leaks(shards[1], [*_learners(imputers), *tokenizers_of(shards[0])], Path(str(named)))
    read_ood(named, reference, shards[1] if shards else None)
    return shards[1] if shards else None


def _named(opened: Sequence[tuple[Path, Imputer]]) -> Iterator[tuple[str, Imputer]]:
    """A short name for each run: its method, with the seed or the folder where several runs have one method."""
    methods = Counter(imputer.method for _, imputer in opened)
    seeds = Counter((imputer.method, imputer.seed) for _, imputer in opened)
    for path, imputer in opened:
        if methods[imputer.method] == 1:
            yield imputer.method, imputer
        elif seeds[imputer.method, imputer.seed] == 1:
            yield f"{imputer.method} (seed {imputer.seed})", imputer
        else:
            yield f"{imputer.method} ({path})", imputer


def _same_tokenizers(name: str, imputer: Imputer, sides: Mapping[str, TokenSet]) -> None:
    trained = {modality.name: modality.tokenizer for modality in imputer.modalities}
    for side, tokens in sides.items():
        present = {modality.name: modality.tokenizer for modality in tokens.modalities}
        for modality in sorted(trained.keys() | present.keys()):
            ours, theirs = (prints.get(modality, "absent")[:12] for prints in (trained, present))
            if ours != theirs:
                what = f"the tokenizer of {modality!r} differs: {ours} in the run {name}, {theirs} in {side}."
                raise DataError(what, where=name, fix="Evaluate a run on shards made with the tokenizers it was trained with.")


def _meta(study: Study, tasks: Sequence[str], sides: Mapping[str, TokenSet]) -> dict[str, Any]:
    """What the rows of the report rest on."""
    reference = study.reference
    metrics = {metric for name in tasks for metric in open_task(name).upper_bounds}
    upper_bounds = {metric: reference.upper_bounds(metric) if metric in metrics else {} for metric in UPPER_BOUNDS}
    models = reference.cox_models if C_INDEX in metrics else None
    return {
        "data": {side: tokens.fingerprint for side, tokens in sides.items()},
        "tasks": list(tasks),
        "runs": [{"name": name, "method": imputer.method, "seed": imputer.seed} for name, imputer in study.imputers.items()],
        "baselines": [MARGINAL, NEAREST, *TABULAR_NAMES, *([alone(reference.strata)] if models and models.rates_strata else [])],
        "label": reference.label,
        "classes": reference.classes,
        "upper_bounds": {metric: {name: asdict(bound) for name, bound in bounds.items()} for metric, bounds in upper_bounds.items()},
        "raw_tables": sorted(reference.raw),
        "told_outright": reference.told_outright,
        "samples": {
            "test": len(reference.test),
            "train": len(reference.train),
            **({"validation": len(reference.validation)} if reference.validation else {}),
        },
        "presence": {side: CoOccurrence.of(tokens.present(i) for i in range(len(tokens))).to_json() for side, tokens in sides.items()},
        "tokenizers": {modality.name: modality.tokenizer for modality in sides["test"].modalities},
        "trained": {name: imputer.provenance for name, imputer in study.imputers.items()},
        "made": made_by(),
        "config": asdict(study.config),
    }
