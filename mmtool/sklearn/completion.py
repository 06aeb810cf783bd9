"""Tables whose missing entries are filled, layer by layer, from the best that is known of an entry to what is left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.frames import ImputedTable, as_frame, impute_tables, index_of
from mmtool.imputation.imputer import Imputer
from mmtool.preprocessing.frames import encode_frames, keys_of, labels_of
from mmtool.sklearn.containers import Frames
from mmtool.tokenizers.table import TableTokenizer

Layer = Mapping[str, pd.DataFrame]  # modality -> values by the keys of samples


class Completion:
    """What is missing in the frames of some samples, and what is known of it.

    templates: modality -> a frame without rows that has its columns, as they were in training. options: of the draws. labels: key of each
    sample -> its name in the index.
    """

    def __init__(self, imputer: Imputer, frames: Frames, templates: Frames, options: ImputeOptions) -> None:
        self.labels = labels_of(frames)
        self._imputer, self._options, self._templates = imputer, options, templates
        fitted = {name: _fitted_columns(frame, imputer.tokenizers[name]) for name, frame in frames.items()}
        self._samples = encode_frames(fitted, imputer.tokenizers)
        self._index = index_of(frames, self.labels)
        self._frames = {name: self._by_key(name, frames.get(name)) for name in templates}

    def filled(self, *layers: Callable[[], Layer]) -> Frames:
        """All tables for all samples, each missing entry by the first layer that knows it; entries that are there stay. A layer is made
        where something is still missing."""
        frames = dict(self._frames)
        for layer in layers:
            open_tables = [name for name, frame in frames.items() if frame.isna().to_numpy().any()]
            known = layer() if open_tables else {}
            frames |= {name: _with_values(frames[name], known[name]) for name in open_tables if name in known}
        return {name: frame.set_axis(self._index) for name, frame in frames.items()}

    @cached_property
    def absent(self) -> dict[str, ImputedTable]:
        """Modalities that samples lack, imputed from those that they hold."""
        linked = [[self._linked(sample, name) for name in self._templates if name not in sample.tokens] for sample in self._samples]
        reached = [sample for sample, links in zip(self._samples, linked, strict=True) if any(links)]
        lost = len(self.labels) - sum(map(all, linked))
        if lost:
            log(f"warning: {lost:,} of {len(self.labels):,} samples hold nothing to impute another modality from.")
        return impute_tables(self._imputer, reached, self._options) if reached else {}

    @cached_property
    def incomplete(self) -> dict[str, ImputedTable]:
        """Modalities of which samples lack some values alone, imputed from their other modalities."""
        tables: dict[str, ImputedTable] = {}
        for name in self._templates:
            members = [sample for sample in self._incomplete_samples(name) if self._linked(sample, name)]
            if members:
                tables |= impute_tables(self._imputer, members, replace(self._options, want=(name,)))
        return tables

    def held_out(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, F) numbers of a table in the samples that hold it and can do without it, and what is imputed for them from the rest."""
        members = [sample for sample in self._samples if name in sample.tokens and self._linked(sample, name)]
        numbers = [column for column in self._features(name) if column not in self._imputer.tokenizers[name].types]  # type: ignore[attr-defined]
        if not members or not numbers:
            return np.zeros((0, 0)), np.zeros((0, 0))
        table = impute_tables(self._imputer, members, replace(self._options, want=(name,)))[name]
        imputed = values_of({name: table}, ImputedTable.means)[name]
        return self._frames[name].loc[imputed.index, numbers].to_numpy(np.float64), imputed[numbers].to_numpy(np.float64)

    def donors(self) -> dict[str, pd.DataFrame]:
        """Rows of donors of each modality that samples lack, by (sample, rank, donor)."""
        return {name: _donor_rows(table, self.labels) for name, table in self.absent.items()}

    def from_row(self) -> Layer:
        """Single missing values of a row, where the tokenizer or the run predicts them from the rest of the row."""
        layer = {}
        for name in self._templates:
            members, tokenizer = self._incomplete_samples(name), self._imputer.tokenizers[name]
            if members and getattr(tokenizer, "fills_missing", False):
                tokens = [sample.tokens[name] for sample in members]
            elif members and self._imputer.reconstructs and tokenizer.scheme == TableTokenizer.scheme:
                tokens = self._reconstructed(members, name)
            else:
                continue
            layer[name] = as_frame(tokenizer, np.stack(tokenizer.decode(tokens)), [sample.key for sample in members])
        return layer

    def constant(self, rows: Mapping[str, pd.Series]) -> Layer:
        """The same row for all samples of a table."""
        keys = list(self.labels)
        frames = {name: {column: [value] * len(keys) for column, value in row.items()} for name, row in rows.items()}
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

    def _by_key(self, name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
        """The table for all samples, in the order of its training columns."""
        template = self._templates[name]
        if frame is None:
            return template.reindex(list(self.labels))
        return frame[list(template.columns)].set_axis(keys_of(frame.index, name)).reindex(list(self.labels))


def values_of(tables: Mapping[str, ImputedTable], rows_of: Callable[[ImputedTable], np.ndarray]) -> Layer:
    """A layer of imputed tables, by what is taken of them: `ImputedTable.means`, say."""
    return {name: as_frame(table.tokenizer, rows_of(table), table.keys) for name, table in tables.items()}


def bounds_of(tables: Mapping[str, ImputedTable], shares: Sequence[float]) -> dict[float, Layer]:
    """Share -> a layer of what values stay below with that probability."""
    rows = {name: table.quantiles(shares) for name, table in tables.items()}
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


def fallback_values(frame: pd.DataFrame, types: Mapping[str, Any]) -> pd.Series:
    """Of each column its mean, or of one that holds no numbers or dates its most frequent value; NaN where it has none."""

    def fallback(name: str) -> Any:
        column = frame[name].dropna()
        if pd.api.types.is_datetime64_any_dtype(column):
            return column.mean()
        if name not in types:
            return pd.to_numeric(column, errors="coerce").mean()
        return column.mode().iloc[0] if len(column) else np.nan

    return pd.Series({name: fallback(name) for name in frame.columns}, dtype=object)


def _fitted_columns(frame: pd.DataFrame, tokenizer: Any) -> pd.DataFrame:
    """Without columns that are ids to readers of tables, of which the tokenizer knows nothing."""
    known = {*tokenizer.features, *tokenizer.dropped}
    return frame[[name for name in frame.columns if name in known]]


def _with_values(frame: pd.DataFrame, layer: pd.DataFrame) -> pd.DataFrame:
    """A frame whose missing entries are those of the layer, where it has them."""
    lacking = [name for name in layer.columns if frame[name].isna().any()]
    values = layer[lacking].reindex(frame.index)
    numbers = [name for name in lacking if all(map(pd.api.types.is_numeric_dtype, (frame[name], values[name])))]
    complete = {name: _filled_column(frame[name], values[name]) for name in lacking if name not in set(numbers)}
    if numbers:
        block = frame[numbers]
        single = all(dtype == np.float32 for dtype in block.dtypes)
        known = block.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
        both = np.where(np.isnan(known), values[numbers].to_numpy(known.dtype), known)
        complete |= {name: both[:, place] for place, name in enumerate(numbers)}
    kept = {name: frame[name] for name in frame.columns}
    return pd.DataFrame({**kept, **complete}, index=frame.index, columns=frame.columns)


def _filled_column(column: pd.Series, values: pd.Series) -> pd.Series:
    """A column that holds no numbers: names stand for the values that are written so, True for "True"."""
    observed = column.dropna()
    spelled = {str(value): value for value in [True, False, *observed.unique()]} if not isinstance(column.dtype, pd.StringDtype) else {}
    plain = values if pd.api.types.is_datetime64_any_dtype(values) else values.map(lambda value: spelled.get(value, value))
    both = column.astype(object).where(column.notna(), plain.astype(object))
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = [*column.cat.categories, *(value for value in both.dropna().unique() if value not in set(column.cat.categories))]
        return pd.Series(pd.Categorical(both, categories=categories, ordered=column.cat.ordered), index=column.index)
    return both.infer_objects()
