"""The stage `evaluate` for adapters: robustness curves and retrieval of one or more adapters on one held-out set, in one report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmtool.adaptation.adapter import open_adapter, read_record, training_items
from mmtool.adaptation.batches import LabelledSamples, labelled_samples
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.measure import MISSING_RATES, MeasureOptions, retrieval_rows, robustness_rows
from mmtool.adaptation.report import write_report
from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.data.held_out import open_held_out
from mmtool.data.shards import TokenSet
from mmtool.evaluation.leaks import OF_RUN, Learner, refuse_leaks, tokenizers_of
from mmtool.evaluation.reference.data import check_held_out
from mmtool.evaluation.study import Row
from mmtool.training.config import check_as
from mmtool.training.hardware import pick_device


@dataclass(frozen=True)
class AdapterEvaluation:
    """report: its directory; rows: one per adapter, metric, missing modality and rate; samples: held-out ones used."""

    report: Path
    rows: list[Row]
    samples: int


@one_writer
def evaluate_adapters(
    adapters: Sequence[Path],
    data: Path,
    output: Path,
    *,
    names: Sequence[str] | None = None,
    sources: Mapping[str, Path] | None = None,
    missing_rates: Sequence[float] = (),
    limit: int | None = None,
    candidates: int = 100,
    seed: int = 0,
    force: bool = False,
) -> AdapterEvaluation:
    """Measure adapters on held-out samples. data: a split, or a shards directory (its test split). names: of the adapters in the report
    (default: their methods). missing_rates: shares of samples that lose modalities (none: from 0 to 1). limit: samples at most.

    Raises UsageError where adapters were made for different labels, or trained on these very samples.
    """
    records = [read_record(path) for path in adapters]
    encoders = [Path(encoder["source"]) for record in records for encoder in record["encoders"].values()]
    place = OutputPath(output, force, [*adapters, data, *encoders, *(sources or {}).values()])
    place.check_directory()
    tokens = open_held_out(data)
    for record in records:
        check_held_out(tokens, record["data"], data)
    configs = [check_as(AdaptConfig, record["config"]) for record in records]
    if len({(config.target, record["task"]["kind"]) for config, record in zip(configs, records, strict=True)}) > 1:
        raise UsageError("the adapters predict different labels.", where="RUN", fix="Evaluate adapters of one label together.")
    run_names = list(names) if names else unique_names(configs)
    options = MeasureOptions(tuple(missing_rates) or MISSING_RATES, limit, candidates, seed)
    rows, samples = measure_adapters(list(zip(run_names, adapters, strict=True)), tokens, options, data, sources)
    with place.directory() as folder:
        runs = [{"name": name, "method": config.method, "seed": config.seed} for name, config in zip(run_names, configs, strict=True)]
        write_report(folder, rows, {**report_meta(configs[0], records[0], samples, tokens), "runs": runs})
    return AdapterEvaluation(output, rows, samples)


def measure_adapters(
    adapters: Sequence[tuple[str, Path]], tokens: TokenSet, options: MeasureOptions, where: Path, sources: Mapping[str, Path] | None
) -> tuple[list[Row], int]:
    """Rows of all adapters (name and path) on the same held-out samples, and how many of these there are.

    where: the samples lie. Raises UsageError where an adapter, one of its encoders or a tokenizer was trained on any of them.
    """
    device, samples = pick_device(), 0
    rows: list[Row] = []
    for name, path in adapters:
        adapter = open_adapter(path, tokens.tokenizers, device, sources)
        held_out = evaluated_samples(tokens, adapter.names, adapter.config, options.limit)
        learner = Learner(f"the adapter {name} or its encoders", training_items(path), OF_RUN)
        refuse_leaks(held_out.samples, [learner, *tokenizers_of(tokens)], where)
        samples = len(held_out.samples)
        log(f"{name}: measuring on {samples} held-out samples")
        rows += robustness_rows(adapter, name, held_out, device, options)
        rows += retrieval_rows(adapter, name, held_out, device, options)
        del adapter
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if not rows:
        raise DataError("no held-out sample can be scored.", where="DATA", fix="Evaluate on samples that carry the label.")
    return rows, samples


def evaluated_samples(tokens: TokenSet, names: Sequence[str], config: AdaptConfig, limit: int | None) -> LabelledSamples:
    """The samples that are measured on: those that hold every modality, so that the missing rate is what it says; where there are none,
    all samples."""
    complete = any(set(names) <= set(tokens.present(i)) for i in range(len(tokens)))
    return labelled_samples(tokens, names, config, limit or 0, complete_only=complete)


def unique_names(configs: Sequence[AdaptConfig]) -> list[str]:
    """The methods, with the seed where that is needed to tell adapters apart, else with a number."""
    methods = [config.method for config in configs]
    named = [config.method if methods.count(config.method) == 1 else f"{config.method} (seed {config.seed})" for config in configs]
    return [name if named.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(named, 1)]


def report_meta(config: AdaptConfig, record: Mapping[str, Any], samples: int, tokens: TokenSet) -> dict[str, Any]:
    """What the rows of a report rest on."""
    protocol = {name: getattr(config, name) for name in ("missing_rate", "num_missing", "missing_seed")}
    return {
        "label": config.target,
        "kind": record["task"]["kind"],
        "modalities": list(record["encoders"]),
        "samples": {"test": samples},
        "trained_with": {**protocol, "missing": list(config.missing)},
        "data": {"test": tokens.fingerprint},
        "baselines": [],
    }
