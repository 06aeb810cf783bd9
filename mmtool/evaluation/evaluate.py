"""The stage `evaluate`: how well runs fill every hole, against each other, trivial baselines and the upper bound of real data."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.data.graph import CoOccurrence
from mmtool.data.labels import choose_label
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.evaluation.baselines.tables import TABULAR_NAMES
from mmtool.evaluation.figures.reconstruction_sheet import write_sheets
from mmtool.evaluation.leaks import OF_RUN, Learner, reference_of, refuse_leaks, tokenizers_of
from mmtool.evaluation.outcomes import MARGINAL, NEAREST, Settings
from mmtool.evaluation.reference.data import (
    POOL_PER_COMBINATION,
    RawTables,
    Reference,
    Survival,
    check_held_out,
    draw_test,
    draw_train,
    open_sides,
    training_set,
)
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.report import CONTACT_SHEET, write_report
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import TASKS, check_tasks, possible_tasks
from mmtool.evaluation.tasks.ood import asked_label, find_ood, other_shards
from mmtool.evaluation.tasks.prediction import write_predictions
from mmtool.impute.chain import ChainedImputer, check_chained
from mmtool.impute.imputer import Imputer
from mmtool.impute.sampling_params import PLAIN, SamplingParams
from mmtool.tokenizers.base import from_bytes
from mmtool.training.run import same_tokenizers


@dataclass(frozen=True)
class EvaluationSummary:
    """report: its directory. rows: one per method, direction and metric. samples: held-out ones used. classifiers: modality -> accuracy on
    real held-out data. contact_sheet: the picture to look at, None where no samples were to be shown."""

    report: Path
    rows: list[dict[str, Any]]
    samples: int
    classifiers: dict[str, float]
    contact_sheet: Path | None


def evaluate(
    runs: Sequence[Path],
    data: Path,
    output: Path,
    *,
    tasks: Sequence[str] = (),
    names: Sequence[str] | None = None,
    train: Path | None = None,
    label: str | None = None,
    limit: int | None = 1000,
    draws: int = 1,
    params: SamplingParams = PLAIN,
    contact_samples: int = 10,
    candidates: int = 100,
    donors: int = 256,
    chain: Sequence[str] = (),
    ood: str | None = None,
    mask_ratio: float | None = None,
    train_limit: int = POOL_PER_COMBINATION,
    raw: RawTables | None = None,
    survival: Survival = None,
    seed: int = 0,
    device: str | None = None,
    force: bool = False,
) -> EvaluationSummary:
    """Measure every run on held-out samples, and write one comparative report.

    tasks: of the table TASKS, or `all`; none: `predict` where every run is finetuned, else `impute`. names: of the runs in the report
    (default: their methods). data: held-out token set (`shards/test`, or shards holding splits); train: the runs' training set (default:
    the split `train` beside or inside data), on which reference classifiers and baselines are fitted. label: what classifiers predict
    (default: the only categorical label). limit: held-out samples used at most; train_limit: training samples of each combination of
    modalities that classifiers, probes and baselines learn from; candidates: in a retrieval; donors: real samples to fill
    holes from. chain: names of runs that the task `impute` also asks link by link (see chain.py).
    ood: which samples are out of distribution (see tasks/ood.py). raw: modality -> key -> row of tables before tokenizing: imputed
    tables are compared with these, and tabular baselines learn from them. survival: labels that hold a time and its event (0 or 1).

    Raises DataError where a run's tokenizers are not those of the data, UsageError where it, a tokenizer or what reference classifiers
    learn from holds any of these samples (see leaks.py).
    """
    place = OutputPath(output, force, [*runs, data, train or training_set(Path(data)), *([Path(ood)] if ood else [])])
    place.check_directory()
    check_tasks(tasks)
    if not runs:
        raise UsageError("there is no run to evaluate.", where="RUN", fix="Give at least one directory that `mmtool pretrain` wrote.")
    test_set, train_set = open_sides(data, train)
    params.check(test_set.tokenizers)
    opened = [(path, Imputer.open(path, device=device)) for path in runs]
    imputers = dict(zip(names, (imputer for _, imputer in opened), strict=True)) if names else dict(_named(opened))
    for name, imputer in imputers.items():
        check_held_out(test_set, imputer.trained_on, data)
        _same_tokenizers(name, imputer, {"the held-out data": test_set, "the training data": train_set})
    heads = {imputer.target.label for imputer in imputers.values() if imputer.target}
    tasks = tasks or ("predict" if all(imputer.target for imputer in imputers.values()) else "impute",)
    _check_chain(chain, imputers, tasks)
    label = label or asked_label(ood) or (heads.pop() if len(heads) == 1 and set(tasks) == {"predict"} else None)
    test = draw_test(test_set, limit, seed)
    runs_of = [Learner(f"the run {name}", imputer.training_items, OF_RUN) for name, imputer in imputers.items()]
    refuse_leaks(test, [*runs_of, *tokenizers_of(test_set), reference_of(train_set, test)], data)
    reference = _reference(test, test_set, train_set, label, train_limit, seed, raw, survival)
    there = {
        "head": any(imputer.target for imputer in imputers.values()),
        "masks": any(imputer.reconstructs for imputer in imputers.values()),
        "ood_samples": bool(ood or reference.classes),
    }
    chosen = possible_tasks(tasks, reference.label, reference.regression, [offer for offer, offered in there.items() if offered])
    others = _others(ood, imputers, reference, limit, seed) if "ood" in chosen else None
    study = Study(
        reference,
        imputers,
        Settings(draws, params, seed, contact_samples, candidates, ood, mask_ratio, train_limit, donors, tuple(chain)),
        others,
    )
    rows = list(_defined(row for name in chosen for row in TASKS[name].measure(study)))
    if not rows:
        fix = "Evaluate on samples that have several modalities or a label."
        raise DataError("no held-out sample can be judged in any direction.", where=data, fix=fix)
    meta = _meta(study, chosen, {"test": test_set, "train": train_set})
    with place.directory() as folder:
        if "reconstruct" in chosen:
            write_sheets(folder, study)
        write_report(folder, rows, meta, study.outcomes if "impute" in chosen else (), reference)
        if "predict" in chosen:
            write_predictions(folder, study)
    sheet = output / CONTACT_SHEET if (output / CONTACT_SHEET).exists() else None
    classifiers = {name: judge["value"] for name, judge in meta["classifiers"].items()}
    return EvaluationSummary(output, rows, len(reference.test), classifiers, sheet)


def _check_chain(chain: Sequence[str], imputers: Mapping[str, Imputer], tasks: Sequence[str]) -> None:
    """Raise UsageError for runs that are not there or cannot be chained; of those that need no chain it is said."""
    if chain:
        check_chained(chain, {name: imputer.retrieves for name, imputer in imputers.items()}, tasks)
    for name in chain:
        asked, names = ChainedImputer(imputers[name]), [modality.name for modality in imputers[name].modalities]
        if not any(asked.path([given], target) for given, target in permutations(names, 2)):
            log(f"{name} is chained nowhere: no two modalities of its training data need a drawn link.")


def _defined(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that have a value; of the others it is said that they are left out."""
    undefined = []
    for row in rows:
        if math.isfinite(row["value"]):
            yield row
        else:
            undefined.append(f"{row['metric']} of {row['target']} from {' and '.join(row['given']) or 'nothing'} ({row['n']} samples)")
    if undefined:
        log(f"left out, the samples being too few or too alike to tell: {', '.join(dict.fromkeys(undefined))}")


