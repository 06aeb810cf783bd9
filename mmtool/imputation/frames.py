"""Imputed tables as data frames: expected values, bounds, single draws, or rows of donors."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.calibration import Calibration
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.imputer import Imputation, Imputer
from mmtool.imputation.jobs import jobs_of, run_job
from mmtool.imputation.tables import mean_rows, quantile_rows, warn_of_few_draws
from mmtool.preprocessing.frames import Frames, encode_frames, keys_by_frame, labels_of
from mmtool.tokenizers.base import ValueCodes
from mmtool.tokenizers.column_types import NUMBER, ColumnType, Date


@dataclass(frozen=True)
class ImputedTable:
    """Rows (N, F) of one table, for the samples of these keys. name: its modality. given: what each was imputed from."""

    name: str
    tokenizer: Any
    keys: list[str]
    given: list[tuple[str, ...]]
    imputations: list[Imputation]

    def means(self) -> np.ndarray:
        """Expected values; of categories, the most probable ones. Of donors, the row of the best one."""
        if self.imputations and self.imputations[0].donors:
            return self.draw(0)
        return mean_rows(self.tokenizer, self._draws, [imputation.expected for imputation in self.imputations])

    def quantiles(self, shares: Sequence[float], calibration: Calibration | None = None) -> np.ndarray:
        """(len(shares), N, F) what each value stays below with these probabilities, NaN for categories; corrected where a calibration is
        given."""
        if calibration is None:
            return quantile_rows(self.tokenizer, self._draws, shares)
        return calibration.quantile_rows(self.given, self.name, self.tokenizer, self._draws, shares)

    def draw(self, number: int) -> np.ndarray:
        """The rows of one draw, in the order in which they were drawn; of donors, from the most probable one on."""
        return np.stack(self.tokenizer.decode([tokens[number] for tokens in self._draws]))

    @property
    def _draws(self) -> list[list[np.ndarray]]:
        return [imputation.tokens for imputation in self.imputations]


def impute_tables(imputer: Imputer, samples: Sequence[Sample], options: ImputeOptions) -> dict[str, ImputedTable]:
    """What samples lack, or what is wanted by name, as `impute_files` would write it; modalities that nothing could be imputed of are
    left out. Raises UsageError where one is no table."""
    parts: dict[str, list[tuple[tuple[str, ...], list[Sample], list[Imputation]]]] = defaultdict(list)
    for (have, want), members in sorted(jobs_of(imputer, samples, options).items()):
        if not isinstance(imputer.tokenizers[want], ValueCodes):
            raise UsageError(f"{want} is {imputer.tokenizers[want].kind}, no table.", where="want", fix="Want tables, or give samples.")
        parts[want].append((have, members, run_job(imputer, members, have, want, options)))
    return {
        want: ImputedTable(
            want,
            imputer.tokenizers[want],
            [sample.key for _, members, _ in jobs for sample in members],
            [have for have, members, _ in jobs for _ in members],
            [imputation for _, _, imputations in jobs for imputation in imputations],
        )
        for want, jobs in parts.items()
    }


def as_frame(tokenizer: Any, rows: np.ndarray, index: Any) -> Any:
    """(N, F) rows as a data frame: numbers in single precision, dates as such, categories and levels as their names. Raises UsageError
    where pandas is not installed."""
    pandas = import_pandas()
    numbers = pandas.DataFrame(rows, index=index, columns=list(tokenizer.features))
    others = {name: _cells(tokenizer.types[name], numbers[name], pandas) for name in tokenizer.features if name in tokenizer.types}
    return numbers.assign(**others) if others else numbers


def impute_frames(
    imputer: Imputer, frames: Frames, options: ImputeOptions, shares: Sequence[float] = (), calibration: Calibration | None = None
) -> tuple[Any, dict[float, Any]]:
    """The one table that `options` want, of every sample that any frame holds, in the order of the frames: expected values, and for each
    of the shares what values stay below with that probability, corrected where a calibration is given. Rows are NaN where a sample holds
    nothing to impute it from, which is said. With `options.only_missing` of samples alone that do not hold it.

    Raises UsageError for modalities that the run does not know or does not link, DataError for frames that it cannot take.
    """
    if calibration is not None:
        calibration.check(options.params)
        calibration.check_bounds(options.draws, shares)
    (want,), keys = options.want, keys_by_frame(frames)
    if shares and options.draws < 2:
        raise UsageError("quantiles need several draws.", where="draws", fix="Give 10 or more, e.g. draws=30.")
    if shares:
        warn_of_few_draws(want, options.draws)
    samples, labels = encode_frames(frames, imputer.tokenizers, keys), labels_of(frames, keys)
    index, asked = index_of(frames, labels), list(labels)
    if options.only_missing:
        held = {sample.key for sample in samples if want in sample.tokens}
        index, asked = index[[key not in held for key in asked]], [key for key in asked if key not in held]
    table = impute_tables(imputer, samples, options).get(want)
    if len(asked) > (known := len(table.keys) if table else 0):
        log(f"{len(asked) - known:,} of {len(asked):,} samples hold nothing to impute {want} from: their rows are NaN")
    if table is None:
        empty = as_frame(imputer.tokenizers[want], np.zeros((0, len(_features(imputer, want))), np.float32), []).reindex(asked)
        return empty.set_axis(index), {share: empty.set_axis(index) for share in shares}
    rows = [table.means(), *(table.quantiles(shares, calibration) if shares else ())]
    expected, *bounds = [as_frame(table.tokenizer, values, table.keys).reindex(asked).set_axis(index) for values in rows]
    return expected, dict(zip(shares, bounds, strict=True))


def index_of(frames: Frames, labels: Mapping[str, Any]) -> Any:
    """An index of all samples in the order of `labels`: that of the first frame, where the others add none."""
    first = next(iter(frames.values())).index
    return first if len(first) == len(labels) else import_pandas().Index(list(labels.values()), name=first.name)


def import_pandas() -> Any:
    """The library. Raises UsageError where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[pandas]'`."
        raise UsageError("data frames need pandas.", where="mmtool", fix=fix) from error
    return pandas


def shares_of(quantiles: float | Sequence[float]) -> tuple[float, ...]:
    """Probabilities, or the only one. Raises UsageError unless all are between 0 and 1."""
    shares = tuple(quantiles) if isinstance(quantiles, Iterable) and not isinstance(quantiles, str) else (quantiles,)
    check_shares(shares)
    return shares


def check_shares(shares: Sequence[float]) -> None:
    """Raise UsageError unless all are probabilities between 0 and 1."""
    wrong = [share for share in shares if not (isinstance(share, Real) and 0 < share < 1)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is no probability between 0 and 1.", where="quantiles", fix="Give shares such as 0.05 and 0.95.")


def _features(imputer: Imputer, want: str) -> tuple[str, ...]:
    features: tuple[str, ...] = imputer.tokenizers[want].features  # type: ignore[attr-defined]
    return features


def _cells(column: ColumnType, values: Any, pandas: Any) -> Any:
    """Numbers of a typed column as what they say."""
    if isinstance(column, Date):
        return pandas.to_datetime([None if np.isnan(value) else column.write(value) for value in values])
    assert column is not NUMBER
    return pandas.Series([None if np.isnan(value) else column.write(value) for value in values], index=values.index, dtype=object)
