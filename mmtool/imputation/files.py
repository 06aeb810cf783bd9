"""Imputation into files: what samples lack, written as what it is (PNG, WAV, TXT, CSV, NPZ), and how much to trust it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmtool import __version__
from mmtool.common.errors import UsageError
from mmtool.common.listing import write_listing
from mmtool.common.lock import one_writer
from mmtool.common.log import log, track
from mmtool.common.output import OutputPath
from mmtool.common.storage import write_bytes
from mmtool.data.sample import Sample
from mmtool.data.shard_format import file_stem
from mmtool.imputation.annotated import annotated, file_of, require_library, write_annotated
from mmtool.imputation.calibration import OPTION, Calibration, calibration_of, key_of
from mmtool.imputation.chain import refuse_calibrated
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.imputer import BATCH_ROWS, Imputation, Imputer
from mmtool.imputation.jobs import Jobs, chosen_of, jobs_of, run_job
from mmtool.imputation.probability import ProbabilityCurve
from mmtool.imputation.sampling_params import PLAIN
from mmtool.imputation.tables import QUANTILES, mean_values, quantile_rows, table_layers, warn_of_few_draws
from mmtool.tokenizers.base import RowWriter, Tokenizer, ValueCodes
from mmtool.training.target import Target


@dataclass(frozen=True)
class ImputeSummary:
    """samples: with an imputed modality; skipped: the others, of which `complete` lack nothing. imputed: modality -> how many."""

    output: str
    samples: int
    skipped: int
    imputed: dict[str, int]
    complete: int = 0


@one_writer
def impute_files(
    run: Path, data: Sequence[Sample], output: Path, options: ImputeOptions, *, force: bool = False, inputs: Sequence[Path | None] = ()
) -> ImputeSummary:
    """Impute missing modalities and write them as real files: `MODALITY/KEY.png|wav|txt|npz` (see `file_stem`) and `imputed.jsonl`.

    Tables are one `MODALITY.csv` of expected values; with several draws also `MODALITY.q05.csv` (and q25, q50, q75, q95), the bounds
    below which a value lies with that probability; `options.calibration` corrects them. Of columns with categories the most probable ones
    are written, and all probabilities into `MODALITY.probabilities.csv`. With `options.format` they are one `MODALITY.h5ad` each, or all
    one `imputed.h5mu`, the bounds in layers and the run in `uns`.

    Of a finetuned run, what may also be wanted is its label: `LABEL.csv` holds the prediction for every sample, with the probability of
    each class.

    Each line of imputed.jsonl names key, modality, what it was imputed from and through, file, and per draw the log-likelihood and
    consistency (mean nats per token), the best draw first; where it comes from donors, their keys and how probable each is among all
    of them. With `options.calibration`, of tables how many validation samples correct their bounds (0: none, they stay as drawn); of
    everything else how probable it is that each draw is right (None where too few validation samples tell), and by how many of them.
    inputs: where the samples come from. Raises UsageError where nothing can be imputed, or where `force` would replace an input.
    """
    place = OutputPath(output, force, [run, *inputs, Path(options.calibration) if options.calibration else None])
    place.check_directory()
    require_library(options.format)
    if options.donors is not None and options.draws >= options.max_donors:
        what = f"{options.draws} of {options.max_donors} donors cannot be chosen."
        raise UsageError(what, where="--draws/--max-donors", fix="Ask for fewer draws than donors.")
    if options.donors is not None and (options.params != PLAIN or not options.consistency or options.calibration or options.chain):
        fix = "Leave out --temperature, --top-k, --guidance, --chain, --calibration and --no-confidence."
        raise UsageError("donors are chosen, not drawn.", where="--donors", fix=fix)
    refuse_calibrated(options.chain, options.calibration)
    imputer = Imputer.open(run)
    options.params.check(imputer.tokenizers)
    chosen = chosen_of(data, options) if options.limit else data
    if imputer.target and options.want == (imputer.target.label,):
        if options.format != "csv":
            raise UsageError("predicted labels are written as CSV.", where="--format", fix="Leave it out.")
        if options.donors is not None:
            raise UsageError("a label is predicted, not taken from donors.", where="--donors", fix="Leave it out, or want a modality.")
        return _predict_label(imputer, imputer.target, chosen, place, options)
    jobs = jobs_of(imputer, chosen, options)
    calibration = _opened_calibration(imputer, jobs, options)
    if options.format != "csv" and jobs and not any(isinstance(imputer.tokenizers[want], RowWriter) for _, want in jobs):
        raise UsageError("nothing that is imputed is a table.", where="--format", fix="Leave it out.")
    if not jobs:
        raise UsageError(
            f"none of the {len(chosen)} samples has what is asked for."
            if options.have or options.want
            else f"none of the {len(chosen)} samples lacks a modality that the run knows.",
            where="--have/--want",
            fix=f"Samples hold {', '.join(sorted({name for sample in chosen for name in sample.tokens})) or 'nothing'}.",
        )
    imputed: dict[str, list[Imputed]] = defaultdict(list)
    for (have, want), samples in track(sorted(jobs.items()), "imputing"):
        imputations = run_job(imputer, samples, have, want, options)
        imputed[want] += [Imputed(sample.key, have, imputation) for sample, imputation in zip(samples, imputations, strict=True)]
    with place.directory() as folder:
        _write(imputer, imputed, folder, options, calibration)
    used = {value.key for values in imputed.values() for value in values}
    counts = {want: len(values) for want, values in imputed.items()}
    return ImputeSummary(str(output), len(used), len(chosen) - len(used), counts, _num_complete(imputer, chosen, options))


def _opened_calibration(imputer: Imputer, jobs: Jobs, options: ImputeOptions) -> Calibration | None:
    """The calibration that is asked for. Raises UsageError where it is of another run, of other draws, or of nothing that is imputed."""
    if options.calibration is None:
        return None
    calibration = calibration_of(Path(options.calibration), imputer.weights)
    calibration.check(options.params)
    tables = any(isinstance(imputer.tokenizers[want], ValueCodes) for _, want in jobs)
    if tables:
        calibration.check_bounds(options.draws, QUANTILES)
    if jobs and not tables and not any(key_of(*job) in calibration.curves for job in jobs):
        what = f"the report tells no probability of {' or '.join(sorted({want for _, want in jobs}))} from what is given."
        fix = "Evaluate with --task confidence, beside labelled validation samples, or leave it out."
        raise UsageError(what, where=OPTION, fix=fix)
    return calibration


def _num_complete(imputer: Imputer, samples: Sequence[Sample], options: ImputeOptions) -> int:
    """How many samples lack nothing that could be imputed; none where modalities are wanted by name, which real ones may stand beside."""
    if options.want and not options.only_missing:
        return 0
    names = set(options.want) or {modality.name for modality in imputer.modalities}
    return sum(names <= set(sample.tokens) for sample in samples)


def _predict_label(
    imputer: Imputer, target: Target, samples: Sequence[Sample], output: OutputPath, options: ImputeOptions
) -> ImputeSummary:
    have = options.have or target.have
    seen = [sample for sample in samples if set(have) & set(sample.tokens)]
    if not seen:
        raise UsageError(f"none of the {len(samples)} samples holds {' or '.join(have)}.", where="--have", fix="Give what they hold.")
    table = f"{file_stem(target.label)}.csv"
    lines = [
        {"modality": target.label, "key": sample.key, "given": [name for name in have if name in sample.tokens], "files": [table]}
        for sample in seen
    ]
    with output.directory() as partial:
        write_bytes(partial / table, target.csv(seen, imputer.predict(seen, have)))
        write_listing(partial, lines)
    return ImputeSummary(str(output.path), len(seen), len(samples) - len(seen), {target.label: len(seen)})


@dataclass(frozen=True)
class Imputed:
    """One imputed modality of a sample: the sample's key, the modalities it was imputed from, and the draws."""

    key: str
    given: tuple[str, ...]
    imputation: Imputation

    def ranked(self) -> list[np.ndarray]:
        """The draws, the most trusted first."""
        return [self.imputation.tokens[draw] for draw in self.imputation.best_first()]

    def to_json(self) -> dict[str, Any]:
        order, back = self.imputation.best_first(), self.imputation.consistency
        likely = [self.imputation.log_likelihood[draw] for draw in order]
        return {
            "key": self.key,
            "given": list(self.given),
            "log_likelihood": likely,
            "consistency": [back[draw] for draw in order] if back else None,
            **({"donors": [donors[draw] for draw in order]} if (donors := self.imputation.donors) else {}),
            **({"through": list(self.imputation.through)} if self.imputation.through else {}),
        }

    def probabilities(self, curve: ProbabilityCurve | None) -> dict[str, Any]:
        """How probable it is that each draw is right, the most trusted first, and to how many samples that was fitted."""
        if curve is None:
            return {"probability": None, "probability_fitted_on": 0}
        _, scores = self.imputation.score()
        told = curve([scores[draw] for draw in self.imputation.best_first()])
        return {"probability": told.tolist(), "probability_fitted_on": curve.samples}