def _reference(
    test: Sequence[Sample],
    test_set: TokenSet,
    train_set: TokenSet,
    label: str | None,
    train_limit: int,
    seed: int,
    raw: RawTables | None,
    survival: Survival,
) -> Reference:
    train = draw_train(train_set, seed, train_limit)
    tokenizers = {modality.name: from_bytes(test_set.tokenizers[modality.name]) for modality in test_set.modalities}
    log(f"judging by {len(train)} training samples; imputing {len(test)} held-out samples")
    sides = DecodedSamples(test, tokenizers), DecodedSamples(train, tokenizers)
    graph = CoOccurrence.of(train_set.present(i) for i in range(len(train_set)))
    return Reference(*sides, tokenizers, graph, choose_label(test, label), seed, raw, survival)


def _others(ood: str | None, imputers: Mapping[str, Imputer], reference: Reference, limit: int | None, seed: int) -> list[Sample] | None:
    """Samples of the shards that `ood` names, made by the same tokenizers; None where it names none."""
    found = other_shards(ood, limit, seed)
    if found:
        for imputer in imputers.values():
            same_tokenizers(imputer.run, found[0], f"--ood {ood}")
    find_ood(ood, reference, found[1] if found else None)
    return found[1] if found else None


def _named(opened: Sequence[tuple[Path, Imputer]]) -> Iterator[tuple[str, Imputer]]:
    """A short name for each run: its method, with the seed or the folder where that is needed to tell runs apart."""
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
        given = {modality.name: modality.tokenizer for modality in tokens.modalities}
        for modality in sorted(trained.keys() | given.keys()):
            ours, theirs = (prints.get(modality, "absent")[:12] for prints in (trained, given))
            if ours != theirs:
                what = f"the tokenizer of {modality!r} differs: {ours} in the run {name}, {theirs} in {side}."
                raise DataError(what, where=name, fix="Evaluate a run on shards made with the tokenizers it was trained with.")


def _meta(study: Study, tasks: Sequence[str], sides: Mapping[str, TokenSet]) -> dict[str, Any]:
    """What the rows of the report rest on."""
    reference = study.reference
    judged = reference.upper_bounds if {"impute", "confidence", "donors"} & set(tasks) else {}
    risks = reference.risks.upper_bounds if reference.risks and {"impute", "donors"} & set(tasks) else {}
    return {
        "data": {side: tokens.fingerprint for side, tokens in sides.items()},
        "tasks": list(tasks),
        "runs": [{"name": name, "method": imputer.method, "seed": imputer.seed} for name, imputer in study.imputers.items()],
        "baselines": [MARGINAL, NEAREST, *TABULAR_NAMES],
        "label": reference.label,
        "classes": reference.classes,
        "classifiers": {name: asdict(upper_bound) for name, upper_bound in judged.items()},
        "risks": {name: asdict(upper_bound) for name, upper_bound in risks.items()},
        "truth": sorted(reference.raw),
        "samples": {"test": len(reference.test), "train": len(reference.train)},
        "settings": asdict(study.settings),
    }
