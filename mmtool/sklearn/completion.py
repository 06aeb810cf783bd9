"""Tables whose missing entries are filled, layer by layer, from the best that is known of an entry to what is left."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations, groupby
from typing import Any

import numpy as np
import pandas as pd

from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.calibrate import calibrate
from mmtool.imputation.calibration import Calibration, key_of
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.frames import ImputedTable, as_frame, impute_tables, index_of
from mmtool.imputation.imputer import Imputer
from mmtool.preprocessing.frames import encode_frames, keys_of, labels_of
from mmtool.sklearn.column_forms import filled_column, in_dtype, large_integers
from mmtool.sklearn.containers import Frames
from mmtool.sklearn.known_table import KnownTable
from mmtool.tokenizers.column_types import NUMBER
from mmtool.tokenizers.table import TableTokenizer

SHOWN, SHOWN_KEYS = 5, 3  # columns, and keys of a table, that a warning names
Layer = Mapping[str, pd.DataFrame]  # modality -> values by the keys of samples


class Completion:
    """What is missing in the frames of some samples, and what is known of it.

    known: modality -> what the training knew of it. options: of the draws. labels: key of each sample -> its name in the index.
    """

    def __init__(self, imputer: Imputer, frames: Frames, known: Mapping[str, KnownTable], options: ImputeOptions) -> None:
        self.labels = labels_of(frames)
        self._imputer, self._options, self._known = imputer, options, known
        self._fitted = {name: _fitted_columns(frame, imputer.tokenizers[name]) for name, frame in frames.items()}
        self._samples = encode_frames(self._fitted, imputer.tokenizers)
        self._index = index_of(frames, self.labels)
        templates = {name: table.template for name, table in known.items()}
        self._passed = {name: frames[name][list(template.columns)] if name in frames else template for name, template in templates.items()}
        self._frames = {name: self._by_key(name) for name in known}

    def filled(self, *layers: Callable[[], Layer]) -> Frames:
        """All tables for all samples, each missing entry by the first layer that knows it; entries that are there stay, and columns are of
        the dtypes that they had. A layer is made where something is still missing."""
        frames = dict(self._frames)
        for layer in layers:
            open_tables = [name for name, frame in frames.items() if frame.isna().to_numpy().any()]
            known = layer() if open_tables else {}
            frames |= {name: self._with_values(name, frames[name], known[name]) for name in open_tables if name in known}
        return {name: _as_passed(frame, self._passed[name]).set_axis(self._index) for name, frame in frames.items()}

    @cached_property
    def absent(self) -> dict[str, ImputedTable]:
        """Modalities that samples lack, imputed from those that they hold."""
        linked = [[self._linked(sample, name) for name in self._known if name not in sample.tokens] for sample in self._samples]
        reached = [sample for sample, links in zip(self._samples, linked, strict=True) if any(links)]
        lost = len(self.labels) - sum(map(all, linked))
        if lost:
            log(f"warning: {lost:,} of {len(self.labels):,} samples hold nothing to impute another modality from.")
        return impute_tables(self._imputer, reached, self._options) if reached else {}

    @cached_property
    def incomplete(self) -> dict[str, ImputedTable]:
        """Modalities of which samples lack some values alone, imputed from their other modalities."""
        tables: dict[str, ImputedTable] = {}
        for name in self._known:
            members = [sample for sample in self._incomplete_samples(name) if self._linked(sample, name)]
            if members:
                tables |= impute_tables(self._imputer, members, replace(self._options, want=(name,)))
        return tables

    def calibration(self, tables: Iterable[ImputedTable], shares: Sequence[float]) -> Calibration:
        """Corrections of the bounds of tables that were imputed for other samples, by these samples without those of the training."""
        directions = {key_of(given, table.name) for table in tables for given in table.given}
        return calibrate(self._imputer, self._fitted, directions, self._options, shares)

    def held_out(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, F) numbers of a table in the samples that hold it and can do without it, and what is imputed for them from the rest."""
        members = [sample for sample in self._samples if name in sample.tokens and self._linked(sample, name)]
        numbers = [column for column in self._features(name) if column not in self._imputer.tokenizers[name].types]  # type: ignore[attr-defined]
        if not members or not numbers:
            return np.zeros((0, 0)), np.zeros((0, 0))
        table = impute_tables(self._imputer, members, replace(self._options, want=(name,)))[name]
        imputed = values_of({name: table}, ImputedTable.means)[name]
        return self._frames[name].loc[imputed.index, numbers].to_numpy(np.float64, na_value=np.nan), imputed[numbers].to_numpy(np.float64)

    def donors(self) -> dict[str, pd.DataFrame]:
        """Rows of donors of each modality that samples lack, by (sample, rank, donor)."""
        return {name: _donor_rows(table, self.labels) for name, table in self.absent.items()}

    def from_row(self) -> Layer:
        """Single missing values of a row, where the tokenizer or the run predicts them from the rest of the row."""
        layer = {}
        for name in self._known:
            members, tokenizer = self._incomplete_samples(name), self._imputer.tokenizers[name]
            if members and getattr(tokenizer, "fills_missing", False):
                tokens = [sample.tokens[name] for sample in members]
            elif members and self._imputer.reconstructs and tokenizer.scheme == TableTokenizer.scheme:
                tokens = self._reconstructed(members, name)
            else:
                continue
            layer[name] = as_frame(tokenizer, np.stack(tokenizer.decode(tokens)), [sample.key for sample in members])
        return layer

    def constant(self) -> Layer:
        """The same row for all samples of a table: the values to fall back on."""
        keys = list(self.labels)
        frames = {name: {column: [value] * len(keys) for column, value in table.fallback.items()} for name, table in self._known.items()}
        return {name: pd.DataFrame(columns, index=keys) for name, columns in frames.items()}

    def _reconstructed(self, samples: Sequence[Sample], name: str) -> list[np.ndarray]:
        """The tokens of rows, those of missing values predicted from all others of the sample: each feature has one token."""
        rows: dict[str, np.ndarray] = {}
        missing = self._frames[name][self._features(name)].isna()
        for present, members in groupby(sorted(samples, key=lambda sample: sample.present), key=lambda sample: sample.present):
            group = list(members)
            hidden = [{held: np.zeros(len(tokens), bool) for held, tokens in sample.tokens.items()} for sample in group]
            hidden = [{**masks, name: missing.loc[sample.key].to_numpy()} for masks, sample in zip(hidden, group, strict=True)]
            predicted = self._imputer.reconstruct(group, present, hidden)
            rows |= {sample.key: tokens[name] for sample, tokens in zip(group, predicted, strict=True)}
        return [rows[sample.key] for sample in samples]

    def _incomplete_samples(self, name: str) -> list[Sample]:
        """Samples that hold the modality without some of its values."""
        frame = self._frames[name][self._features(name)]
        partial = set(frame.index[frame.isna().any(axis=1) & frame.notna().any(axis=1)])
        return [sample for sample in self._samples if sample.key in partial and name in sample.tokens]

    def _features(self, name: str) -> list[str]:
        return list(self._imputer.tokenizers[name].features)  # type: ignore[attr-defined]

    def _linked(self, sample: Sample, name: str) -> bool:
        return self._imputer.graph.path(set(sample.tokens) - {name}, name) is not None

    def _by_key(self, name: str) -> pd.DataFrame:
        """The table for all samples, in the order of its training columns. Integers that floats would change become nullable ones."""
        frame, types = self._passed[name], self._imputer.tokenizers[name].types  # type: ignore[attr-defined]
        exact = {*large_integers(frame), *frame.select_dtypes("integer").columns.intersection(list(types))}
        dtypes = {column: frame[column].dtype for column in exact}
        nullable = {
            column: f"{'U' * (dtype.kind == 'u')}Int{8 * dtype.itemsize}" for column, dtype in dtypes.items() if isinstance(dtype, np.dtype)
        }
        return frame.astype(nullable).set_axis(keys_of(frame.index, name)).reindex(list(self.labels))

    def _with_values(self, name: str, frame: pd.DataFrame, layer: pd.DataFrame) -> pd.DataFrame:
        """A frame whose missing entries are those of the layer, where it has them."""
        lacking = [column for column in layer.columns if frame[column].isna().any()]
        values = layer[lacking].reindex(frame.index)
        whole = set(large_integers(frame[lacking]))
        numbers = [column for column in lacking if column not in whole and all(map(_is_number, (frame[column], values[column])))]
        types, known = self._imputer.tokenizers[name].types, self._known[name]  # type: ignore[attr-defined]
        complete = {
            column: filled_column(frame[column], values[column], types.get(column, NUMBER), known.fallback[column], known.values(column))
            for column in lacking
            if column not in set(numbers)
        }
        kept = {column: frame[column] for column in frame.columns}
        filled = {**kept, **complete, **_filled_numbers(frame[numbers], values[numbers])}
        return pd.DataFrame(filled, index=frame.index, columns=frame.columns)


