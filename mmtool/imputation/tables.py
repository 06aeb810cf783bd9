"""Imputed rows of tables: the mean of each missing value, and the bounds it lies between."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from mmtool.common.log import log

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ENOUGH_DRAWS = 10  # for quantiles
NOISE_LEVELS = tuple(NormalDist().inv_cdf((i + 0.5) / 25) for i in range(25))  # stand for the noise that codes do not hold
CHUNK_CELLS = 1 << 25  # numbers held at once (128 MiB)

Draws = Sequence[Sequence[np.ndarray]]  # per imputed row, the codes of each draw
Quantiles = Callable[[Any, Draws, Sequence[float]], np.ndarray]  # of the tokenizer, draws and shares: see `quantile_rows`


def mean_values(tokenizer: Any, draws: Draws, expected: Sequence[np.ndarray | None]) -> np.ndarray:
    """(N, W) expected code values, where they are known, else the mean over draws."""
    pairs = zip(draws, expected, strict=True)
    return np.stack([_mean_values(tokenizer, of_row) if known is None else known for of_row, known in pairs])


def mean_rows(tokenizer: Any, draws: Draws, expected: Sequence[np.ndarray | None]) -> np.ndarray:
    """(N, F) float32: rows of the expected code values; of categories, the most probable ones."""
    return np.asarray(tokenizer.from_code_values(mean_values(tokenizer, draws, expected)), np.float32)


def quantile_rows(tokenizer: Any, draws: Draws, shares: Sequence[float] = QUANTILES) -> np.ndarray:
    """(len(shares), N, F) float32: what each value stays below with these probabilities, NaN where every draw is missing, and for
    categories.

    Draws carry what the model does not know, the tokenizer's residual adds what its codes do not hold. With D draws
    a share below 1 / D rests on the residual alone: 50 draws or more make good bounds.
    """
    bounds, amounts = [], ~tokenizer.one_hot.categorical
    for part in predictive(tokenizer, draws):
        bounds.append(np.full((len(shares), len(part), len(amounts)), np.nan, np.float32))
        bounds[-1][..., amounts] = _quantiles(part[..., amounts], shares)
    return np.concatenate(bounds, axis=1)


def table_layers(
    tokenizer: Any, draws: Draws, expected: Sequence[np.ndarray | None], quantiles: Quantiles = quantile_rows
) -> dict[str, np.ndarray]:
    """(N, F) means under the name "", and with several draws of numbers their quantiles q05 ... q95."""
    layers = {"": mean_rows(tokenizer, draws, expected)}
    if len(draws[0]) > 1 and not tokenizer.one_hot.categorical.all():
        bounds = zip(QUANTILES, quantiles(tokenizer, draws, QUANTILES), strict=True)
        layers |= {f"q{round(100 * share):02d}": rows for share, rows in bounds}
    return layers


def _mean_values(tokenizer: Any, draws: Sequence[np.ndarray]) -> np.ndarray:
    """(W,) mean code values over the draws that have some, NaN where none has."""
    values = tokenizer.code_values().of(np.stack(draws))
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def warn_of_few_draws(want: str, draws: int) -> None:
    """Say where quantiles of so many draws are rough."""
    if draws < ENOUGH_DRAWS:
        log(f"{want}: quantiles of {draws} draws are rough, take {ENOUGH_DRAWS} or more")


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """(len(shares), n, F) of (n, D, F) values, by the estimator that is right in the mean; NaN where all are missing. `nanquantile` takes
    twelve times as long, so it is left to values of which some are."""
    quantile = np.nanquantile if np.isnan(values).any() else np.quantile
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        bounds: np.ndarray = quantile(values, shares, axis=1, method="weibull")
    return bounds


def predictive(tokenizer: Any, draws: Draws) -> Iterator[np.ndarray]:
    """(n, D x noise levels, F) values as they may be, a few rows at a time."""
    residual = np.asarray(tokenizer.residual(), np.float32)
    offsets = np.outer(NOISE_LEVELS, residual).astype(np.float32) if residual.any() else np.zeros((1, len(residual)), np.float32)
    size = max(1, CHUNK_CELLS // (len(draws[0]) * offsets.size))
    for start in range(0, len(draws), size):
        part = draws[start : start + size]
        rows = np.stack(tokenizer.decode([codes for of_row in part for codes in of_row])).reshape(len(part), len(part[0]), 1, -1)
        on_scale = tokenizer.scaled(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape) + offsets
        yield tokenizer.unscaled(on_scale.reshape(-1, rows.shape[-1])).reshape(len(part), -1, rows.shape[-1])
