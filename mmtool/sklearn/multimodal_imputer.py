"""The estimator: `fit` trains a run on several tables, `transform` fills what is missing in such tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import FLOAT_DTYPES, _check_feature_names_in, check_is_fitted, validate_data

from mmtool.common.errors import DataError, UsageError
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.frames import ImputedTable, shares_of
from mmtool.metrics.regression import r2_of
from mmtool.preprocessing.frames import column_names
from mmtool.sklearn.completion import Completion, Layer, bounds_of, values_of, warn_of_empty, warn_of_lone, warn_of_missing
from mmtool.sklearn.containers import Block, Frames, Given, by_modality, in_blocks, is_anndata, is_mudata, joined, labelled
from mmtool.sklearn.errors import in_words_of_the_estimator
from mmtool.sklearn.fitting import RUN, Home, fit_run, quietly
from mmtool.sklearn.known_table import KnownTable, labels_from_json
from mmtool.sklearn.parameters import check_count, check_names
from mmtool.sklearn.persistence import FILE, FORMAT, params_to_json, read_record

HIDDEN_SHARE = 0.1  # of the values of a single table, by which it is scored


class MultimodalImputer(TransformerMixin, BaseEstimator):
    """Imputes tables that samples lack, and single missing values, from the other tables of the same samples.

    `X` is a dict of data frames or AnnData by modality, joined by their index (a sample that a frame does not have, or of which it has no
    value, lacks the modality); a MuData; a dict of arrays with the same rows; or one array, data frame or AnnData, whose columns `blocks`
    deals to modalities. `fit` does what `mmtool tokenize`, `shard` and `pretrain` do, `transform` what `impute` does, with the same
    numbers.

    Filled are: modalities that a sample lacks, by their expected values given all it holds; single values of a row by the rest of the row,
    where the scheme of its table (`codec`) or the method (`masked`) predicts them, else by the other modalities; and what nothing
    predicts, by the mean of the training data. Categories are filled by the most probable ones of the training; columns of the dtype
    `category` hold such, in their order where they have one, unless `column_types` says otherwise. A column without any value in the
    training stays as it is, which is warned of by name.

    Columns keep their labels and dtypes, dates their time zone or their form as text. Means that are no whole numbers make integers
    floats (`Int64` becomes `Float64`).

    method, preset, steps, minutes: of the training, as of `mmtool pretrain`. scheme, bins, scale: of the tables, as of `mmtool tokenize`,
    one for all or {modality: value}. tokenizer_settings: further settings of tokenizers, {"components": 64} or {modality: settings}.
    settings: further settings of the training, e.g. {"batch_tokens": 4096, "shape": {"depth": 2}}. column_types: column -> type, as of
    `--column-type`, where its cells leave it open. blocks: modality -> slice, numbers or names of columns; None: one table.
    validation_fraction: of the samples, by which training is watched. draws: of each modality that is missing. random_state: of all
    that is random; None is another in each fit. work_dir: folder for tables, tokens, shards and run, replaced by the next fit in it
    (None: a temporary one). It is for one estimator: give none where clones are fitted, as in a grid search. verbose: say on standard
    error what the command line does; else warnings alone are shown.

    modalities_: names, in the order of `X`. feature_names_: modality -> columns. method_: the one that was trained. run_: it, as
    `mmtool.load` opens it. seed_, n_features_in_ and feature_names_in_ (of one data frame) as usual.
    """

    def __init__(
        self,
        *,
        method: str = "auto",
        preset: str = "small",
        steps: int | None = None,
        minutes: float | None = None,
        scheme: str | Mapping[str, str] | None = None,
        bins: int | Mapping[str, int] | None = None,
        scale: str | Mapping[str, str] | None = None,
        tokenizer_settings: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        column_types: Mapping[str, str] | None = None,
        blocks: Mapping[str, Block] | None = None,
        validation_fraction: float = 0.1,
        draws: int = 10,
        random_state: Any = 0,
        work_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.method, self.preset, self.steps, self.minutes = method, preset, steps, minutes
        self.scheme, self.bins, self.scale, self.tokenizer_settings = scheme, bins, scale, tokenizer_settings
        self.settings, self.column_types, self.blocks = settings, column_types, blocks
        self.validation_fraction, self.draws, self.random_state = validation_fraction, draws, random_state
        self.work_dir, self.verbose = work_dir, verbose

    _names: list[str]  # of the columns of one table
    _labels: Mapping[str, pd.Index]  # modality -> columns of the data frame of the training

    def fit(self, X: Any, y: Any = None) -> "MultimodalImputer":
        """Train on X. Raises UsageError for settings that do not suit it, DataError for tables that cannot be read or joined."""
        if not 0 <= self.validation_fraction < 1:
            what = f"{self.validation_fraction} is no share of the samples."
            raise UsageError(what, where="validation_fraction", fix="Give one from 0 to below 1, such as 0.1.")
        given = self._given(X, reset=True)
        is_seed = isinstance(self.random_state, int | np.integer)
        self.seed_ = int(self.random_state) if is_seed else int(check_random_state(self.random_state).randint(2**31 - 1))
        by_name = {"scheme": self.scheme, "bins": self.bins, "scale": self.scale}
        check_names(given.frames, by_name, self.column_types or {})
        home = Home(None if self.work_dir is None else Path(self.work_dir))
        training = {"method": self.method, "preset": self.preset, "steps": self.steps, "minutes": self.minutes, **(self.settings or {})}
        with quietly(self.verbose):
            warn_of_empty(given.frames)
            fit_run(
                given.frames,
                home,
                tokenizers={name: self._tokenizer(name, given.frames) for name in given.frames},
                column_types=self.column_types or {},
                validation_fraction=self.validation_fraction,
                seed=self.seed_,
                training={name: value for name, value in training.items() if value is not None},
            )
        self._home, self._labels = home, given.labels
        types = {name: tokenizer.types for name, tokenizer in self.run_.imputer.tokenizers.items()}
        self._describe({name: KnownTable.of(frame, types[name]) for name, frame in given.frames.items()})
        return self

    def transform(self, X: Any) -> Any:
        """X with all modalities of the training and nothing missing, in the form in which it came; what it holds stays as it is. Columns
        of which the training knew nothing are warned of by name, where something is missing in them.

        After `set_output(transform="pandas")` of a dict or MuData: one data frame, with the columns `get_feature_names_out`.
        """
        given, completion = self._completion(X)
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            complete = self._filled(completion, ImputedTable.means, row_first=True)
            warn_of_missing(complete)
        if not self._single and _get_output_config("transform", self)["dense"] != "default":
            return joined(complete, list(self.get_feature_names_out()))
        return given.restore(complete)

    def predict_quantiles(
        self, X: Any, q: float | Sequence[float] = (0.05, 0.5, 0.95), draws: int | None = None, calibrate_on: Any = None
    ) -> dict[float, Any]:
        """What each missing value stays below with the probabilities q: each of them -> X in the form in which it came, with observed
        values as they are. NaN for what nothing predicts, and for categories. draws: instead of the estimator's; 50 are good.

        calibrate_on: further samples, in the form of X, by which bounds are corrected so that they hold as often as they say
        (split conformal prediction, see `mmtool.imputation.conformal`). Those that `fit` learned from are left out, so it may be what was
        given there: its `validation_fraction` remains. A bound of the share 0.05 or 0.95 takes 19 that hold the table that is missing, one
        of 0.025 or 0.975 takes 39; with fewer it stays as drawn, which is warned of. Raises UsageError where no bound is corrected.
        """
        shares = shares_of(q)
        given, completion = self._completion(X, draws=draws)
        held_out = None if calibrate_on is None else self._completion(calibrate_on, draws=draws)[1]
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            tables = completion.absent, completion.incomplete
            imputed = [table for part in tables for table in part.values()]
            calibration = None if held_out is None or not imputed else held_out.calibration(imputed, shares)
            absent, incomplete = (bounds_of(part, shares, calibration) for part in tables)
            layers = {share: map(_ready, (absent[share], incomplete[share])) for share in shares}
            return {share: given.restore(completion.filled(*known)) for share, known in layers.items()}

    def sample(self, X: Any, n: int = 1) -> list[Any]:
        """n completions of X, each of which could be the truth (multiple imputation), in the form in which it came."""
        check_count(n)
        given, completion = self._completion(X, draws=n)
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            return [given.restore(self._filled(completion, _draw(number), row_first=False)) for number in range(n)]

    def donors(self, X: Any, n: int = 1) -> dict[str, pd.DataFrame]:
        """Rows of n training samples for each modality that samples of X lack: real data, the most probable first (hot-deck imputation).

        Modality -> data frame with the index (sample, rank, donor), where donor is the key of the training sample; rows are as its tokens
        decode. Raises UsageError for fewer donors than are asked for.
        """
        check_is_fitted(self)
        check_count(n)
        given, completion = self._completion(X, draws=n, donors=self._home.training_samples)
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            rows = completion.donors()
        return {name: labelled(frame, self._labels[name]) if name in self._labels else frame for name, frame in rows.items()}

    def score(self, X: Any, y: Any = None) -> float:
        """The mean over modalities of `scores`; NaN where nothing can be measured."""
        values = list(self.scores(X).values())
        return float(np.mean(values)) if values else float("nan")

    def scores(self, X: Any) -> dict[str, float]:
        """R2 of each modality, imputed for the samples of X that hold it from their other ones: mean over its columns of numbers.

        Of a single table, of a tenth of its values that are hidden at random.
        """
        given, completion = self._completion(X)
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            if len(self.modalities_) == 1:
                return self._score_of_hidden(given.frames)
            pairs = {name: completion.held_out(name) for name in self.modalities_}
        return {name: _r2(true, imputed) for name, (true, imputed) in pairs.items() if len(true) > 1}

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of all columns: those of one table as they are, else `MODALITY__COLUMN`."""
        check_is_fitted(self)
        if self._single:
            names: np.ndarray = _check_feature_names_in(self, input_features)
            return names
        return np.array([f"{name}__{column}" for name, columns in self.feature_names_.items() for column in columns], dtype=object)

    @property
    def run_(self) -> Any:
        """The trained run, as `mmtool.load` opens it."""
        return self._home.run

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.dict = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "modalities_")

    def save(self, path: str | Path) -> None:
        """Write the fitted imputer to a new folder: `imputer.json`, `run/` (which `mmtool.load` and the command line open) and the training
        samples that may be donors. Labels of columns other than text, numbers and tuples of these are saved as text. Raises UsageError
        where something is there, and for parameters that JSON does not hold."""
        check_is_fitted(self)
        names = self._names if self._single else []
        tables = {name: table.to_json(self._labels.get(name)) for name, table in self._known.items()}
        params = params_to_json(self.get_params(deep=False), names)
        record = {"format": FORMAT, "params": params, "seed": self.seed_, "names": names, "tables": list(tables.items())}
        with OutputPath(Path(path)).directory() as folder:
            Home(folder).put(self._home.files())
            write_sealed(folder / FILE, {**record, "named": hasattr(self, "feature_names_in_")})

    @classmethod
    def load(cls, path: str | Path) -> "MultimodalImputer":
        """What `save` wrote, or a run of the command line on tables, whose training samples and fallback values are not known.

        Raises DataError where there is neither.
        """
        record = read_record(Path(path))
        imputer = cls(**(record or {"params": {}})["params"])
        imputer._home = Home(Path(path), run=RUN if record else "")
        if record is None:
            tables = {name: KnownTable.of_tokenizer(tokenizer) for name, tokenizer in imputer._home.tables().items()}
            record = {"seed": 0, "names": [], "named": False, "tables": []}
        else:
            tables = {name: KnownTable.from_json(table) for name, table in record["tables"]}
        imputer._labels = {name: labels_from_json(table["labels"]) for name, table in record["tables"] if "labels" in table}
        imputer.seed_, imputer._names, imputer._single = record["seed"], record["names"], bool(record["names"])
        if record["named"]:
            imputer.feature_names_in_ = np.array(record["names"], dtype=object)
        imputer._describe(tables)
        return imputer

    def _describe(self, tables: Mapping[str, KnownTable]) -> None:
        """Keep what the tables are like."""
        self._known = dict(tables)
        self.modalities_ = list(tables)
        self.feature_names_ = {name: list(table.template.columns) for name, table in tables.items()}
        self.method_ = self.run_.imputer.method
        self.n_features_in_ = sum(map(len, self.feature_names_.values()))

    def _given(self, X: Any, reset: bool) -> Given:
        """X as frames; sets or checks what scikit-learn keeps of it."""
        several = (isinstance(X, Mapping) and not issparse(X)) or is_mudata(X)  # of which one sort is a dict
        if reset:
            self._single = not several
        elif several == self._single:
            fitted = "one table" if self._single else "tables by modality"
            raise UsageError(f"the imputer was fitted to {fitted}.", where="X", fix="Give the same.")
        if not several:
            return self._given_table(X, reset)
        if self.blocks is not None:
            raise UsageError("tables by modality have no blocks.", where="blocks", fix="Leave it out, or give one table.")
        given = by_modality(X, {} if reset else self._labels)
        for name, frame in given.frames.items() if not reset else ():
            self._check_columns(name, frame)
        return given

    def _given_table(self, X: Any, reset: bool) -> Given:
        """Columns have the names that they had in training, as scikit-learn takes an array for a frame with the same columns."""
        table = X
        if isinstance(X, pd.DataFrame) or is_anndata(X):
            frame = X if isinstance(X, pd.DataFrame) else X.to_df()
            validate_data(self, frame, reset=reset, skip_check_array=True)
            names = column_names(frame)
        else:
            checks = {"dtype": FLOAT_DTYPES, "ensure_all_finite": "allow-nan", "ensure_min_samples": 1 + reset}
            table = validate_data(self, X, reset=reset, **checks)
            names = [f"x{place}" for place in range(table.shape[1])]
        self._names = names if reset else self._names
        return in_blocks(table, self._names, self.blocks)

    def _check_columns(self, name: str, frame: pd.DataFrame) -> None:
        if name not in self.feature_names_:
            fix = f"There are {', '.join(self.modalities_)}."
            raise UsageError(f"the imputer was not fitted to a modality {name!r}.", where="X", fix=fix)
        odd = sorted(set(self.feature_names_[name]) ^ set(frame.columns))
        if odd:
            what = f"{name} has other columns than in training: {', '.join(map(repr, odd[:5]))} {'...' if len(odd) > 5 else ''}".strip()
            raise DataError(f"{what}.", where="X", fix="Give the columns that it was fitted to.")

    def _completion(self, X: Any, **options: Any) -> tuple[Given, Completion]:
        """X, and what is known of what it lacks; options: those of `ImputeOptions` instead of the usual ones."""
        check_is_fitted(self)
        given = self._given(X, reset=False)
        asked = {name: value for name, value in options.items() if value is not None}
        with quietly(self.verbose), in_words_of_the_estimator(given.frames):
            chosen = ImputeOptions(**{"draws": self.draws, "seed": self.seed_, "consistency": "donors" in asked, **asked})
            warn_of_lone(given.frames)
            return given, Completion(self.run_.imputer, given.frames, self._known, chosen)

    def _filled(self, completion: Completion, rows_of: Callable[[ImputedTable], np.ndarray], row_first: bool) -> Frames:
        """Everything filled. row_first: single values by the rest of the row before the other modalities."""
        from_row, from_modalities = completion.from_row, partial(values_of, completion.incomplete, rows_of)
        order: list[Callable[[], Layer]] = [from_row, from_modalities] if row_first else [from_modalities, from_row]
        return completion.filled(lambda: values_of(completion.absent, rows_of), *order, completion.constant)

    def _score_of_hidden(self, frames: Frames) -> dict[str, float]:
        ((name, frame),) = frames.items()
        numbers = frame.select_dtypes("number").columns
        hidden = np.random.default_rng(self.seed_).random((len(frame), len(numbers))) < HIDDEN_SHARE
        true = frame[numbers].to_numpy(np.float64, na_value=np.nan)
        shown = frame.assign(**dict(zip(numbers, np.where(hidden, np.nan, true).T, strict=True)))
        options = ImputeOptions(draws=self.draws, seed=self.seed_, consistency=False)
        completion = Completion(self.run_.imputer, {name: shown}, self._known, options)
        complete = self._filled(completion, ImputedTable.means, row_first=True)[name]
        r2 = _r2(np.where(hidden, true, np.nan), complete[numbers].to_numpy(np.float64))
        return {} if np.isnan(r2) else {name: r2}

    def _tokenizer(self, name: str, frames: Frames) -> dict[str, Any]:
        """The scheme and settings of a modality's tokenizer."""
        simple = {"scheme": self.scheme, "n_bins": self.bins, "scale": self.scale}
        chosen = {key: value.get(name) if isinstance(value, Mapping) else value for key, value in simple.items()}
        further = self.tokenizer_settings or {}
        by_name = bool(further) and set(further) <= set(frames)
        settings = {**chosen, **(further.get(name, {}) if by_name else further)}
        return {key: value for key, value in settings.items() if value is not None}


def _ready(layer: Layer) -> Callable[[], Layer]:
    return lambda: layer


def _draw(number: int) -> Callable[[ImputedTable], np.ndarray]:
    return lambda table: table.draw(number)


def _r2(true: np.ndarray, imputed: np.ndarray) -> float:
    """Mean over columns; NaN where none varies."""
    return float(r2_of(true, imputed)(np.ones((1, len(true))))[0])
