"""One stream of a trajectory (its actions, say) <-> codes 0..size-1: whole numbers as they are, mu-law bins, or quantile bins.

Values are (N, width): N steps of `width` numbers each. mu-law bins are Gato's (arXiv 2205.06175, appendix B).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.base import MAX_BINS
from mmtool.tokenizers.table import bin_means, quantile_edges

Tensors = dict[str, np.ndarray]
ACTIONS, OBSERVATIONS = "actions", "observations"
COUNTED = (OBSERVATIONS, ACTIONS)  # may be whole numbers that only name something; rewards are amounts, and always binned
BYTE, USUAL_BINS, GATO_MAX_VALUE = 256, 1024, 256.0


@dataclass(frozen=True)
class Stream(ABC):
    """name: of the array; shape: of its value in one step, () for a single number; size: how many codes it has."""

    binning: ClassVar[str]
    name: str
    shape: tuple[int, ...]
    size: int

    @property
    def width(self) -> int:
        """Tokens per step."""
        return prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        return {**self._settings(), "binning": self.binning, "name": self.name, "shape": list(self.shape), "size": self.size}

    def _settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> Tensors:
        return {}

    @abstractmethod
    def encode(self, values: np.ndarray) -> np.ndarray:
        """(N, width) finite values -> (N, width) codes, int64."""

    @abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(N, width) codes -> (N, width) values."""

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """(N, width) bool: values beyond the range of the codes, which count as its ends."""
        return np.zeros(values.shape, bool)

    def measure(self, values: np.ndarray) -> dict[str, Any]:
        """How well codes stand for these values. r2: mean over the numbers of a step that vary, None where none does."""
        codes = self.encode(values)
        error = (self.decode(codes) - values.astype(np.float64)) ** 2
        spread = values.var(0, dtype=np.float64)
        r2 = 1 - error.mean(0)[spread > 0] / spread[spread > 0]
        fit = {"r2": round(float(r2.mean()), 5) if len(r2) else None, "r2_worst": round(float(r2.min()), 5) if len(r2) else None}
        clipped = {"mse": float(error.mean()), "clipped_share": round(float(self.beyond(values).mean()), 5)}
        usage = {"codebook_usage": round(len(np.unique(codes)) / self.size, 5)}
        return {"binning": self.binning, "codes": self.size, **fit, **clipped, **usage}