def values_of(tables: Mapping[str, ImputedTable], rows_of: Callable[[ImputedTable], np.ndarray]) -> Layer:
    """A layer of imputed tables, by what is taken of them: `ImputedTable.means`, say."""
    return {name: as_frame(table.tokenizer, rows_of(table), table.keys) for name, table in tables.items()}


def bounds_of(tables: Mapping[str, ImputedTable], shares: Sequence[float], calibration: Calibration | None) -> dict[float, Layer]:
    """Share -> a layer of what values stay below with that probability, corrected where a calibration is given."""
    rows = {name: table.quantiles(shares, calibration) for name, table in tables.items()}
    return {
        share: {name: as_frame(table.tokenizer, rows[name][place], table.keys) for name, table in tables.items()}
        for place, share in enumerate(shares)
    }


def _donor_rows(table: ImputedTable, labels: Mapping[str, Any]) -> pd.DataFrame:
    ranks = range(len(table.imputations[0].tokens))
    rows = np.stack([table.draw(rank) for rank in ranks], axis=1).reshape(-1, len(table.tokenizer.features))
    chosen = [imputation.donors or [] for imputation in table.imputations]
    names = [(labels[key], rank, donors[rank]) for key, donors in zip(table.keys, chosen, strict=True) for rank in ranks]
    return as_frame(table.tokenizer, rows, pd.MultiIndex.from_tuples(names, names=["sample", "rank", "donor"]))