def _write(
    imputer: Imputer, imputed: Mapping[str, Sequence[Imputed]], folder: Path, options: ImputeOptions, calibration: Calibration | None
) -> None:
    """All files: values, and what is known of them."""
    tables, records = {}, []
    for want, values in imputed.items():
        tokenizer = imputer.tokenizers[want]
        if options.format != "csv" and isinstance(tokenizer, RowWriter):
            tables[want] = _annotated(imputer, want, values, options, calibration)
            written: Iterator[list[str]] = iter([[file_of(want, options.format)]] * len(values))
        else:
            written = track(_write_values(tokenizer, folder, want, values, calibration), want, len(values))
        known = _calibrated(tokenizer, want, values, calibration)
        described = [{"modality": want, **value.to_json(), **of_value} for value, of_value in zip(values, known, strict=True)]
        records += [{**record, "files": files} for record, files in zip(described, written, strict=True)]
    if tables and options.format != "csv":
        write_annotated(tables, folder, options.format)
    write_listing(folder, records)


def _calibrated(tokenizer: Tokenizer, want: str, imputed: Sequence[Imputed], calibration: Calibration | None) -> list[dict[str, Any]]:
    """Of each imputed table row, how many validation samples correct its bounds; of anything else, how probable it is that each draw is
    right, the best first; nothing where no calibration is asked for."""
    if calibration is None:
        return [{}] * len(imputed)
    if isinstance(tokenizer, ValueCodes):
        return [{"bounds_corrected_on": calibration.samples(value.given, want)} for value in imputed]
    curves = [calibration.curve(value.given, want, value.imputation) for value in imputed]
    for given in dict.fromkeys(value.given for value, curve in zip(imputed, curves, strict=True) if curve is None):
        log(f"{want} from {' and '.join(given)} has no probability of being right: no validation samples told it for such draws")
    return [value.probabilities(curve) for value, curve in zip(imputed, curves, strict=True)]