@dataclass(frozen=True)
class WholeNumbers(Stream):
    """0..size-1, each its own code."""

    binning = "whole"

    @classmethod
    def fit(cls, name: str, shape: tuple[int, ...], values: np.ndarray, settings: Mapping[str, Any]) -> "WholeNumbers":
        """As many codes as the largest value needs, or as `num_actions` says. Bytes of observations always have 256."""
        size = int(values.max()) + 1
        if name == OBSERVATIONS and values.dtype == np.uint8:
            size = BYTE
        if name == ACTIONS and settings.get("num_actions"):
            if settings["num_actions"] < size:
                fix = f"Give {size} or more."
                raise UsageError(f"the actions go up to {size - 1}.", where="--set num_actions", fix=fix)
            size = settings["num_actions"]
        return cls(name, shape, size)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Raises DataError for a value that has no code."""
        codes = values.astype(np.int64)
        strange = (codes != values) | (codes < 0) | (codes >= self.size)
        if strange.any():
            known = f"the tokenizer knows the whole numbers 0 to {self.size - 1}."
            fix = "Fit it on data that holds them" + (", or with --set num_actions=N." if self.name == ACTIONS else ".")
            raise DataError(f"the {self.name} hold {values[strange][0]}; {known}", fix=fix)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return codes.astype(np.int64)


@dataclass(frozen=True)
class MuLaw(Stream):
    """sign(x) log(|x| mu + 1) / log(max_value mu + 1), cut to [-1, 1], in `size` bins of equal width; a bin decodes to its middle."""

    binning = "mu-law"
    mu: float
    max_value: float

    @classmethod
    def fit(cls, name: str, shape: tuple[int, ...], values: np.ndarray, settings: Mapping[str, Any]) -> "MuLaw":
        """Gato's mu = 100 and max_value = 256 unless set; max_value is the largest magnitude of the training data where that is more.

        Raises UsageError where the data exceed the max_value that was set.
        """
        largest = float(np.abs(values.astype(np.float64)).max())
        max_value = float(settings.get("max_value", max(GATO_MAX_VALUE, largest)))
        if largest > max_value:
            fix = f"Give --set max_value={ceil(largest)}, leave it out, or use --set binning=quantile."
            raise UsageError(f"the {name} reach {largest:g}, beyond max_value {max_value:g}.", where="--set max_value", fix=fix)
        return cls(name, shape, int(settings.get("n_bins", USUAL_BINS)), float(settings.get("mu", 100.0)), max_value)

    def encode(self, values: np.ndarray) -> np.ndarray:
        squashed = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)) * self.mu) / np.log1p(self.max_value * self.mu)
        return np.clip(np.floor((squashed + 1) / 2 * self.size), 0, self.size - 1).astype(np.int64)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        squashed = (codes + 0.5) / self.size * 2 - 1
        return (np.sign(squashed) * np.expm1(np.abs(squashed) * np.log1p(self.max_value * self.mu)) / self.mu).astype(np.float32)

    def beyond(self, values: np.ndarray) -> np.ndarray:
        return np.abs(values.astype(np.float64)) > self.max_value

    def _settings(self) -> dict[str, Any]:
        return {"mu": self.mu, "max_value": self.max_value}


@dataclass(frozen=True)
class Quantiles(Stream):
    """Bins of equal shares of the training values, each number of a step its own; a bin decodes to its mean.

    Few distinct values (most rewards) have one bin each. edges (width, size - 1), centres (width, size): as in tables. low, high
    (width,): the range of the training values; none in the files of earlier versions.
    """

    binning = "quantile"
    edges: np.ndarray
    centres: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def fit(cls, name: str, shape: tuple[int, ...], values: np.ndarray, settings: Mapping[str, Any]) -> "Quantiles":
        """At most `n_bins` bins, and no more codes than are needed."""
        rows = values.astype(np.float32)
        edges = quantile_edges(rows, int(settings.get("n_bins", USUAL_BINS)))
        size = 1 + int(np.isfinite(edges).sum(1).max())
        edges = edges[:, : size - 1]
        return cls(name, shape, size, edges, bin_means(rows, _place(edges, rows), size), rows.min(0), rows.max(0))

    def encode(self, values: np.ndarray) -> np.ndarray:
        return _place(self.edges, values.astype(np.float32))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self.centres[np.arange(self.width), codes]

    def beyond(self, values: np.ndarray) -> np.ndarray:
        if self.low is None or self.high is None:
            return super().beyond(values)
        rows = values.astype(np.float32)
        return (rows < self.low) | (rows > self.high)

    def tensors(self) -> Tensors:
        tensors = {"edges": self.edges, "centres": self.centres, "low": self.low, "high": self.high}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


BINNINGS: dict[str, type[WholeNumbers] | type[MuLaw] | type[Quantiles]] = {
    "whole": WholeNumbers,
    "mu-law": MuLaw,
    "quantile": Quantiles,
}


def fit_stream(name: str, shape: tuple[int, ...], values: np.ndarray, binning: str, explicit: bool, settings: Mapping[str, Any]) -> Stream:
    """Whole numbers where observations or actions are integers that have a code each, else the `binning`.

    explicit: the binning was asked for. Raises UsageError where it was not, and integers from 0 on (which may be names, say of items)
    have too few codes.
    """
    counted = name in COUNTED and values.dtype.kind in "bui" and values.min() >= 0
    codes = int(settings.get("n_bins", USUAL_BINS))
    if name == ACTIONS:
        codes = max(codes, int(settings.get("num_actions", 0)))
    if counted and values.max() >= codes and not explicit:
        needed = int(values.max()) + 1
        fix = f"Give --n-bins {needed} for a code each" if needed <= MAX_BINS else f"There are {MAX_BINS:,} codes at most; number them anew"
        fix += ", or, where they are amounts, --set binning=mu-law or --set binning=quantile."
        raise UsageError(f"the {name} are whole numbers up to {needed - 1}, with {codes} codes.", where="--n-bins", fix=fix)
    return BINNINGS["whole" if counted and values.max() < codes else binning].fit(name, shape, values, settings)


def stream_from(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Stream:
    """The inverse of `to_json` and `tensors`."""
    given: dict[str, Any] = {name: value for name, value in record.items() if name != "binning"}
    given |= {"shape": tuple(record["shape"]), **tensors}
    return BINNINGS[record["binning"]](**given)


def _place(edges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The bin of each value: that of the first edge that is not below it."""
    return np.stack([np.searchsorted(edge, column) for edge, column in zip(edges, rows.T, strict=True)], axis=1).reshape(rows.shape)