def warn_of_empty(frames: Frames) -> None:
    """Warn of columns without any value in the training, which nothing is filled into."""
    for name, columns in _columns_where(frames, "all").items():
        log(f"warning: {name}: no value in {columns}: transform leaves such columns empty. Leave them out, or fill them before.")


def warn_of_lone(frames: Frames) -> None:
    """Warn of two tables that share no sample: their indices may be written in different ways, such as 7 and 007."""
    keys = {name: keys_of(frame.index, name) for name, frame in frames.items()}
    for (name, here), (other, there) in combinations(keys.items(), 2):
        if here and there and not set(here) & set(there):
            some = [", ".join(map(repr, side[:SHOWN_KEYS])) for side in (here, there)]
            what = f"0 samples of {name} (others: {some[0]} ...) are in {other} ({some[1]} ...)"
            log(f"warning: only {what}. Write both indices alike where these are the same samples.")


def warn_of_missing(complete: Frames) -> None:
    """Warn of columns of which entries are still missing."""
    for name, columns in _columns_where(complete, "any").items():
        log(f"warning: {name}: some entries are still missing in {columns}: the training knew nothing to fill them with.")


def _columns_where(frames: Frames, missing: str) -> dict[str, str]:
    """Modality -> some of the columns of which all, or any, entries are missing."""
    odd = {name: frame.columns[getattr(frame.isna(), missing)().to_numpy(bool)] for name, frame in frames.items()}
    return {
        name: f"{', '.join(map(repr, columns[:SHOWN]))}{' ...' if len(columns) > SHOWN else ''}"
        for name, columns in odd.items()
        if len(columns)
    }


def _fitted_columns(frame: pd.DataFrame, tokenizer: Any) -> pd.DataFrame:
    """Without columns that are ids to readers of tables, of which the tokenizer knows nothing."""
    known = {*tokenizer.features, *tokenizer.dropped}
    return frame[[name for name in frame.columns if name in known]]


def _filled_numbers(frame: pd.DataFrame, values: pd.DataFrame) -> dict[str, np.ndarray]:
    """All columns at once: of single precision where all are."""
    if frame.empty:
        return {}
    single = all(dtype == np.float32 for dtype in frame.dtypes)
    known = frame.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
    both = np.where(np.isnan(known), values.to_numpy(known.dtype, na_value=np.nan), known)
    return {name: both[:, place] for place, name in enumerate(frame.columns)}


def _as_passed(frame: pd.DataFrame, passed: pd.DataFrame) -> pd.DataFrame:
    """Its columns in the dtypes that they had, where what was filled in fits."""
    columns = {name: in_dtype(frame[name], dtype) for name, dtype in passed.dtypes.items()}
    return frame if frame.dtypes.equals(passed.dtypes) else pd.DataFrame(columns, index=frame.index, columns=frame.columns)


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)
