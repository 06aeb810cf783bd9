"""Methods and seeds of adaptation in one call: train each, measure each at every missing rate, average over seeds, one report.

OUT/comparison.json          format, fingerprint of the data
OUT/runs/NAME/seed-S/        adapters; a finished one is kept and used again, an interrupted one continues
OUT/report.json              {"format", "meta", "rows": averaged, "results": rows of every seed}
OUT/report.md, curves.png
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mmtool.adaptation.adapter import options_for, read_record
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.evaluate import evaluated_samples, measure_adapters, report_meta
from mmtool.adaptation.measure import MISSING_RATES, MeasureOptions
from mmtool.adaptation.report import write_report
from mmtool.adaptation.train import adapt
from mmtool.common.errors import UsageError
from mmtool.common.lock import one_writer
from mmtool.common.output import OutputPath, begin_or_continue
from mmtool.data.held_out import open_held_out
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.encoders import training_items_of
from mmtool.evaluation.leaks import OF_RUN, Learner, reference_of, refuse_leaks, tokenizers_of
from mmtool.evaluation.study import Row
from mmtool.metrics.seeds import over_seeds
from mmtool.training.side_by_side import train_all

COMPARISON, COMPARISON_FORMAT = "comparison.json", "mmtool-adapter-comparison/1"
INTERVALS = " (over seeds by Student's t; over samples where there is one seed)"


@dataclass(frozen=True)
class AdapterComparison:
    """report: the directory. rows: averaged over seeds; results: of every seed; runs: all adapters, trained now or before."""

    report: Path
    rows: list[Row]
    results: list[Row]
    runs: list[Path] = field(default_factory=list)


@one_writer
def compare_adapters(
    variants: Mapping[str, AdaptConfig],
    seeds: Sequence[int],
    sources: Mapping[str, Path],
    data: Path,
    output: Path,
    *,
    split: str | None = None,
    missing_rates: Sequence[float] = MISSING_RATES,
    limit: int | None = None,
    candidates: int = 100,
    seed: int = 0,
    jobs: int = 1,
    force: bool = False,
) -> AdapterComparison:
    """Adapt the same encoders in every variant (name -> settings) with every seed, and measure all on one held-out split.

    The same command continues an interrupted comparison; variants and seeds may be added. Raises UsageError where nothing is to compare.
    jobs: trainings side by side.
    """
    if not variants or not seeds:
        raise UsageError("there is nothing to compare.", where="--methods/--seeds", fix="Name at least one method and one seed.")
    for config in variants.values():
        options_for(config)
        config.modalities(tuple(sources))
    tokens = open_held_out(data, split)
    _refuse_leaks(tokens, sources, next(iter(variants.values())), limit, data)
    place = OutputPath(output, force, [*sources.values(), data])
    begin_or_continue(place, COMPARISON, {"format": COMPARISON_FORMAT, "data": tokens.fingerprint})
    runs = {(name, number): output / "runs" / name.replace(":", "-") / f"seed-{number}" for number in seeds for name in variants}
    trainings = {
        f"{name}, seed {number} ({count}/{len(runs)})": partial(
            adapt, replace(variants[name], seed=number), sources, data, path, force=force
        )
        for count, ((name, number), path) in enumerate(runs.items(), 1)
    }
    train_all(trainings, jobs)
    options, paths = MeasureOptions(tuple(missing_rates), limit, candidates, seed), list(runs.values())
    results, samples = measure_adapters([(name, path) for (name, _), path in runs.items()], tokens, options, data, sources)
    rows = over_seeds(results)
    meta = report_meta(next(iter(variants.values())), read_record(paths[0]), samples, tokens)
    columns = [{"name": name, "method": variants[name].method, "seeds": list(seeds)} for name in variants]
    sizes = {name: {key: read_record(runs[name, seeds[0]])[key] for key in ("trained", "share", "bytes")} for name in variants}
    write_report(output, rows, {**meta, "runs": columns, "sizes": sizes, "intervals": INTERVALS}, results=results)
    return AdapterComparison(output, rows, results, paths)


def _refuse_leaks(tokens: TokenSet, sources: Mapping[str, Path], config: AdaptConfig, limit: int | None, data: Path) -> None:
    """Before hours of training, raise UsageError where held-out samples would be trained on, or were by encoders or tokenizers."""
    samples = evaluated_samples(tokens, tuple(sorted(sources)), config, limit).samples
    encoders = [Learner(f"the encoder of {name}", training_items_of(source), OF_RUN) for name, source in sorted(sources.items())]
    adapters = reference_of(open_token_set(data, split="train"), samples, "the adapters", OF_RUN)
    refuse_leaks(samples, [adapters, *encoders, *tokenizers_of(tokens)], data)