def _annotated(imputer: Imputer, want: str, imputed: Sequence[Imputed], options: ImputeOptions, calibration: Calibration | None) -> Any:
    """An imputed table with its layers; the columns of its observations hold what imputed.jsonl does of the best draw."""
    tokenizer: Any = imputer.tokenizers[want]
    others = [name for name in tokenizer.features if name in tokenizer.types]
    if others:
        what = f"{options.format} holds numbers only, and columns of {want} are something else: {', '.join(map(repr, others))}."
        raise UsageError(what, where="--format", fix="Leave it out for CSV.")
    layers = {name if not name.isdigit() else f"draw_{name}": rows for name, rows in _layers(tokenizer, want, imputed, calibration).items()}
    known, calibrated = [value.to_json() for value in imputed], _calibrated(tokenizer, want, imputed, calibration)
    columns = {
        "imputed_from": ["+".join(value.given) for value in imputed],
        **{name: [record[name] and record[name][0] for record in known] for name in ("log_likelihood", "consistency")},
        **(
            {"imputed_through": ["+".join(value.imputation.through) for value in imputed]}
            if any(value.imputation.through for value in imputed)
            else {}
        ),
        **({"donor": [record["donors"][0] for record in known]} if "donors" in known[0] else {}),
        **{name: [_of_best(record[name]) for record in calibrated] for name in calibrated[0]},
    }
    run = {"run": str(imputer.run.path), "method": imputer.method, "trained_on": imputer.trained_on, "version": __version__}
    record = {**run, "modality": want, "draws": options.draws, "seed": options.seed}
    return annotated(layers.pop(""), layers, [value.key for value in imputed], tokenizer.features, columns, record)


