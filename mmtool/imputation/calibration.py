"""What `evaluate` learned on validation samples of how far a run is to be trusted, kept in its report for `impute`:
REPORT/calibration.safetensors.

One sealed file for all runs of the report: their corrections of bounds (see conformal.py) as tensors, the curves that give probabilities
of being right (see probability.py), and whose they are, by the digest of the weights. How sure draws are depends on how they are drawn,
so both hold for draws like those they were fitted to; corrections for as many of them.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.seal import check_seal, reading, sealed
from mmtool.common.storage import canonical_json, write_bytes
from mmtool.imputation.conformal import Correction
from mmtool.imputation.imputer import Imputation
from mmtool.imputation.probability import ProbabilityCurve
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.imputation.tables import Draws, quantile_rows

FILE, FORMAT, METADATA_KEY = "calibration.safetensors", "mmtool-calibration/2", "mmtool"
WITHOUT_CURVES = "mmtool-calibration/1"  # still read
AGAIN = "Evaluate again."
OPTION = "--calibration"
Key = tuple[tuple[str, ...], str]  # given modalities in the order of their names, and the imputed one
Curves = Mapping[str, ProbabilityCurve]  # by the score that they are of


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one run, by direction: corrections of the bounds of tables, curves of everything else.

    weights: the sha256 of its weights. draws: how many of them gave the bounds. params: how it drew.
    """

    weights: str
    draws: int
    params: SamplingParams
    corrections: Mapping[Key, Correction] = field(default_factory=dict)
    curves: Mapping[Key, Curves] = field(default_factory=dict)

    def check(self, params: SamplingParams) -> None:
        """Raise UsageError for draws that it was not fitted to."""
        if params != self.params:
            what = "the calibration is of draws with other temperature, top-k or guidance."
            raise UsageError(what, where=OPTION, fix="Draw as in the evaluation, or evaluate again.")

    def check_bounds(self, draws: int, shares: Sequence[float]) -> None:
        """Raise UsageError where there are corrections, but not of bounds of so many draws, or for these shares."""
        if self.corrections and draws != self.draws:
            what = f"bounds were corrected for {self.draws} draws, not for {draws}."
            raise UsageError(what, where=OPTION, fix=f"Ask for {self.draws} draws, or evaluate with {draws}.")
        for correction in self.corrections.values():
            if lacking := correction.lacks(shares):
                fix = f"There are {', '.join(f'{share:g}' for share in correction.shares)}."
                raise UsageError(f"bounds of the share {lacking[0]:g} were not corrected.", where="quantiles", fix=fix)

    def curve(self, given: Sequence[str], want: str, imputation: Imputation) -> ProbabilityCurve | None:
        """That of the score by which the draws of this imputation are ranked; None where there is none."""
        score, _ = imputation.score()
        return self.curves.get(key_of(given, want), {}).get(score)

    def samples(self, given: Sequence[str], want: str) -> int:
        """To how many validation samples the correction of a direction was fitted; 0 where there is none."""
        correction = self.corrections.get(key_of(given, want))
        return correction.samples if correction else 0

    def quantile_rows(
        self, given: Sequence[tuple[str, ...]], want: str, tokenizer: Any, draws: Draws, shares: Sequence[float]
    ) -> np.ndarray:
        """(len(shares), N, F) corrected bounds of rows that were imputed from `given` (N). Of a direction without correction they stay as
        drawn, which is said."""
        bounds = np.zeros((len(shares), len(given), len(tokenizer.features)), np.float32)
        for names in dict.fromkeys(given):
            rows = [row for row, held in enumerate(given) if held == names]
            correction, of_rows = self.corrections.get(key_of(names, want)), [draws[row] for row in rows]
            if correction is None:
                log(f"bounds of {want} from {' and '.join(names)} stay as drawn ({len(rows):,} samples): nothing to correct them by")
            quantiles = quantile_rows if correction is None else correction.quantile_rows
            bounds[:, rows] = quantiles(tokenizer, of_rows, shares)
        return bounds


def write_calibrations(folder: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Those of several runs, by their names in the report."""
    tensors, records = dict[str, np.ndarray](), []
    for name, calibration in calibrations.items():
        directions = []
        for (given, want), correction in sorted(calibration.corrections.items()):
            known = {"given": list(given), "want": want, "shares": list(correction.shares), "samples": correction.samples}
            directions.append({**known, "tensor": str(len(tensors))})
            tensors[str(len(tensors))] = correction.offsets.astype(np.float32)
        curves = [
            {"given": list(given), "want": want, "score": score, **asdict(curve)}
            for (given, want), by_score in sorted(calibration.curves.items())
            for score, curve in sorted(by_score.items())
        ]
        drawn = {"draws": calibration.draws, "params": asdict(calibration.params)}
        records.append({"run": name, "weights": calibration.weights, **drawn, "directions": directions, "curves": curves})
    record = sealed(json.loads(canonical_json({"format": FORMAT, "runs": records})), tensors)
    write_bytes(folder / FILE, save(tensors, {METADATA_KEY: canonical_json(record)}))


def read_calibrations(report: Path) -> list[Calibration]:
    """Those of all runs of a report. Raises UsageError where it holds none, DataError where the file is damaged."""
    path = Path(report) / FILE
    if not path.is_file():
        how = "`mmtool evaluate --draws 10` (or more) for bounds of tables, with `--task confidence` for everything else"
        fix = f"Give what {how} wrote, beside whose held-out samples lies a validation split."
        raise UsageError("the report holds no calibration.", where=report, fix=fix)
    with reading(path, AGAIN):
        data = path.read_bytes()
        tensors = load(data)
        record = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][METADATA_KEY])
        known = record["format"]
    if known not in (FORMAT, WITHOUT_CURVES):
        raise DataError(f"the format {known!r} is unknown; this version reads {FORMAT}.", where=path, fix=AGAIN)
    check_seal(record, path, AGAIN, tensors=tensors)
    with reading(path, AGAIN):
        return [_calibration(run, tensors) for run in record["runs"]]


def calibration_of(report: Path, weights: str) -> Calibration:
    """That of the run with these weights. Raises UsageError where the report is on others."""
    found = next((calibration for calibration in read_calibrations(report) if calibration.weights == weights), None)
    if found is None:
        what = "the calibration is of other runs, or the run was trained further since."
        raise UsageError(what, where=report, fix="Evaluate the run with `mmtool evaluate`, and give that report.")
    return found


def _calibration(run: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Calibration:
    corrections = {
        key_of(known["given"], known["want"]): Correction(
            tuple(known["shares"]), tensors[known["tensor"]].astype(np.float64), int(known["samples"])
        )
        for known in run["directions"]
    }
    curves: dict[Key, dict[str, ProbabilityCurve]] = defaultdict(dict)
    for known in run.get("curves", ()):
        curve = ProbabilityCurve(float(known["slope"]), float(known["intercept"]), int(known["samples"]))
        curves[key_of(known["given"], known["want"])][known["score"]] = curve
    return Calibration(run["weights"], int(run["draws"]), SamplingParams(**run["params"]), corrections, dict(curves))


def key_of(given: Sequence[str], want: str) -> Key:
    """A direction, whatever the order in which the given modalities are named."""
    return tuple(sorted(given)), want