def _layers(tokenizer: Any, want: str, imputed: Sequence[Imputed], calibration: Calibration | None) -> dict[str, np.ndarray]:
    """Rows of a table: means under the name "" and quantiles, or of donors those of each rank, the best under the name ""."""
    if not imputed[0].imputation.donors and isinstance(tokenizer, ValueCodes):
        draws = len(imputed[0].imputation.tokens)
        if draws > 1:
            warn_of_few_draws(want, draws)
        given = [value.given for value in imputed]
        quantiles = quantile_rows if calibration is None else partial(calibration.quantile_rows, given, want)
        imputations = [value.imputation for value in imputed]
        return table_layers(tokenizer, [known.tokens for known in imputations], [known.expected for known in imputations], quantiles)
    ranks = zip(*(tokenizer.decode(value.ranked()) for value in imputed), strict=True)
    return {str(rank) if rank else "": np.stack(rows) for rank, rows in enumerate(ranks)}


def _write_values(
    tokenizer: Tokenizer, folder: Path, want: str, imputed: Sequence[Imputed], calibration: Calibration | None
) -> Iterator[list[str]]:
    """Decode and write all draws, batch by batch; gives the files of each imputed modality, the most trusted draw first.

    Tables go into one CSV for each of their layers, everything else into one file per draw.
    """
    if isinstance(tokenizer, RowWriter):
        paths = _write_tables(tokenizer, folder, want, imputed, calibration)
        yield from ([path.name for path in paths] for _ in imputed)
        return
    for start in range(0, len(imputed), BATCH_ROWS):
        batch = imputed[start : start + BATCH_ROWS]
        decoded = iter(tokenizer.decode([codes for value in batch for codes in value.ranked()]))
        for value in batch:
            stems = [folder / want / _named(file_stem(value.key), rank) for rank in range(len(value.imputation.tokens))]
            yield [str(tokenizer.write(next(decoded), stem).relative_to(folder)) for stem in stems]


def _write_tables(tokenizer: Any, folder: Path, want: str, imputed: Sequence[Imputed], calibration: Calibration | None) -> list[Path]:
    """Write each layer of a table, and what is known of its categories; gives the files."""
    keys, layers = [value.key for value in imputed], _layers(tokenizer, want, imputed, calibration)
    paths = [tokenizer.write_rows(keys, list(rows), folder / f"{want}{'.' * bool(name)}{name}.csv") for name, rows in layers.items()]
    if tokenizer.one_hot.categorical.any() and not imputed[0].imputation.donors:
        draws, expected = zip(*((value.imputation.tokens, value.imputation.expected) for value in imputed), strict=True)
        means = mean_values(tokenizer, draws, expected)
        paths.append(tokenizer.write_probabilities(keys, means, folder / f"{want}.probabilities.csv"))
    return paths


def _of_best(value: Any) -> Any:
    """What is known of the best draw, where the value is known of each."""
    return value[0] if isinstance(value, list) else value


def _named(stem: str, rank: int) -> str:
    """The best draw has the plain name, the others carry their rank."""
    return f"{stem}.{rank}" if rank else stem
